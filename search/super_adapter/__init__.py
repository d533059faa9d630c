"""Elastic adapters: the super-adapter, its file and its base model."""
