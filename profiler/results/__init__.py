"""Results that every command has in common: tables of typed rows, notes, progress, and numbers as text."""
