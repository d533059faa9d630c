"""Inputs of a report: files that other workflows wrote, as typed results."""
