"""Benchmark sessions: groups, openings, rounds, stopping rules, calibration, energy and attribution."""
