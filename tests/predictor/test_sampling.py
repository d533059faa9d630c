import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.predictor.adaptive import next_rows


def information(rows: np.ndarray) -> float:
    design = np.hstack([np.ones((len(rows), 1)), rows])
    return float(np.linalg.slogdet(design.T @ design + 1e-2 * np.eye(design.shape[1]))[1])


def test_what_is_taken_tells_more_than_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((200, 6)) * [1, 1, 1, 0.1, 10, 1e6]
    measured, scale = pool[:8], pool.std(axis=0)
    taken = next_rows(measured, pool[8:], 12)
    assert len(set(taken.tolist())) == 12
    chosen = information(np.vstack([measured, pool[8:][taken]]) / scale)
    drawn = [information(np.vstack([measured, rng.choice(pool[8:], 12, replace=False)]) / scale) for _ in range(50)]
    assert chosen > max(drawn)


def test_what_is_known_is_not_taken_again() -> None:
    pool = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    measured = np.repeat(pool[:1], 20, axis=0)
    assert next_rows(measured, pool, 1)[0] != 0


def test_a_column_that_never_changes_is_no_obstacle() -> None:
    pool = np.column_stack([np.ones(5), np.arange(5.0)])
    assert set(next_rows(pool[[2]], pool, 2).tolist()) == {0, 4}


def test_more_than_there_is() -> None:
    with pytest.raises(InputError, match="only 2 rows"):
        next_rows(np.ones((1, 1)), np.ones((2, 1)), 3)
