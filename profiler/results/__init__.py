"""Common parts of command results: tables of typed rows, notes, progress, and number formatting."""
