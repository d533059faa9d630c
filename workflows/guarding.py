"""Guard of an adapter's overhead: a limit, and an earlier measurement that it must not exceed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from adaptare.core import InputError, ProgramError
from adaptare.core.units import percent
from adaptare.devices import Device
from adaptare.profiler import Measurement, Mode, Phase, Store, Workload, precise_within
from adaptare.profiler.analysis import EQUIVALENCE_BAND, Interval, openings_needed
from adaptare.profiler.measuring import Session
from adaptare.workflows.adapter_files import base_named_in
from adaptare.workflows.comparison import Compared, compare, differing
from adaptare.workflows.grid import cases_of
from adaptare.workflows.target import opened

Judgement = Literal["below", "above", "undecided"]
HALF_WIDTH: Final = 0.005
# A longer session than a day is no advice.
LONGEST_S: Final = 24 * 60 * 60.0
# Facts of a machine that are equal in every session, unless somebody changed the machine or its software.
STABLE: Final = (
    *("system", "python", "packages", "variables", "governor", "clock_source", "large_pages"),
    *("virtualisation", "physical_cores", "logical_processors", "allowed_processors"),
    "processor_quota",
)


@dataclass(frozen=True)
class GuardRequest:
    """One adapter on one device, and the limit of its overhead.

    Args:
        adapter: PEFT folder, or the rank of an adapter on every linear.
        device: A `Device`, or its spelling.
        limit: Largest overhead; 0.05 is 5 %.
        model: Base model; `None` for the one that the adapter names.
        phase: Phase of the call.
        length: Tokens of prefill, or cached positions of decode.
        mode: Application of the adapter.
        seconds: Time limit of the measurement.
        baseline: Store with an earlier measurement; `None` for no comparison.
        band: Differences of the overhead up to this count as the same.
        cache: Folder for converted models; `None` for the user's cache folder.
    """

    adapter: str | Path | int
    device: str | Device
    limit: float
    model: str | None = None
    phase: Phase = "decode"
    length: int = 64
    mode: Mode = "swappable"
    seconds: float = 60.0
    baseline: str | Path | None = None
    band: float = EQUIVALENCE_BAND
    cache: str | Path | None = None


@dataclass(frozen=True)
class GuardResult:
    """Overhead of an adapter, compared with a limit and with an earlier measurement.

    Args:
        adapter: Folder of the adapter, or its rank.
        measurement: The measurement.
        limit: Largest overhead.
        judgement: `below` or `above` if the whole interval of the overhead is; else `undecided`.
        seconds_needed: Estimated time limit with which it would be decided; `None` if it is decided, or if no session
            of less than a day would decide.
        compared: Comparison with the earlier measurement; `None` without one.
        environment: Differences between the two environments.
        band: See `GuardRequest`.
    """

    adapter: str
    measurement: Measurement
    limit: float
    judgement: Judgement
    seconds_needed: float | None = None
    compared: Compared | None = None
    environment: tuple[str, ...] = ()
    band: float = EQUIVALENCE_BAND

    @property
    def regressed(self) -> bool:
        """True if the overhead is certainly larger than that of the earlier measurement, by more than the band."""
        compared = self.compared
        return compared is not None and not compared.too_few_openings and compared.difference.lower > self.band

    @property
    def words(self) -> str:
        """Adapter, workload, device and overhead in one line."""
        row = self.measurement
        workload = f"{self.adapter}, {row.workload.describe()}"
        few = f" over {row.too_few_openings} openings, which are too few for an interval" * bool(row.too_few_openings)
        ends = row.overhead.ends(percent)
        return f"{workload} on {row.device.device}: overhead {percent(row.overhead.middle)} {ends}{few}"


def guard(request: GuardRequest) -> GuardResult:
    """Measures an adapter and its base, interleaved, and compares the 95 % interval of the overhead with the limit.

    The overhead is the paired ratio of adapter and base in the same rounds, over several openings (fresh loads of both
    programs), so that a slower machine alone is no violation. With fewer openings than an interval needs, nothing is
    decided.

    Raises:
        InputError: The request is wrong, or the baseline has no measurement of this workload.
        DeviceError: The device or the base fails.
        ProgramError: The adapter does not run.
    """
    folders = [] if isinstance(request.adapter, int) else [Path(request.adapter)]
    if not folders and request.model is None:
        raise InputError("a rank alone names no base; name the model, or give an adapter's folder", parameter="model")
    if not 0 <= request.limit < math.inf:
        raise InputError(f"the limit must be a share of the base's latency, such as 5%, not {request.limit!r}")
    model = request.model or base_named_in(folders[0])
    target, shape, programs = opened(model, request.device, cache=request.cache)
    ranks = [request.adapter] if isinstance(request.adapter, int) else []
    (case,) = cases_of(shape, folders, ranks=ranks, placements=[])
    workload = case.on(target.workload(shape, request.phase, request.length, mode=request.mode))
    # Before anything is measured: a baseline without this workload is found at once.
    earlier = _earlier(request.baseline, workload, target.device.info().device) if request.baseline else None
    session = Session(target.device, precise_within(HALF_WIDTH, request.seconds, None), programs=programs)
    (measured,) = session.measure([workload], reference=workload.base)
    if measured.failure:
        raise ProgramError(measured.failure)
    judgement = judged(measured.overhead, request.limit, too_few=bool(measured.too_few_openings))
    needed_s = None if judgement != "undecided" else _seconds_needed(measured, request.limit, request.seconds)
    name = str(folders[0]) if folders else f"rank {request.adapter} on all linears"
    result = GuardResult(name, measured, request.limit, judgement, needed_s, band=request.band)
    if earlier is None:
        return result
    (compared,) = compare([earlier], [measured], latencies=False, band=request.band)
    return replace(result, compared=compared, environment=tuple(changes(earlier, measured)))


def judged(overhead: Interval, limit: float, *, too_few: bool = False) -> Judgement:
    """Position of an interval: `below` or `above` the limit as a whole, or `undecided`, also with too few openings."""
    if too_few:
        return "undecided"
    if overhead.upper <= limit:
        return "below"
    return "above" if overhead.lower > limit else "undecided"


def changes(one: Measurement, other: Measurement) -> Iterator[str]:
    """Differences of two measurements in device, runtime, packages, variables and other facts that stay."""
    yield from (f"device: {words}" for words in differing(one.device, other.device))
    before, after = _facts(one.environment.get("before", {})), _facts(other.environment.get("before", {}))
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name, 'not recorded')} and {after.get(name, 'not recorded')}"


def _facts(environment: Mapping[str, Any]) -> dict[str, str]:
    """Stable facts, those of packages and variables by name."""
    facts: dict[str, str] = {}
    for name in STABLE:
        value = environment.get(name)
        inner = value if isinstance(value, Mapping) else {"": value}
        facts |= {f"{name}.{key}".strip("."): str(each) for key, each in inner.items() if each is not None}
    return facts


def _earlier(baseline: str | Path, workload: Workload, device: str) -> Measurement:
    """Latest complete measurement of a workload on a device of this spelling."""
    with_it = [row for row in Store(baseline, create=False).measurements() if row.workload == workload]
    rows = [row for row in with_it if row.complete and row.visits and row.device.device == device]
    if not rows:
        others = ", ".join(dict.fromkeys(row.device.device for row in with_it))
        known = f"only those of {others}" if others else "none of this model, adapter, phase and mode"
        raise InputError(
            f"{baseline} has no measurement of {workload.describe()} on {device}, {known}; keep one there first",
            parameter="baseline",
        )
    return rows[-1]


def _seconds_needed(measured: Measurement, limit: float, seconds: float) -> float | None:
    """Estimated time limit with which the interval would exclude the limit; `None` beyond a day."""
    if measured.too_few_openings:
        return 4 * seconds
    distance = abs(math.log1p(measured.overhead.middle) - math.log1p(limit))
    if not distance or not 0 < measured.ratio.half_width < math.inf:
        return None
    openings = len(set(measured.openings.tolist()))
    took_s = float(measured.environment.get("elapsed_s", seconds))
    if measured.ratio.half_width / distance > math.sqrt(openings * LONGEST_S / max(took_s, 1e-9)):
        return None  # also bounds the search for the number of openings
    needed_s = took_s * openings_needed(measured.ratio.half_width, openings, distance) / openings
    return needed_s if needed_s <= LONGEST_S else None
