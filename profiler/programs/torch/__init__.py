"""PyTorch modules with adapters, and the checkpoints they load."""
