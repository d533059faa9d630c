"""Sessions that `decisions.py` judges predictors by: measured here, kept as small JSON files, and read again.

A file has the base of a session, measured alone for about ten seconds before it (`look`; older files have none), and
for each group of programs that were loaded together the base's seconds in each opening, and the ratio of each adapter
to it: the median of the rounds of each opening. Ranks are by kind of linear: one for all layers, or one for each.
Measurements that are read have one round for each opening.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prediction_cells import MODEL, RANKS, SPACE, Session
from scipy import stats

from adaptare.core.codec import from_json, to_json
from adaptare.devices import DeviceInfo
from adaptare.profiler import (
    Configuration,
    Measurement,
    ModelShape,
    Workload,
    design,
    named_space,
    open_model,
    precise_within,
)
from adaptare.profiler.analysis import LEAST_OPENINGS, Interval
from adaptare.profiler.analysis.intervals import ratio_interval
from adaptare.profiler.measuring import Session as MeasuringSession
from adaptare.profiler.store.calibration import calibrated
from adaptare.profiler.store.measurement import Visit
from adaptare.workflows.target import target_of

DEVICES = {"ort-int4": "ort-cpu:int4,threads=1", "torch-fp32": "torch-cpu:threads=1"}
# Adapters of a design, of which a session measures some. Four openings of them, which are always measured, take about
# two minutes with 4-bit weights, and three and a half in PyTorch.
DESIGNED, ADAPTERS = 32, 24
SECONDS, LOOK_SECONDS = 60.0, 10.0
MACHINE = ("system", "python", "packages", "large_pages", "governor", "virtualisation", "logical_processors")


@dataclass(frozen=True)
class Look:
    """The base at the beginning of a session, and the rows that were measured after it.

    Args:
        base_s: Seconds of the base, with a 95 % interval.
        openings: Fresh loads that the interval is over.
    """

    base_s: Interval
    openings: int
    after: Sequence[Measurement]

    @property
    def error(self) -> float:
        """Standard error of the logarithm."""
        quantile = float(stats.t.ppf(0.975, self.openings - 1))
        return float(np.log(self.base_s.upper / self.base_s.middle)) / quantile

    @property
    def drift(self) -> float:
        """Mean square change of the base from the look to the rows after it, beyond that of one more opening."""
        bases = {row.reference_raw_s for row in self.after}  # rows of one group share theirs
        squares = np.log(np.array(list(bases)) / self.base_s.middle) ** 2
        return float(squares.mean()) - self.error**2 * (self.openings + 1)


@dataclass(frozen=True)
class SessionFile:
    """A session as it was kept.

    Args:
        rows: By adapter.
        boot: Tells one boot of a machine from others.
        loaded: True if more processes than processors wanted to run in its last minute.
    """

    rows: Session
    look: Look | None
    boot: str
    loaded: bool

    @property
    def device(self) -> DeviceInfo:
        """What was measured on."""
        return next(iter(self.rows.values())).device


def collect(folder: Path, name: str) -> Path:
    """Measures a look at the base and a session of adapters on a device of `DEVICES`, into a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    target, shape = target_of(DEVICES[name]), open_model(MODEL).shape
    template = Workload(shape, mode="swappable", phase="decode", **target.weights)
    space = named_space(SPACE, shape, ranks=RANKS)
    designed = design(space, DESIGNED, seed=0)
    some = np.random.default_rng(0).permutation(DESIGNED)[:ADAPTERS]
    adapters = [template.with_configuration(designed[number]) for number in some]
    base, device = adapters[0].base, target.device
    print(f"{name}: the base alone, then {ADAPTERS} adapters", file=sys.stderr, flush=True)
    [look] = MeasuringSession(device, precise_within(0.005, LOOK_SECONDS)).measure([base], reference=base)
    rows = MeasuringSession(device, precise_within(0.005, SECONDS)).measure(adapters, reference=base)
    if failures := [row.failure for row in (look, *rows) if row.failure]:
        raise SystemExit(f"not measured on {device.info().device}: {failures[0]}")
    file = folder / f"{name}-{time.strftime('%Y%m%dT%H%M', time.gmtime())}.json"
    content = written(rows)
    content["look"] = {"base_s": to_json(look.raw_interval), "openings": look.opening_count()}
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    file.write_text(f"{{\n{lines}\n}}\n")
    return file


def written(rows: Sequence[Measurement]) -> dict[str, Any]:
    """JSON of the measurements of a session."""
    first = rows[0]
    before, after = (first.environment.get(when, {}) for when in ("before", "after"))
    return {
        "command": "python benchmarks/decisions.py --collect DIR",
        "taken_at": first.taken_at,
        "device": to_json(first.device),
        "machine": {name: before.get(name) for name in MACHINE} | {"boot": str(before.get("boot"))[:8]},
        "load_average": [before.get("load_average"), after.get("load_average")],
        "base": first.reference.to_json(),
        "mode": first.workload.mode,
        "groups": [
            {
                "base_s": [float(f"{each:.6g}") for each in _by_opening(group[0].reference_visits)],
                "rows": [
                    {
                        "ranks": _written_ranks(row.workload),
                        "ratios": [
                            float(f"{np.median(row.ratios[row.openings == each]):.6g}") for each in _openings(row)
                        ],
                    }
                    for row in group
                ],
            }
            for group in _groups(rows)
        ],
    }


def read(file: Path) -> SessionFile:
    """A file of `collect`."""
    content = json.loads(file.read_text())
    shape, device = open_model(MODEL).shape, from_json(DeviceInfo, content["device"])
    base = Workload.from_json(content["base"], shape)
    template = Workload.from_json({**content["base"], "mode": content["mode"]}, shape)
    rows, first = list[Measurement](), 0
    for group in content["groups"]:
        seconds = group["base_s"]
        for each in group["rows"]:
            ranks = _read_ranks(each["ranks"], shape)
            visits, references = (
                tuple(Visit(number, number, second, (second,)) for number, second in enumerate(some, start=first))
                for some in (np.multiply(seconds, each["ratios"]).tolist(), seconds)
            )
            workload = template.with_configuration(Configuration.of(ranks))
            rows.append(
                Measurement(workload, device, base, 0.0, file.stem, visits, references, taken_at=content["taken_at"])
            )
        first += len(seconds)
    rows, look = calibrated(rows), content["look"]
    session = {row.workload.configuration: row for row in rows}
    machine, (_, (last_minute, *_)) = content["machine"], content["load_average"]
    return SessionFile(
        session,
        look and Look(from_json(Interval, look["base_s"]), look["openings"], rows),
        machine["boot"],
        last_minute > machine["logical_processors"] + 1,  # the measured process is one of them
    )


def first_groups(rows: Sequence[Measurement]) -> Look | None:
    """The base in the first groups of a session, of four openings together, as a look at the later ones, if any."""
    ordered = _groups(rows)
    for number in range(1, len(ordered)):
        visits = [visit for group in ordered[:number] for visit in group[0].reference_visits]
        openings = np.array([visit.opening for visit in visits], dtype=np.int64)
        if len(set(openings.tolist())) >= LEAST_OPENINGS:
            base_s = ratio_interval(np.array([visit.median_s for visit in visits]), openings)
            return Look(base_s, len(set(openings.tolist())), [row for group in ordered[number:] for row in group])
    return None


def _groups(rows: Sequence[Measurement]) -> list[list[Measurement]]:
    """Measurements of programs that were loaded together, in the order of measuring."""
    groups: dict[int, list[Measurement]] = {}
    for row in rows:
        groups.setdefault(int(row.openings.min()), []).append(row)
    return [groups[opening] for opening in sorted(groups)]


def _by_opening(visits: Sequence[Visit]) -> list[float]:
    """Median seconds of each opening."""
    seconds: dict[int, list[float]] = {}
    for visit in visits:
        seconds.setdefault(visit.opening, []).append(visit.median_s)
    return [float(np.median(each)) for each in seconds.values()]


def _openings(row: Measurement) -> list[int]:
    return list(dict.fromkeys(row.openings.tolist()))


def _written_ranks(workload: Workload) -> dict[str, int | list[int]]:
    kinds: dict[str, list[int]] = {}
    for site in workload.shape.sites:
        kinds.setdefault(site.kind, []).append(workload.configuration.by_path.get(site.path, 0))
    return {kind: ranks[0] if len(set(ranks)) == 1 else ranks for kind, ranks in kinds.items() if any(ranks)}


def _read_ranks(kinds: Mapping[str, int | list[int]], shape: ModelShape) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind, ranks in kinds.items():
        paths = [site.path for site in shape.sites if site.kind == kind]
        each = ranks if isinstance(ranks, list) else [ranks] * len(paths)
        found |= {path: rank for path, rank in zip(paths, each, strict=True) if rank}
    return found
