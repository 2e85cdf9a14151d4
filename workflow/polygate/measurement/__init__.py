"""Metrics, their intervals, and the decomposition of failures."""
