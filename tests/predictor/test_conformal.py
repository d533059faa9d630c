import math

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.predictor.intervals import conformal_half_width, rows_needed


@pytest.mark.parametrize(("n", "rank"), [(9, 9), (10, 9.9), (19, 18), (99, 90)])
def test_takes_the_residual_of_the_corrected_rank(n: int, rank: float) -> None:
    residuals = np.random.default_rng(0).permutation(np.arange(1.0, n + 1)) * (-1.0) ** np.arange(n)
    assert conformal_half_width(residuals, level=0.9) == pytest.approx(rank)


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.9, 9), (0.95, 19)])
def test_is_infinite_with_one_row_too_few(level: float, needed: int) -> None:
    assert rows_needed(level) == needed
    assert math.isfinite(conformal_half_width(np.ones(needed), level=level))
    assert conformal_half_width(np.ones(needed - 1), level=level) == math.inf


@pytest.mark.parametrize("n", [9, 39])
def test_holds_a_new_residual_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    drawn = rng.standard_t(3, size=(3000, n + 1))
    held = [abs(row[-1]) <= conformal_half_width(row[:-1], level=0.9) for row in drawn]
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)


def test_refuses_levels_that_are_no_probability() -> None:
    for level in (0.0, 1.0, 90):
        with pytest.raises(InputError, match="level must be between 0 and 1"):
            conformal_half_width(np.ones(20), level=level)
