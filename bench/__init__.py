"""Measurements of cachesvc against its floors and its peers. See bench/README.md."""
