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
from adaptare.profiler import Measurement

Array = NDArray[np.float64]
Rows = Sequence[Measurement]
# Adapters that two sessions share, so that half of them is enough to fit.
LEAST_SHARED = 24


@dataclass(frozen=True)
class Task:
    """Rows of one session to fit, and rows of another session to judge by, of other adapters.

    Args:
        look: The base at the beginning of the judged session, and rows after it; `None` if unknown.
        group: Of the result, which has rows of `kept`, `sessions`, and `others`.
    """

    device: str
    fitted: Rows
    judged: Rows
    session: str
    look: Look | None
    group: str

    @property
    def moved(self) -> float:
        """Relative change of the base from its calibration in the fitted session to the judged one."""
        return base_of(self.judged) / self.fitted[-1].reference_s - 1

    @cached_property
    def predictor(self) -> FittedPredictor:
        """Fitted as it ships."""
        return LatencyPredictor().fit(self.fitted)

    @cached_property
    def shift(self) -> tuple[float, float]:
        """Mean shift of the judged ratios over `Anchored.change`, and its standard error."""
        found = self.predictor.predict_configs([row.workload.configuration for row in self.judged])
        ratios = np.array([row.ratio.middle for row in self.judged])
        errors, change = np.log(ratios * self.predictor.base_value / found.mean), change_of(self.predictor, self.judged)
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
        found.append(Task(cell.name, fitted, judged, cell.name, first_groups(list(cell.second.values())), "kept"))
    return found


def session_tasks(folder: Path, parts: int = 2) -> Iterator[Task]:
    """Tasks of the files `NAME-TIME.json` of a folder: every pair of sessions, and every part of their adapters."""
    read_files = [(*file.stem.rsplit("-", 1), read(file)) for file in sorted(folder.glob("*.json"))]
    for (name, _, one), (other, second, two) in itertools.permutations(read_files, 2):
        shared = sorted(set(one.rows) & set(two.rows), key=str)
        if name != other or one.device != two.device or len(shared) < LEAST_SHARED:
            continue
        group = "sessions" if one.boot == two.boot and not one.loaded and not two.loaded else "others"
        order = np.random.default_rng(0).permutation(len(shared))
        for part in range(parts):
            judged = {shared[index] for index in order[part::parts]}
            ours = [one.rows[shared[index]] for index in order if shared[index] not in judged]
            theirs = [two.rows[shared[index]] for index in order[part::parts]]
            yield Task(name, ours, theirs, f"{name} {second}", two.look, group)


def change_of(predictor: FittedPredictor, rows: Rows) -> Array:
    """See `Anchored.change`."""
    values = predictor.features.values([row.workload.configuration for row in rows])
    return predictor.regressor.change(predictor.features.matrix(values))
