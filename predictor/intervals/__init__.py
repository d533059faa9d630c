"""Prediction intervals: conformal half-widths and the spread between sessions."""
