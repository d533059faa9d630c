"""Spaces that keep to the contract. A new recipe, family or file joins by one line in `SPACES`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adaptare.profiler import ModelShape, Space, named_space, read_space
from adaptare.testing import SpaceSuite

MIXED = """
groups:
- {sites: ["*.q_proj", "*.v_proj"], ranks: [8, 0, 2], tie: all}
- {sites: "*.down_proj", ranks: [1, 4], tie: none}
- {sites: "*.mlp.*", ranks: [0, 16]}
"""
WIDTHS = """
groups:
- {sites: "*.q_proj", ranks: [0, 2, 8]}
- {widths: [32, 64, 96], layers: [1, 0], tie: all}
- {widths: [40, 96]}
"""
FIXED = "groups:\n- {sites: '*', ranks: [4]}\n"


def shape(family: str) -> ModelShape:
    return ModelShape.from_mapping(
        {
            "model_type": family,
            "num_hidden_layers": 3,
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "vocab_size": 64,
            "pad_token_id": 0,
        }
    )


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Path], Space]


def from_yaml(content: str) -> Callable[[Path], Space]:
    def make(folder: Path) -> Space:
        file = folder / "space.yaml"
        file.write_text(content)
        return read_space(file, shape("llama"))

    return make


SPACES = [
    Case("layers of llama", lambda folder: named_space("layers", shape("llama"))),
    Case("blocks of qwen3", lambda folder: named_space("blocks", shape("qwen3"))),
    Case("kinds of phi3, which is fused", lambda folder: named_space("kinds", shape("phi3"))),
    Case("no zero among the ranks", lambda folder: named_space("blocks", shape("qwen2"), ranks=(16, 8))),
    Case("YAML with mixed ties", from_yaml(MIXED)),
    Case("YAML with one choice", from_yaml(FIXED)),
    Case("YAML with ranks and widths", from_yaml(WIDTHS)),
]


@pytest.fixture(scope="module", params=SPACES, ids=lambda case: case.name)
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Space:
    made: Space = request.param.make(tmp_path_factory.mktemp("space"))
    return made


class TestSpace(SpaceSuite):
    """Every space of the list."""
