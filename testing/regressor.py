"""Suite of a regressor: it learns from few rows, and its state makes it again."""

import copy
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import SimulatedDevice
from adaptare.predictor import LatencyPredictor, Regressor, load_predictor, save_predictor
from adaptare.profiler import Configuration, FixedRounds, Workload, design, named_space, profile
from adaptare.testing.shapes import SHAPE

Array = NDArray[np.float64]


def rows(n: int, seed: int) -> tuple[Array, Array]:
    """Calls, bytes and FLOPs, of very different size, and a ratio that is linear in them."""
    X = np.random.default_rng(seed).uniform(0, (50, 1e6, 1e9), size=(n, 3))
    return X, 1 + X @ np.array([4e-3, 1e-7, 1e-10])


class RegressorSuite:
    """Tests of a regressor.

    Fixture to define:
        regressor: An unfitted `Regressor`.
    """

    def test_fit_returns_the_regressor(self, regressor: Regressor) -> None:
        assert regressor.fit(*rows(24, 0)) is regressor

    def test_predicts_one_finite_number_for_each_row(self, regressor: Regressor) -> None:
        regressor.fit(*rows(24, 0))
        for n in (1, 7):
            predicted = regressor.predict(rows(n, 1)[0])
            assert predicted.shape == (n,)
            assert np.isfinite(predicted).all()

    def test_predicts_rows_better_than_their_mean_would(self, regressor: Regressor) -> None:
        (X, y), (unseen, truth) = rows(40, 0), rows(200, 1)
        error = np.abs(regressor.fit(X, y).predict(unseen) - truth).mean()
        assert error < np.abs(y.mean() - truth).mean()

    def test_predicts_each_row_by_itself(self, regressor: Regressor) -> None:
        regressor.fit(*rows(24, 0))
        X = rows(9, 1)[0]
        alone = np.concatenate([regressor.predict(row[None]) for row in X])
        np.testing.assert_allclose(regressor.predict(X), alone, rtol=1e-9)

    def test_the_same_rows_give_the_same_predictions(self, regressor: Regressor) -> None:
        X = rows(9, 1)[0]
        once, again = (copy.deepcopy(regressor).fit(*rows(24, 0)).predict(X) for _ in range(2))
        np.testing.assert_array_equal(once, again)

    def test_a_second_fit_forgets_the_first(self, regressor: Regressor) -> None:
        X = rows(9, 1)[0]
        fresh = copy.deepcopy(regressor).fit(*rows(24, 0)).predict(X)
        np.testing.assert_array_equal(regressor.fit(*rows(30, 2)).fit(*rows(24, 0)).predict(X), fresh)

    def test_does_not_change_its_rows(self, regressor: Regressor) -> None:
        X, y = rows(24, 0)
        regressor.fit(X, y).predict(X)
        for now, before in zip((X, y), rows(24, 0), strict=True):
            np.testing.assert_array_equal(now, before)

    def test_its_state_is_arrays_without_objects(self, regressor: Regressor) -> None:
        state = regressor.fit(*rows(24, 0)).state()
        assert state
        assert not any(np.asarray(each).dtype.hasobject for each in state.values())

    def test_its_state_predicts_to_the_last_bit(self, regressor: Regressor) -> None:
        X, file = rows(9, 1)[0], io.BytesIO()
        np.savez(file, **regressor.fit(*rows(24, 0)).state())  # type: ignore[arg-type]
        file.seek(0)
        with np.load(file, allow_pickle=False) as saved:
            again = type(regressor).from_state(dict(saved))
        np.testing.assert_array_equal(again.predict(X), regressor.predict(X))

    def test_a_predictor_with_it_is_fitted_saved_and_loaded(self, regressor: Regressor, tmp_path: Path) -> None:
        space, base = named_space("kinds", SHAPE), Workload(SHAPE, mode="merged")
        configs = design(space, 24, seed=0)
        device, stop = SimulatedDevice(launch_s=5e-7), FixedRounds(3)
        measured = profile(
            [Workload(SHAPE, each) for each in configs], reference=base, device=device, stop=stop, seed=0
        )
        predictor = LatencyPredictor(regressor=regressor).fit(measured)
        save_predictor(predictor, tmp_path)
        loaded = load_predictor(tmp_path, regressor=type(regressor))
        asked = [*configs, Configuration.uniform(SHAPE, 3)]
        before, after = predictor.predict_configs(asked), loaded.predict_configs(asked)
        np.testing.assert_array_equal(before.upper, after.upper)
        assert np.isfinite(before.upper).all()
        assert set(predictor.error_card.baselines) > {"constant"}
