"""Shape of the small models of suites."""

from typing import Final

from adaptare.profiler import ModelShape

SHAPE: Final = ModelShape.from_mapping(
    {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 48,
        "vocab_size": 72,
        "max_position_embeddings": 128,
    }
)
