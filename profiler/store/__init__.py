"""Measurements, and the database that keeps them."""
