"""Regressors for few rows and physical features."""
