"""What `decisions.py` judges: adapters of one session, predicted from other adapters of another session."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from decision_sessions import Look, first_groups, read
from numpy.typing import NDArray
from prediction_cells import planned_of
from prediction_on_device import sessions_in

from adaptare.predictor import FittedPredictor, LatencyPredictor
from adaptare.profiler import Configuration, Measurement

Array = NDArray[np.float64]
Rows = Sequence[Measurement]
# Adapters that two sessions share, so that half of them is enough to fit.
LEAST_SHARED = 24


@dataclass(frozen=True)
class Fit:
    """Rows of one session, and the predictor that is fitted to them once for all the sessions that judge it."""

    rows: Rows

    @cached_property
    def predictor(self) -> FittedPredictor:
        """Fitted as it ships."""
        return LatencyPredictor().fit(self.rows)


@dataclass(frozen=True)
class Task:
    """A predictor of one session, and rows of another session to judge it by, of other adapters.

    Args:
        pair: Tells two sessions, of which one is judged by the other.
        look: The base at the beginning of the judged session, and rows after it; `None` if unknown.
        group: Of the result, which has rows of `kept`, `sessions`, and `others`.
    """

    device: str
    fit: Fit
    judged: Rows
    session: str
    pair: str
    look: Look | None
    group: str

    @property
    def fitted(self) -> Rows:
        """Rows that the predictor was fitted to."""
        return self.fit.rows

    @property
    def predictor(self) -> FittedPredictor:
        """Of the rows that were fitted."""
        return self.fit.predictor

    @property
    def moved(self) -> float:
        """Relative change of the base from its calibration in the fitted session to the judged one."""
        return base_of(self.judged) / self.fitted[-1].reference_s - 1

    @cached_property
    def errors(self) -> tuple[Array, Array]:
        """Logarithms of the judged ratios over the predicted ones, and `Anchored.change`; each of shape (n,)."""
        found = self.predictor.predict_configs([row.workload.configuration for row in self.judged])
        ratios = np.array([row.ratio.middle for row in self.judged])
        return np.log(ratios * self.predictor.base_value / found.mean), change_of(self.predictor, self.judged)


def shift_of(tasks: Sequence[Task]) -> tuple[float, float]:
    """Mean shift of the ratios of one session, judged by another, over `Anchored.change`, and its standard error."""
    errors, change = (np.concatenate(each) for each in zip(*(task.errors for task in tasks), strict=True))
    return errors.mean() / change.mean(), errors.std(ddof=1) / np.sqrt(len(errors)) / change.mean()


def base_of(rows: Rows) -> float:
    """Seconds of the base in a session."""
    return float(np.median([row.reference_raw_s for row in rows]))


def kept_tasks(folder: Path) -> list[Task]:
    """Tasks of the sessions of `prediction_on_device.py`."""
    found = []
    for cell in sessions_in(folder):
        planned = planned_of(cell.cell, cell.first, cell.second)
        fitted, judged = (
            [session[each.configuration] for each in some]
            for session, some in ((cell.first, planned.training), (cell.second, planned.tested))
        )
        look = first_groups(list(cell.second.values()))
        found.append(Task(cell.name, Fit(fitted), judged, cell.name, cell.name, look, "kept"))
    return found


def session_tasks(folder: Path, parts: int) -> Iterator[Task]:
    """Tasks of the files `NAME-TIME.json` of a folder: every pair of sessions, and every part of their adapters."""
    read_files = [(*file.stem.rsplit("-", 1), read(file)) for file in sorted(folder.glob("*.json"))]
    fits: dict[tuple[str, str, tuple[Configuration, ...]], Fit] = {}
    for (name, first, one), (other, second, two) in itertools.permutations(read_files, 2):
        shared = sorted(set(one.rows) & set(two.rows), key=str)
        if name != other or one.device != two.device or len(shared) < LEAST_SHARED:
            continue
        group = "sessions" if one.boot == two.boot and not one.loaded and not two.loaded else "others"
        order = np.random.default_rng(0).permutation(len(shared))
        for part in range(parts):
            judged = {shared[index] for index in order[part::parts]}
            known = tuple(shared[index] for index in order if shared[index] not in judged)
            fit = fits.setdefault((name, first, known), Fit([one.rows[each] for each in known]))
            theirs = [two.rows[shared[index]] for index in order[part::parts]]
            yield Task(name, fit, theirs, f"{name} {second}", f"{name} {first} {second}", two.look, group)


def change_of(predictor: FittedPredictor, rows: Rows) -> Array:
    """See `Anchored.change`."""
    values = predictor.features.values([row.workload.configuration for row in rows])
    return predictor.regressor.change(predictor.features.matrix(values))
