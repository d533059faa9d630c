"""Several devices side by side: at the same time on different machines, one after the other on the same one."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from adaptare.core import AdaptareError, DeviceError, InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.report import Feedback, Note, Section
from adaptare.core.table import Column, Table
from adaptare.core.units import milliseconds, percent
from adaptare.devices.agent.machine import Machine
from adaptare.workflows.overhead.overhead_report import OverheadReport
from adaptare.workflows.overhead.overhead_rows import Row
from adaptare.workflows.target import target_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Key = tuple[str, int, str, int, str, str]


class Measure(Protocol):
    """Measures one device; sent to other processes, so it has to be a function of a module, or `partial` of one."""

    def __call__(self, *, device: str, feedback: Feedback) -> OverheadReport:
        """Measures the device that is spelled so."""
        ...


@dataclass(frozen=True)
class Lost:
    """A device without a result.

    Args:
        problem: Reason, and what to do.
        exit_code: Exit code of that reason.
    """

    problem: str
    exit_code: ExitCode


@dataclass(frozen=True)
class SideBySide:
    """Result of `side_by_side`.

    Args:
        results: Device as it was spelled -> its report, or the reason that it has none; in the order of the request.
    """

    results: Mapping[str, OverheadReport | Lost]

    @property
    def exit_code(self) -> ExitCode:
        """That of the device that went worst."""
        return max(result.exit_code for result in self.results.values())

    @property
    def reports(self) -> dict[str, OverheadReport]:
        """Letter of a device in the table -> its report."""
        letters = dict(zip(self.results, LETTERS, strict=False))
        return {letters[name]: result for name, result in self.results.items() if isinstance(result, OverheadReport)}

    def sections(self) -> Iterator[Section]:
        """See `Report`: one table, and below it what belongs to one device."""
        reports = self.reports
        rows = {letter: {_key(row): row for row in report.rows} for letter, report in reports.items()}
        keys = list(dict.fromkeys(key for by_key in rows.values() for key in by_key))
        columns: list[Column[Key]] = [
            Column("phase", lambda key: f"{key[0]} {key[1]}"),
            Column("adapter", lambda key: f"{key[2]} r{key[3]}{'' if key[4] == 'lora' else ' ' + key[4]}", folds=True),
            Column("mode", lambda key: key[5]),
        ]
        for letter, by_key in rows.items():
            columns += _columns_of(letter, by_key)
        if keys:
            yield Table("Overhead of adapters, side by side", tuple(columns), keys)
        for letter, (name, result) in zip(LETTERS, self.results.items(), strict=False):
            if isinstance(result, Lost):
                yield Note(f"{letter}: {name}: {result.problem}")
            else:
                yield f"{letter}: {result.title}"
        for letter, report in reports.items():
            for section in report.remarks():
                yield f"{letter}: {section}" if isinstance(section, str) else section
        if any(isinstance(result, Lost) for result in self.results.values()):
            yield Note("what was measured is kept; the same command with --resume measures only what is missing")

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        return {
            "devices": [
                {"spelling": name, "problem": "", **result.to_json()}
                if isinstance(result, OverheadReport)
                else {"spelling": name, "problem": result.problem}
                for name, result in self.results.items()
            ]
        }


def side_by_side(devices: Sequence[str], measure: Measure, *, feedback: Callable[[str], Feedback]) -> SideBySide:
    """Measures several devices; one that is lost leaves the others running.

    Those of this machine come first, one after the other, while nothing else runs. Then every other machine has a
    process of its own, in which its devices follow each other.

    Args:
        devices: Spellings, each once.
        measure: Measures one of them.
        feedback: Callbacks for one of them; a function of a module.

    Raises:
        InputError: A spelling is wrong or comes twice, or an option is not supported there.
    """
    if len(set(devices)) < len(devices):
        raise InputError("each device can be measured once; one came twice")
    if len(devices) > len(LETTERS):
        raise InputError(f"at most {len(LETTERS)} devices are measured side by side, not {len(devices)}")
    for name in devices:
        target_of(name)
    here, results = machine_here(), dict[str, OverheadReport | Lost]()
    machines: dict[str, list[str]] = {}
    for name in devices:
        try:
            machines.setdefault(_machine_of(name) or here, []).append(name)
        except DeviceError as error:
            results[name] = Lost(str(error), error.exit_code)
    results |= _measured(machines.pop(here, []), measure, feedback)
    if machines:
        context = multiprocessing.get_context("spawn")
        with contextlib.ExitStack() as stack:
            # A pool for each machine, as a process that dies breaks its pool.
            pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in machines]
            running = [
                (names, pool.submit(_measured, names, measure, feedback))
                for names, pool in zip(machines.values(), pools, strict=True)
            ]
            for names, future in running:
                try:
                    results |= future.result()
                except BrokenProcessPool:
                    lost = Lost(
                        "the process that measured it was ended, perhaps for lack of memory", ExitCode.WORLD_FAILED
                    )
                    results |= dict.fromkeys(names, lost)
    return SideBySide({name: results[name] for name in devices})


def machine_here() -> str:
    """Identity of this machine since it was started."""
    return str(Machine().environment()["boot"])


def _machine_of(name: str) -> str:
    """Identity of the machine of a device; empty if it does not tell, as if it were this one."""
    with target_of(name).device.open() as worker:
        return str(worker.info.environment.get("boot") or "")


def _measured(
    names: Sequence[str], measure: Measure, feedback: Callable[[str], Feedback]
) -> dict[str, OverheadReport | Lost]:
    """Results of the devices of one machine, one after the other."""
    results: dict[str, OverheadReport | Lost] = {}
    for name in names:
        try:
            results[name] = measure(device=name, feedback=feedback(name))
        except AdaptareError as error:
            results[name] = Lost(str(error), error.exit_code)
    return results


def _key(row: Row) -> Key:
    return row.phase, row.length, row.placement, row.rank, row.kind, row.mode


def _columns_of(letter: str, rows: Mapping[Key, Row]) -> list[Column[Key]]:
    """Latency and overhead on one device."""

    def cell(say: Callable[[Row], str]) -> Callable[[Key], str]:
        return lambda key: say(rows[key]) if key in rows else "-"

    return [
        Column(f"{letter}: ms", cell(lambda row: milliseconds(row.latency_s))),
        Column(f"{letter}: overhead", cell(lambda row: f"{percent(row.overhead)} {row.interval}"), folds=True),
    ]
