"""Measures one group of candidates: starts workers, loads, warms up, runs rounds, and isolates failures."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from adaptare.core import DeviceError, ProgramError, WorkerDiedError
from adaptare.devices import Device, Loaded, Program, Worker, WorkerInfo
from adaptare.devices.agent_device import counts_first_call
from adaptare.devices.contracts import WatchedWorker
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.programs.equality import (
    changes_outputs,
    check_against_merged,
    check_applied,
    needs_merged_reference,
    rounds_activations,
)
from adaptare.profiler.store.measurement import Visit, paired_ratio
from adaptare.profiler.workloads.workload import Workload

# A visit lasts at least this many seconds and this many clock steps, within this many calls.
VISIT_S = 0.02
VISIT_STEPS = 200
MOST_CALLS = 1000
# Candidates that are visited together share the machine state; with too many, the reference is too far away in time
# (benchmarks/visits_together.py).
MOST_TOGETHER = 4
# A first failure of the reference may be incidental; a second one is attributed to the reference.
REFERENCE_DEATHS = 2


class _NewWorkerNeededError(Exception):
    """A new worker is needed; the failure has already been attributed."""


@dataclass(eq=False)
class Candidate:
    """A workload and its results in this group.

    Args:
        workload: The workload to time.
        visits: Visits (one turn of the candidate per round) of completed rounds.
        warmup_s: Seconds of the warm-up calls of each opening (one fresh load of all programs).
        calls: Timed calls per visit.
        loaded: Its program in the current worker.
        first_call_s: Seconds of its very first call.
        checked: True once its outputs have been compared.
        alone: True if it is loaded separately even if others have the same program.
        failure: Reason it no longer runs; empty if it runs.
    """

    workload: Workload
    visits: list[Visit] = field(default_factory=list)
    warmup_s: list[float] = field(default_factory=list)
    calls: int = 1
    loaded: Loaded | None = None
    first_call_s: float = 0.0
    checked: bool = False
    alone: bool = False
    failure: str = ""

    @property
    def feed(self) -> str:
        """Identifier of its inputs in the worker."""
        return self.workload.hash

    @property
    def outputs(self) -> tuple[float, ...]:
        """Outputs of its first call."""
        return self.loaded.outputs.get(self.feed, ()) if self.loaded else ()


class GroupRun:
    """Candidates and their reference, timed together in one worker at a time.

    Args:
        candidates: Candidates to time.
        reference: Candidate that is visited in every round.
        device: Device that starts the workers.
        programs: Program builder of the device's runtime.
        rng: Generator of the visiting order.
        opening: Number of the first opening in the session.
        round_: Number of the first round in the session.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        reference: Candidate,
        *,
        device: Device,
        programs: Programs,
        rng: np.random.Generator,
        opening: int,
        round_: int,
    ) -> None:
        self.candidates = candidates
        self.reference = reference
        self.next_opening = opening
        self.next_round = round_
        self._told: list[WorkerInfo] = []
        self._after: Mapping[str, Any] = {}
        self._device = device
        self._info = device.info()
        self._counts_first_call = counts_first_call(self._info)
        self._programs = programs
        self._rng = rng
        self._deaths = 0
        # Bases whose activations are rounded -> their outputs, and those of their merged references.
        self._rounded: dict[Workload, tuple[Sequence[float], Sequence[float]]] = {}

    def running(self) -> list[Candidate]:
        """Candidates that have not failed."""
        return [candidate for candidate in self.candidates if not candidate.failure]

    def run_opening(self, enough: Callable[[int], bool]) -> int:
        """Reloads all programs and runs rounds until `enough(rounds)`. Returns the number of completed rounds.

        A worker that dies is replaced, which adds an opening; the candidate that was running is marked as failed.

        Raises:
            DeviceError: The reference cannot be loaded or run.
        """
        rounds = 0
        while self.running():
            with self._opened() as worker, contextlib.suppress(_NewWorkerNeededError):
                self._load(worker)
                while self.running():
                    self._round(worker)
                    rounds += 1
                    if not self.running() or enough(rounds):
                        return rounds
        return rounds

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Worker]:
        """A worker whose environment is recorded at its start and at its end."""
        with self._device.open() as worker:
            self._told.append(worker.info)
            yield worker
            with contextlib.suppress(ProgramError):  # a dead worker has no environment to report
                self._after = worker.environment() if isinstance(worker, WatchedWorker) else {}

    def environments(self) -> dict[str, Any]:
        """Facts reported by the workers: first environment (`before`), last one (`after`), and the first `worker`."""
        if not self._told:
            return {}
        first = json.loads(json.dumps(asdict(self._told[0])))  # the same form as read from a store
        return {"before": first.pop("environment"), "after": dict(self._after), "worker": first}

    def widest(self) -> float:
        """Half-width of the widest interval over all running candidates, see `Interval.half_width`."""
        reference = {visit.round: visit for visit in self.reference.visits}
        return max(
            paired_ratio(candidate.visits, [reference[visit.round] for visit in candidate.visits]).half_width
            for candidate in self.running()
        )

    def _load(self, worker: Worker) -> None:
        """Loads all programs, checks outputs, and sets the calls per visit."""
        self.next_opening += 1
        reference = (self._programs.program(self.reference.workload), [self.reference])
        others = _shared([(self._programs.program(candidate.workload), candidate) for candidate in self.running()])
        # The first program loaded often gets the worst place in memory, so the load order is random.
        shuffled = [[reference, *others][index] for index in self._rng.permutation(1 + len(others))]
        # After the reference failed it is loaded first: if memory is short, another program fails instead.
        for program, sharing in [reference, *others] if self._deaths else shuffled:
            self._load_program(program, sharing, worker)
        unchecked = [candidate for candidate in self.running() if not candidate.checked]
        for candidate in unchecked:
            self._check_applied(candidate, worker)
        for program, sharing in _shared(list(self._unequal_references(unchecked))):
            self._check_merged(program, sharing, worker)
        for candidate in unchecked:
            candidate.checked = True

    def _load_program(self, program: Program, candidates: Sequence[Candidate], worker: Worker) -> None:
        try:
            loaded = worker.load(program)
        except ProgramError as error:
            self._blame(candidates, error)
            return
        least_s = max(VISIT_S, VISIT_STEPS * worker.info.timer_step_s)
        for candidate in candidates:
            candidate.loaded = loaded
            candidate.first_call_s = candidate.first_call_s or loaded.first_call_s.get(candidate.feed, 0.0)
            try:
                first = worker.run(loaded.program_id, candidate.feed, loaded.copies + 1)
            except ProgramError as error:
                self._blame([candidate], error)
                continue
            candidate.warmup_s.extend(first)
            # Caches settle by bytes moved, so a stub is called as often as its whole model would be.
            candidate.calls = int(np.clip(np.ceil(least_s / (first[-1] * program.stands_for)), 1, MOST_CALLS))

    def _blame(self, candidates: Sequence[Candidate], error: ProgramError) -> None:
        """Attributes a failure to a candidate.

        Raises:
            DeviceError: The reference failed, and not for the first time.
            _NewWorkerNeededError: The worker is unusable, or the failing candidate is not yet identified.
        """
        if self.reference in candidates:
            self._deaths += 1
            if self._deaths >= REFERENCE_DEATHS:
                raise DeviceError(f"the reference does not run on {self._info.device}: {error}") from error
            raise _NewWorkerNeededError
        if len(candidates) > 1:  # the inputs of one may have broken all that share the program
            for candidate in candidates:
                candidate.alone = True
            raise _NewWorkerNeededError
        candidates[0].failure = str(error)
        if isinstance(error, WorkerDiedError):
            raise _NewWorkerNeededError

    def _check_applied(self, candidate: Candidate, worker: Worker) -> None:
        workload, bare = candidate.workload, candidate.workload.bare
        known = bare == self.reference.workload or workload.configuration.cuts_base
        try:
            if changes_outputs(workload) and known:
                check_applied(workload, candidate.outputs, self._outputs(bare, worker))
        except WorkerDiedError as error:
            self._blame([candidate], error)
        except ProgramError as error:
            candidate.failure = str(error)

    def _unequal_references(self, candidates: Sequence[Candidate]) -> Iterator[tuple[Program, Candidate]]:
        """Merged references to compare with; a program that equals its own needs no comparison."""
        for candidate in candidates:
            if not candidate.failure and needs_merged_reference(candidate.workload):
                merged = self._programs.merged_reference(candidate.workload)
                if merged != self._programs.program(candidate.workload):
                    yield merged, candidate

    def _check_merged(self, program: Program, candidates: Sequence[Candidate], worker: Worker) -> None:
        bases = dict.fromkeys(
            candidate.workload.bare for candidate in candidates if rounds_activations(candidate.workload)
        )
        try:
            references = self._reference_outputs(program, [base for base in bases if base not in self._rounded], worker)
        except ProgramError as error:
            self._blame(candidates, error)
            return
        for candidate in candidates:
            theirs, own = references.get(candidate.feed, ()), self._rounded.get(candidate.workload.bare, ((), ()))
            try:
                check_against_merged(candidate.workload, candidate.outputs, theirs, bases=own)
            except ProgramError as error:
                if candidate.workload.quantisation == "none":
                    candidate.failure = str(error)
                else:
                    self._check_unrounded(candidate, theirs, worker)

    def _check_unrounded(self, candidate: Candidate, expected: Sequence[float], worker: Worker) -> None:
        """Compares again without rounded activations, whose error an adapter on coarse weights may multiply."""
        bare = candidate.workload.bare
        try:
            ours, base = (self._unrounded(workload, worker) for workload in (candidate.workload, bare))
            check_against_merged(candidate.workload, ours, expected, bases=(base, self._rounded[bare][1]))
        except WorkerDiedError as error:
            self._blame([candidate], error)
        except ProgramError as error:
            candidate.failure = str(error)

    def _unrounded(self, workload: Workload, worker: Worker) -> Sequence[float]:
        return _outputs_once(self._programs.unrounded(workload), worker).get(workload.hash, ())

    def _reference_outputs(
        self, program: Program, bases: Sequence[Workload], worker: Worker
    ) -> Mapping[str, Sequence[float]]:
        """Outputs of a merged reference; notes those of bases, which may be feeds of the same program."""
        merged = {base: self._programs.merged_reference(base) for base in bases}
        shared = [reference for reference in merged.values() if replace(reference, feeds=program.feeds) == program]
        feeds = (*program.feeds, *(feed for reference in shared for feed in reference.feeds))
        outputs = dict(_outputs_once(replace(program, feeds=feeds), worker))
        for base, reference in merged.items():
            theirs = outputs if reference in shared else _outputs_once(reference, worker)
            self._rounded[base] = self._outputs(base, worker), theirs.get(base.hash, ())
        return outputs

    def _outputs(self, base: Workload, worker: Worker) -> Sequence[float]:
        """Outputs of a base, which is not necessarily the reference."""
        if base == self.reference.workload:
            return self.reference.outputs
        return _outputs_once(self._programs.program(base), worker).get(base.hash, ())

    def _round(self, worker: Worker) -> None:
        """One visit of each candidate and several of the reference, in random order, kept only if all complete."""
        candidates = self.running()
        stops = [[self.reference]] * reference_visits(len(candidates)) + self._stops(candidates)
        visits: dict[Candidate, list[Visit]] = {}
        for index in self._rng.permutation(len(stops)):
            for candidate, visit in self._visits(stops[index], worker):
                visits.setdefault(candidate, []).append(visit)
        for candidate, own in visits.items():
            candidate.visits.append(sorted(own, key=lambda visit: visit.median_s)[len(own) // 2])
        self.next_round += 1

    def _stops(self, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
        """Groups of consecutive visits, in random order: a few candidates that share a program, if calls are long.

        After other programs ran, one call brings the weights of a shared program back into the caches, for any feed. In
        short calls the evicted inputs matter too, so these candidates are visited one by one; so are cold parts, for
        which no call may find data that the previous one loaded.
        """
        together: dict[str, list[Candidate]] = {}
        for index in self._rng.permutation(len(candidates)):
            candidate = candidates[index]
            loaded = candidate.loaded
            shared = loaded.program_id if loaded and candidate.calls == loaded.copies == 1 else candidate.feed
            together.setdefault(shared, []).append(candidate)
        size = MOST_TOGETHER
        return [group[start : start + size] for group in together.values() for start in range(0, len(group), size)]

    def _visits(self, stop: Sequence[Candidate], worker: Worker) -> list[tuple[Candidate, Visit]]:
        """One visit each, after discarded first calls: one of the first candidate, or of each of its copies."""
        touch_s, visits = None, []
        for candidate in stop:
            program_id, copies = (candidate.loaded.program_id, candidate.loaded.copies) if candidate.loaded else ("", 1)
            touches = copies if touch_s is None and not self._counts_first_call else 0
            try:
                seconds = worker.run(program_id, candidate.feed, touches + candidate.calls)
            except ProgramError as error:
                self._blame([candidate], error)
                continue
            touch_s = seconds[0] if touch_s is None else touch_s
            counted = tuple(seconds[touches:])
            visits.append((candidate, Visit(self.next_opening - 1, self.next_round, touch_s, counted)))
        return visits


def reference_visits(candidates: int) -> int:
    """Number of visits of the reference per round; the one with the median latency is kept.

    An error of the reference affects the ratios of all its candidates, so it deserves more time than each of them: the
    optimum is the square root of their number, for a session of any length. An odd number has a middle visit, whose
    latency is above the expected one as often as below.

    References:
        Dunnett 1955, "A multiple comparison procedure for comparing several treatments with a control".
        Bechhofer 1969, "Optimal allocation of observations when comparing several treatments with a control".
    """
    return 1 + 2 * (math.isqrt(candidates) // 2)


def _outputs_once(program: Program, worker: Worker) -> Mapping[str, Sequence[float]]:
    """Outputs of a program that is not needed any more."""
    loaded = worker.load(program)
    worker.unload(loaded.program_id)
    return loaded.outputs


def _shared(asked: Sequence[tuple[Program, Candidate]]) -> list[tuple[Program, list[Candidate]]]:
    """Programs that differ only in their feeds, joined into one with all the feeds."""
    sharing: dict[tuple[Program, str], list[tuple[Program, Candidate]]] = {}
    for program, candidate in asked:
        key = replace(program, feeds=()), candidate.feed if candidate.alone else ""
        sharing.setdefault(key, []).append((program, candidate))
    return [
        (
            replace(together[0][0], feeds=tuple(feed for program, _ in together for feed in program.feeds)),
            [candidate for _, candidate in together],
        )
        for together in sharing.values()
    ]
