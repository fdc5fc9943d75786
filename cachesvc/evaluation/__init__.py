"""Offline trials on labelled prompts: what a policy would have served, and how often wrongly."""
