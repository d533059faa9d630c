"""PyTorch modules with adapters."""
