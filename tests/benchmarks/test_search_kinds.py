"""Sets of kinds of linears that fill a limit."""

import numpy as np
import pytest
from search_kinds import everywhere, fullest, name, over_trainings

from adaptare.profiler import ModelShape
from adaptare.profiler.workloads.space_file import named_space
from adaptare.search import Limit

SPACE = named_space("blocks", ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}"), ranks=(0, 16))


class Linears:
    """Number of adapted linears."""

    name = "linears"

    def __call__(self, codes: np.ndarray, /) -> np.ndarray:
        return np.asarray((codes > 0).sum(axis=1), dtype=np.float64)


def test_no_further_kind_fits_into_a_set() -> None:
    sets = fullest(SPACE, Limit(Linears(), 12.0))
    assert len(sets) == 7  # of six kinds, in two layers
    assert {len(kinds) for kinds in sets} == {6}
    assert fullest(SPACE, Limit(Linears(), 1.0)) == []


def test_a_set_has_the_largest_rank_in_every_layer() -> None:
    config = everywhere(("v_proj", "down_proj"), SPACE)
    assert config.by_path == {
        f"model.layers.{layer}.{path}": 16 for layer in (0, 1) for path in ("self_attn.v_proj", "mlp.down_proj")
    }
    assert name(("v_proj", "down_proj")) == "v, down"


def test_an_interval_needs_two_trainings() -> None:
    rows = [{"part": part, "test": [0.0, middle, 0.0]} for part, middle in ((0.5, 0.1), (0.5, 0.3), (0.75, 0.9))]
    _, middle, upper = over_trainings(rows, 0.5) or (0.0, 0.0, 0.0)
    assert middle == pytest.approx(0.2)
    assert upper - middle == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert over_trainings(rows, 0.75) is None
