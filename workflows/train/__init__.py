"""Training of super-adapters."""
