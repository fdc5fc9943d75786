"""Owns order, threads and locks; knows the ports only."""
