"""Confidence intervals, warm-up, drift alarms and verdicts."""
