"""Fits of predictors to stored measurements, and their predictions."""
