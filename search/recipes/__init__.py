"""Recipes: descriptions of super-adapters and of their training."""
