"""Campaigns over a space, and reports of what a store holds."""
