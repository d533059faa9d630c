"""Cells of `prediction_on_device.py`: their adapters, and their sessions as they are measured and kept."""

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adaptare.devices import connect
from adaptare.predictor.intervals import rows_needed
from adaptare.profiler import (
    Configuration,
    FixedRounds,
    Measurement,
    Mode,
    ModelShape,
    Phase,
    Quantisation,
    Space,
    Store,
    Workload,
    design,
    named_space,
    open_model,
    read_space,
)
from adaptare.profiler.measuring import session as measuring

LEVEL = 0.9
MODEL, SPACE, RANKS = "smollm2-135m", "kinds", (0, 1, 2, 4, 8, 16, 32)
SESSIONS = ("first", "second")
Session = Mapping[Configuration, Measurement]


@dataclass(frozen=True)
class Cell:
    """Everything that stays the same while the adapters change.

    Args:
        device: As on the command line.
        quantisation: Of the base.
        phase: Prefill of 64 tokens, or decode of one after 64.
        mode: How adapters are applied.
        openings: Of every program.
        rounds: In each opening.
        training: Adapters to learn from.
        tested: Adapters to judge by.
        references: Adapters to learn from that are measured again in the second session.
        apart_s: Seconds from the end of the first session to the second.
        layers: Of the model; default: all.
        space: Recipe, or a YAML file beside this script.
    """

    device: str
    quantisation: Quantisation
    phase: Phase
    mode: Mode
    openings: int
    rounds: int
    training: int = 48
    tested: int = 60
    references: int = 19
    apart_s: int = 600
    layers: int | None = None
    space: str = SPACE


FULL = {
    "ort-int4-decode": Cell("ort-cpu:threads=1", "int4", "decode", "static", 8, 4),
    "ort-fp32-decode": Cell("ort-cpu:threads=1", "none", "decode", "static", 7, 4),
    "ort-fp32-prefill": Cell("ort-cpu:threads=1", "none", "prefill", "swappable", 3, 3),
    "torch-fp32-decode": Cell("torch-cpu:threads=1", "none", "decode", "swappable", 4, 4),
}
QUICK = {
    f"{name}-quick": replace(
        cell, openings=3, rounds=3, training=24, tested=30, references=rows_needed(LEVEL), apart_s=60
    )
    for name, cell in FULL.items()
}
# Ranks and widths of a model of 4 layers, in one predictor.
WIDTHS = {
    f"{runtime}-widths": Cell(
        f"{runtime}-cpu:threads=1",
        "none",
        "decode",
        "swappable",
        openings=5,
        rounds=4,
        training=40,
        tested=40,
        layers=4,
        space="ranks_and_widths.yaml",
    )
    for runtime in ("torch", "ort")
}
CELLS = FULL | QUICK | WIDTHS


@dataclass(frozen=True)
class Plan:
    """The adapters of a cell.

    Args:
        base: Without adapter.
        training: Learned from.
        tested: Judged by; none of them is among the others.
        references: Some of `training`, measured again in the second session.
    """

    base: Workload
    training: tuple[Workload, ...]
    tested: tuple[Workload, ...]
    references: tuple[Workload, ...]

    def session(self, which: str) -> list[Workload]:
        """Workloads in the order in which a session measures them: the references evenly among the tested ones."""
        if which == "first":
            every = [*self.training, *self.tested]
            return [every[index] for index in np.random.default_rng(1).permutation(len(every))]
        places: dict[Workload, float] = {each: index for index, each in enumerate(self.tested)}
        between = np.linspace(-0.5, len(self.tested) - 0.5, len(self.references))
        places |= dict(zip(self.references, between, strict=True))
        return sorted(places, key=places.__getitem__)


def plan(cell: Cell) -> Plan:
    """The same for every session."""
    whole = open_model(MODEL).shape
    shape = whole if cell.layers is None else whole.stub(cell.layers)
    template = Workload(shape, mode=cell.mode, phase=cell.phase, quantisation=cell.quantisation)
    space, rng = space_of(cell, shape), np.random.default_rng(0)
    training = design(space, cell.training, seed=0)
    known = {Configuration(), *training}
    drawn = space.distinct(space.at(space.spread(2 * cell.tested, rng)))
    tested = [each for each in map(space.decode, rng.permutation(drawn)) if each not in known][: cell.tested]
    first, second = (tuple(map(template.with_configuration, some)) for some in (training, tested))
    references = tuple(first[index] for index in rng.choice(cell.training, cell.references, replace=False))
    return Plan(template.base, first, second, references)


def planned_of(cell: Cell, first: Session, second: Session) -> Plan:
    """The plan of recorded sessions; a version since may choose other adapters to learn from."""
    planned = plan(cell)
    tested = {each.configuration for each in planned.tested}
    training, references = (
        tuple(row.workload for adapter, row in session.items() if adapter not in tested) for session in (first, second)
    )
    recorded = set(planned.training) == set(training)
    return planned if recorded else Plan(planned.base, training, planned.tested, references)


def space_of(cell: Cell, shape: ModelShape) -> Space:
    """Adapters of a cell, and widths if its space has some."""
    if cell.space.endswith(".yaml"):
        return read_space(Path(__file__).with_name(cell.space), shape)
    return named_space(cell.space, shape, ranks=RANKS)


def measure(name: str, which: str, folder: Path) -> None:
    """Measures one session of a cell into a store of its own: the only place that knows the profiling engine."""
    cell = CELLS[name]
    planned, store = plan(cell), Store(store_of(name, which, folder))
    seed = SESSIONS.index(which)
    session = measuring.Session(connect(cell.device), FixedRounds(cell.rounds), seed, openings=cell.openings)
    for group in session.groups(planned.session(which), reference=planned.base):
        if failures := [each.failure for each in group if each.failure]:
            raise SystemExit(f"not measured on {cell.device}: {failures[0]}")
        store.append(group)


def store_of(name: str, which: str, folder: Path) -> Path:
    """File of a session."""
    return folder / f"{name}-{which}.sqlite"


def kept(name: str, which: str, folder: Path) -> Session | None:
    """A session that was measured, by adapter; None if some of its adapters are missing.

    Adapters are what both sessions and the plan have in common: other things that a workload records may have been
    added since a session was kept.
    """
    file = store_of(name, which, folder)
    found = {each.workload.configuration: each for each in Store(file).measurements()} if file.exists() else {}
    cell, tested = CELLS[name], {each.configuration for each in plan(CELLS[name]).tested}
    whole = len(tested) + (cell.training if which == "first" else cell.references)
    return found if tested <= set(found) and len(found) >= whole else None


def measured(name: str, folder: Path) -> tuple[Session, Session]:
    """Both sessions of a cell, each measured now in a process of its own unless the folder has it."""
    first = kept(name, "first", folder) or _measured_now(name, "first", folder)
    second = kept(name, "second", folder)
    if second is None or min(_times(second)) <= max(_times(first)):
        ended = store_of(name, "first", folder).stat().st_mtime
        time.sleep(max(0.0, ended + CELLS[name].apart_s - time.time()))
        second = _measured_now(name, "second", folder)
    return first, second


def _measured_now(name: str, which: str, folder: Path) -> Session:
    store_of(name, which, folder).unlink(missing_ok=True)
    print(f"{name}: the {which} session", file=sys.stderr, flush=True)
    script = Path(__file__).with_name("prediction_on_device.py")
    command = [sys.executable, str(script), "--session", name, which, "--out", str(folder)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    found = kept(name, which, folder)
    if found is None:
        raise SystemExit(f"{store_of(name, which, folder)} does not hold the whole session; start again")
    return found


def _times(session: Session) -> list[str]:
    return [each.taken_at for each in session.values()]
