"""PyTorch modules with adapters, and the checkpoints that they load."""
