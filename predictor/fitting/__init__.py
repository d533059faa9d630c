"""Fitting on behalf of a user: choice of rows, measuring until the error is small, reports of fits and predictions."""
