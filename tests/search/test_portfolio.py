from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.profiler import ModelShape, Space, named_space
from adaptare.profiler.workloads import grouped_space
from adaptare.search import Limit
from adaptare.search.algorithms import STAGED, portfolio

SHAPE = ModelShape("llama", 6, 64, 4, 2, 16, 96, 64, "{}")
BLOCKS = named_space("blocks", SHAPE, ranks=(0, 2, 4, 8, 16))
CUT = grouped_space("cut", [{"sites": "*", "ranks": [0, 8]}, {"widths": [48, 64, 96]}], SHAPE)


class Cost:
    """Ranks, sites, and neurons."""

    name = "cost_s"

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = 100.0 + 4 * (codes > 0).sum(axis=1) + codes.sum(axis=1)
        return found


def table(space: Space, seed: int = 0) -> NDArray[np.float64]:
    """Changes by random gains of each step."""
    gains = np.random.default_rng(seed).lognormal(size=(space.n_axes, int(space.n_choices.max())))
    gains[np.arange(gains.shape[1]) >= space.n_choices[:, None]] = np.nan
    found: NDArray[np.float64] = -np.cumsum(gains, axis=1)
    return found


def starts(space: Space, limit: Limit, **options: Any) -> dict[str, NDArray[np.int64]]:
    return portfolio(space, limit, 0 * space.highest, changes=table(space), most=8, seed=0, **options)


def within(space: Space, share: float) -> Limit:
    ends = Cost()(np.stack([space.at(0 * space.highest), space.at(space.highest)]))
    return Limit(Cost(), float(ends[0] + share * (ends[1] - ends[0])))


@pytest.mark.parametrize("space", [BLOCKS, CUT], ids=["ranks", "widths"])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.9])
def test_starts_are_different_and_within_the_limit(space: Space, share: float) -> None:
    limit = within(space, share)
    found = starts(space, limit)
    assert next(iter(found)) == STAGED
    assert 6 <= len(found) <= 8
    points = np.array(list(found.values()))
    assert len(np.unique(points, axis=0)) == len(points)
    assert np.all(limit.cost(space.at(points)) <= limit.bound)


def test_starts_are_of_every_kind() -> None:
    slopes = -np.cumsum(np.ones((BLOCKS.n_axes, 5)), axis=1)
    found = starts(BLOCKS, within(BLOCKS, 0.4), others={"slopes": slopes})
    assert list(found) == [
        STAGED,
        "one-shot Fisher",
        "slopes",
        "one layer in 3 at rank 16",
        "every layer at rank 4",
        "best sites at rank 16",
        "best sites at rank 8",
        "random 1",
    ]
    assert set(found["best sites at rank 8"].tolist()) == {0, 3}


@pytest.mark.parametrize(("share", "layers", "rank"), [(0.15, "one layer in 2", 2), (0.4, "every layer", 4)])
def test_a_lower_rank_is_tried_in_more_layers(share: float, layers: str, rank: int) -> None:
    limit, axes = within(BLOCKS, share), BLOCKS.axes
    point = starts(BLOCKS, limit)[f"{layers} at rank {rank}"]
    kept = [layers == "every layer" or (axis.dimensions[0].layer + 1) % 2 == 0 for axis in axes]
    here, above = (np.where(kept, axes[0].choices.index(each), 0) for each in (rank, 2 * rank))
    assert np.all(point >= here)
    assert limit.cost(BLOCKS.at(here)[None])[0] <= limit.bound < limit.cost(BLOCKS.at(above)[None])[0]


def test_uniform_cuts_are_among_the_starts() -> None:
    found = [name for name in starts(CUT, within(CUT, 0.85)) if name.startswith("uniform")]
    assert found == ["uniform width 64", "uniform width 48"]  # the one with the largest cost first


def test_without_an_estimate_all_others_are_random() -> None:
    found = portfolio(BLOCKS, Limit(Cost(), 1e6), BLOCKS.highest, most=3, seed=0)
    assert list(found) == [STAGED, "random 1", "random 2"]
    assert np.array_equal(found[STAGED], BLOCKS.highest)
