from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.base import clone

from adaptare.predictor import FeatureSet
from adaptare.predictor.fitting.candidates import candidate_interval, candidates, choose_candidate, reason_for
from adaptare.predictor.fitting.cross_validation import cross_validate
from adaptare.predictor.fitting.training_rows import Rows
from adaptare.predictor.intervals import conformal_half_width
from adaptare.profiler import Workload

CANDIDATES = candidates()


def left_out(ratios: np.ndarray, errors: dict[str, float]) -> dict[str, np.ndarray]:
    """Predictions off by so much on average, in a way that differs between rows."""
    shares = np.random.default_rng(0).uniform(0.8, 1.2, len(ratios))
    return {name: ratios + errors.get(name, 0.5) * shares for name in CANDIDATES}


def residuals_of(name: str, X: np.ndarray, ratios: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Log errors of the workloads, each left out."""
    return candidate_interval(clone(CANDIDATES[name]).fit(X, ratios), Rows(X, ratios, groups, np.zeros(len(X))))[0]


def groups_of(workloads: Sequence[object], rounds: Sequence[object] = ()) -> np.ndarray:
    """All in one session, and in the same rounds unless these are given."""
    when = rounds or [0] * len(workloads)
    return np.array([[str(each), str(round_), "0", str(each)] for each, round_ in zip(workloads, when, strict=True)])


def each_alone(ratios: np.ndarray, groups: np.ndarray | None = None) -> Rows:
    """Rows of which only the ratios count; each of an adapter of its own unless told otherwise."""
    return Rows(np.empty((20, 0)), ratios, groups_of(range(20)) if groups is None else groups, np.zeros(20))


def random_rows(n: int, template: Workload) -> np.ndarray:
    features = FeatureSet.of(template, [])
    return features.matrix(np.random.default_rng(0).integers(0, 17, size=(n, len(features.sites))))


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ({"shrunken": 0.02, "sites-affine": 0.01}, "sites-affine"),
        ({"shrunken": 0.02, "constant": 0.01}, "constant"),
        ({"shrunken": 0.01, "FLOPs-affine": 0.01}, "FLOPs-affine"),
        ({"shrunken": 0.01, "sites-affine": 0.011, "FLOPs-affine": 0.02}, "shrunken"),
        ({"shrunken": 0.01, "constant": 0.01}, "shrunken"),
        ({"shrunken": 0.01, "constant": 0.01, "sites-affine": 0.01}, "shrunken"),
        ({"shrunken": 0.01, "curved": 0.01 - 4e-5}, "shrunken"),
        ({"shrunken": 0.01, "curved": 0.01 - 1e-3}, "curved"),
    ],
    ids=[
        "simpler and better",
        "constant and better",
        "simpler and as good",
        "worth its columns",
        "as good, but ranks nothing",
        "two as good",
        "a gain that no table shows",
        "a gain",
    ],
)
def test_the_fit_that_ships(errors: dict[str, float], chosen: str) -> None:
    ratios = np.linspace(1, 2, 20)
    found = left_out(ratios, errors)
    assert choose_candidate(found, each_alone(ratios)) == chosen
    if chosen == "FLOPs-affine":
        reason = reason_for(chosen, found, each_alone(ratios))
        assert reason.startswith("simpler, and as good: its error on held-out adapters is 0.00 ± 0.00 points")


def test_a_line_that_is_as_good_ships_before_a_better_fit_that_is_worse_than_it() -> None:
    ratios = np.linspace(1, 2, 20)
    found = left_out(ratios, {"shrunken": 0.02, "curved": 0.019, "FLOPs-affine": 0.01})
    found["FLOPs-affine"][0] = ratios[0] + 0.15
    assert choose_candidate(found, each_alone(ratios)) == "FLOPs-affine"


def test_a_lucky_flexible_fit_does_not_ship() -> None:
    ratios = np.linspace(1, 2, 20)
    found = left_out(ratios, {"shrunken": 0.01, "curved": 0.01})
    found["curved"][0] = ratios[0]
    assert choose_candidate(found, each_alone(ratios)) == "shrunken"


@pytest.mark.parametrize(("error", "chosen"), [(0.008, "transferred"), (0.01, "shrunken")])
def test_a_transferred_fit_ships_only_if_it_helps(error: float, chosen: str) -> None:
    ratios = np.linspace(1, 2, 20)
    found = left_out(ratios, {"shrunken": 0.01})
    found["transferred"] = left_out(ratios, {"constant": error})["constant"]
    assert choose_candidate(found, each_alone(ratios)) == chosen


def test_a_workload_that_was_measured_twice_is_not_judged_by_its_twin(template: Workload) -> None:
    X = random_rows(12, template)
    ratios = np.ones(12)
    ratios[3] = 9.0
    groups = groups_of(range(12))
    again = Rows(np.vstack([X, X]), np.tile(ratios, 2), np.tile(groups, (2, 1)), np.zeros(24))
    linear = {name: CANDIDATES[name] for name in ("shrunken", "constant", "sites-affine", "FLOPs-affine")}
    twice, _ = cross_validate(linear, again, level=0.9)
    assert twice["constant"][[3, 15]] == pytest.approx([1.0, 1.0])


def test_measuring_one_adapter_often_makes_no_interval_narrower(template: Workload) -> None:
    """Its rows agree with one another, and are off from what is learned of the others all alike."""
    X, rng = random_rows(21, template), np.random.default_rng(1)
    ratios = 1 + 0.03 * rng.standard_normal(21)
    ratios[0] = 1.0
    often = [*range(21), *[0] * 60]
    groups = groups_of(range(21))
    widths = [
        conformal_half_width(residuals_of("constant", X[rows], ratios[rows], groups[rows]), level=0.9)
        for rows in (list(range(21)), often)
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)


def test_repeats_in_sessions_of_their_own_leave_the_session_with_most_adapters_in(template: Workload) -> None:
    X, ratios = random_rows(20, template), 1 + np.random.default_rng(1).random(20)
    ratios[0] = 3.0
    rows = [*range(20), *[0] * 30]
    groups = groups_of(rows, [0] * 20 + list(range(1, 31)))
    groups[20:, 2] = [f"own {row}" for row in range(30)]
    off = residuals_of("constant", X[rows], ratios[rows], groups)
    assert len(off) == 20
    predicted = ratios[[*range(1, 20), 0]] / np.exp(off)  # in the order of the last row of each
    assert predicted[:-1].max() < 2.9, "of all others but the repeated adapter nothing was left"


def test_repeats_do_not_decide_what_ships() -> None:
    """Better on one adapter of ten that was measured often is not better."""
    ratios = np.linspace(1, 2, 20)
    found = left_out(ratios, {"shrunken": 0.01, "sites-affine": 0.012, "FLOPs-affine": 0.5})
    groups = groups_of([*range(10), *[0] * 10])
    found["sites-affine"][10:] = ratios[10:]
    assert choose_candidate(found, each_alone(ratios)) == "sites-affine"
    assert choose_candidate(found, each_alone(ratios, groups)) == "shrunken"


def test_an_interval_allows_for_the_luck_of_other_rounds(template: Workload) -> None:
    """Three groups whose references were off by 3 % to either side, which rows among their own do not show."""
    X, rng = random_rows(36, template), np.random.default_rng(0)
    group = np.arange(36) % 3
    ratios = 1.2 + 0.03 * (group - 1) + 0.001 * rng.standard_normal(36)
    widths = {}
    for name, rounds in (("one", [0] * 36), ("three", group.tolist())):
        residuals = residuals_of("constant", X, ratios, groups_of(range(36), rounds))
        widths[name] = conformal_half_width(residuals, level=0.9)
    assert widths["three"] == pytest.approx(0.045 / 1.2, rel=0.1)
    assert widths["one"] < 0.8 * widths["three"]


def test_rounds_of_most_rows_are_not_left_out(template: Workload) -> None:
    X, ratios = random_rows(20, template), 1 + np.random.default_rng(1).random(20)
    alone, most = (
        residuals_of("shrunken", X, ratios, groups_of(range(20), rounds)) for rounds in ([0] * 20, [0] * 18 + [1] * 2)
    )
    assert most[:18] == pytest.approx(alone[:18])
    assert most[18:] != pytest.approx(alone[18:])
