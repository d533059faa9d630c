"""Fitting workflow: row selection, measuring until the error is small, reports of fits and predictions."""
