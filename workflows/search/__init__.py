"""Search for adapters within a budget, and cuts of existing adapters."""
