import pytest
from transformers import LlamaConfig

from adaptare.profiler import ModelShape


@pytest.fixture(scope="session")
def llama() -> ModelShape:
    """Two small layers with grouped queries."""
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    return ModelShape.from_config(config)
