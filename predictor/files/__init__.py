"""Predictors as JSON files."""
