"""Calibration of a predictor to the present speed of its device."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adaptare.core import DeviceError, InputError
from adaptare.core.progress import Feedback
from adaptare.core.units import milliseconds, percent
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import precise_within, programs_for
from adaptare.profiler.analysis import Interval
from adaptare.profiler.measuring import Session
from adaptare.profiler.store import LATENCY
from adaptare.workflows.profiling.campaign import Watched
from adaptare.workflows.target import named_target

# A narrower interval would not help, because the drift within a session exceeds it.
HALF_WIDTH: Final = 0.01
SECONDS: Final = 10.0


@dataclass(frozen=True)
class Recalibration:
    """Base of a predictor, measured before the predictor was used.

    Args:
        fitted_s: Seconds of the base when the predictor was fitted.
        now_s: Seconds of the base in the present session, with a 95 % interval.
        openings: Fresh loads of the program that the interval is over.
        taken_at: Start of the measurement, ISO 8601 in UTC.
    """

    fitted_s: float
    now_s: Interval
    openings: int
    taken_at: str


def recalibrated(
    fitted: FittedPredictor, file: Path, *, device: str | None = None, cache: Path | None, feedback: Feedback
) -> tuple[FittedPredictor, Recalibration]:
    """Measures the base for about ten seconds, and calibrates the predictor with it; the store is not changed.

    Args:
        fitted: Predictor at the length to measure.
        file: File of the predictor, for messages.
        device: Spelling of the device; `None` for that of the predictor.
        cache: Folder of converted models; `None` for the user's cache folder.

    Raises:
        InputError: The predictor is of another device or quantity, or of a model that was composed from stubs.
        DeviceError: The device cannot be reached, or does not run the base.
    """
    if fitted.quantity != LATENCY or fitted.error_card.composed:
        why = "of a model composed from stubs" if fitted.error_card.composed else f"of {fitted.quantity}"
        raise InputError(
            f"{file} is {why}, and only latencies of whole models are recalibrated; use it as it is, or give a budget "
            "relative to the base",
            parameter="recalibrate",
        )
    reference = fitted.reference
    target = named_target(device, fitted.device, reference)
    info = target.device.info()
    load_predictor(file, device=info)
    with feedback.progress("measuring the base") as update:
        stop = Watched(precise_within(HALF_WIDTH, SECONDS), lambda: False, update)
        session = Session(target.device, stop, programs=programs_for(info, cache=cache))
        [row] = session.measure([reference], reference=reference)
    if row.failure:
        raise DeviceError(f"the base does not run on {info.device}: {row.failure}")
    now = Recalibration(fitted.base_value, row.raw_interval, row.opening_count(), row.taken_at)
    change = percent(now.now_s.middle / now.fitted_s - 1)
    feedback.note(
        f"the base takes {milliseconds(now.now_s.middle)} ms now, {change} compared with the sessions of {file}; "
        "milliseconds are of this session"
    )
    return fitted.recalibrated(now.now_s, now.openings), now
