"""Unstructured pruning of base models: weights set to zero, the same number in every row."""
