"""Metrics and the structured log: one Observer each. Metric names live here only."""
