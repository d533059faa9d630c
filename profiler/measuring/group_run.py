"""The worker loop: starts workers, loads, warms up, visits candidates, and isolates those that fail."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from adaptare.core import DeviceError, InputError, ProgramError, WorkerDiedError
from adaptare.core.codec import to_json
from adaptare.devices import Device, DeviceInfo, ForkingWorker, Program, WatchedWorker, Worker, WorkerInfo
from adaptare.profiler.measuring.output_checks import OutputChecks
from adaptare.profiler.measuring.probe import Probe, Subject, seconds_of
from adaptare.profiler.measuring.probes import TOUCH
from adaptare.profiler.measuring.timed_workload import TimedWorkload, shared
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.store.measurement import LATENCY, Visit, paired_ratio

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
class GroupRun:
    """Candidates and their reference, visited by one probe in one worker at a time.

    A candidate that fails, crashes or hangs is marked with its reason; a dead worker is replaced, and the others go on.
    Openings and rounds are numbered through the session.
    """

    candidates: Sequence[TimedWorkload]
    reference: TimedWorkload
    probe: Probe
    device: Device
    info: DeviceInfo
    programs: Programs
    rng: np.random.Generator
    next_opening: int = 0
    next_round: int = 0
    _told: list[WorkerInfo] = field(default_factory=list)
    _after: Mapping[str, Any] = field(default_factory=dict)
    _deaths: int = 0
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _worker: Worker | None = None

    @cached_property
    def _checks(self) -> OutputChecks:
        return OutputChecks(self.reference, self.programs, self._blame)

    def running(self) -> list[TimedWorkload]:
        """Candidates that have not failed."""
        return [candidate for candidate in self.candidates if not candidate.failure]

    def run_opening(self, enough: Callable[[int], bool]) -> int:
        """Reloads all programs and runs rounds until `enough(rounds)`. Returns the number of completed rounds.

        The worker stays for the next opening; `close` ends it. One that dies is replaced, which adds an opening.
        Raises `DeviceError` if the reference does not load or run.
        """
        rounds = 0

        def run(worker: Worker) -> None:
            nonlocal rounds
            self._load(worker)
            while self.running():
                self._round(worker)
                rounds += 1
                if not self.running() or enough(rounds):
                    return

        self._isolated(run, self._renewed)
        return rounds

    def visit_all(self, interrupted: Callable[[int], bool]) -> bool:
        """Visits the reference and every candidate once in each opening of the probe, in random order.

        The visits end where `interrupted`, called with the number of the opening before each visit, is true. Returns
        True if they were not interrupted.

        Raises:
            DeviceError: The reference cannot be loaded or run.
            InputError: The device does not measure this.
        """
        for opening in range(self.probe.openings):
            everybody = [self.reference, *self.running()]
            pending = [everybody[index] for index in self.rng.permutation(len(everybody))]
            for batch in [[one] for one in pending] if self.probe.alone else [pending]:
                self._isolated(partial(self._visit_pending, batch, opening, interrupted), self._new)
                if batch:
                    return not self.running()
        return True

    def close(self) -> None:
        """Ends the worker."""
        self._open.close()
        self._worker = None

    def _isolated(self, run: Callable[[Worker], None], opened: Callable[[], Worker]) -> None:
        """Runs in a worker to the end, starting again in another worker each time that one is needed."""
        while self.running():
            try:
                worker = opened()
                run(worker)
            except _NewWorkerNeededError:
                self.close()
            else:
                with contextlib.suppress(ProgramError):  # a dead worker has no environment to report
                    self._after = worker.environment() if isinstance(worker, WatchedWorker) else {}
                return

    def _new(self) -> Worker:
        """A new worker, after the end of the present one. Raises `DeviceError` if it is of another device."""
        self.close()
        worker = self._worker = self._open.enter_context(self.device.open())
        if (now := self.device.info()) != self.info:
            raise DeviceError(
                f"a session is of one device, and it changed from {_described(self.info)} to {_described(now)}; "
                "measure again on one of them"
            )
        self._told.append(worker.info)
        return worker

    def _renewed(self) -> Worker:
        """A worker in new memory: a fork of the first process, or a new process where workers do not fork."""
        present = self._worker
        worker = present or self._new()
        return worker if self._forked(worker) or not present else self._new()

    def _forked(self, worker: Worker) -> bool:
        try:
            return isinstance(worker, ForkingWorker) and worker.fork(self._program(self.reference))
        except ProgramError as error:
            self._blame([self.reference], error)
            return False

    def environments(self) -> dict[str, Any]:
        """Facts reported by the workers: first environment (`before`), last one (`after`), and the first `worker`."""
        if not self._told:
            return {}
        first = to_json(self._told[0])
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
        (program, _), *built = list(self._built([self.reference, *self.running()]))
        reference, others = (program, [self.reference]), shared(built)
        # The first program loaded often gets the worst place in memory, so the load order is random.
        shuffled = [[reference, *others][index] for index in self.rng.permutation(1 + len(others))]
        # After the reference failed it is loaded first: if memory is short, another program fails instead.
        for program, sharing in [reference, *others] if self._deaths else shuffled:
            self._load_program(program, sharing, worker)
        self._checks.check([candidate for candidate in self.running() if not candidate.checked], worker)

    def _built(self, candidates: Sequence[TimedWorkload]) -> Iterator[tuple[Program, TimedWorkload]]:
        """Programs of those candidates of which one can be built; see `_blame` for the others and the reference."""
        for candidate in candidates:
            try:
                program = self._program(candidate)
            except ProgramError as error:
                self._blame([candidate], error)
            else:
                yield program, candidate

    def _program(self, candidate: TimedWorkload) -> Program:
        """Builds the program of a candidate, which its visits then find there without delay."""
        candidate.program = self.programs.program(candidate.workload)
        return candidate.program

    def _load_program(self, program: Program, candidates: Sequence[TimedWorkload], worker: Worker) -> None:
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
                first = seconds_of(worker, loaded.program_id, candidate.feed, loaded.copies + 1)
            except ProgramError as error:
                self._blame([candidate], error)
                continue
            candidate.warmup_s.extend(first)
            # Caches settle by bytes moved, so a stub is called as often as its whole model would be.
            candidate.calls = int(np.clip(np.ceil(least_s / (first[-1] * program.stands_for)), 1, MOST_CALLS))

    def _blame(self, candidates: Sequence[TimedWorkload], error: ProgramError) -> None:
        """Attributes a failure to a candidate.

        Raises `DeviceError` if the reference failed for the second time, and `_NewWorkerNeededError` if the worker is
        unusable, or the failing candidate not yet identified.
        """
        if self.reference in candidates:
            self._deaths += 1
            if self._deaths >= REFERENCE_DEATHS:
                raise DeviceError(f"the reference does not run on {self.info.device}: {error}") from error
            raise _NewWorkerNeededError
        if len(candidates) > 1:  # the inputs of one may have broken all that share the program
            for index, candidate in enumerate(candidates):  # halves, of which each loads the program for itself
                candidate.part += "ab"[2 * index >= len(candidates)]
            raise _NewWorkerNeededError
        candidates[0].failure = str(error)
        if isinstance(error, WorkerDiedError):
            raise _NewWorkerNeededError

    def _round(self, worker: Worker) -> None:
        """One visit of each candidate and several of the reference, in random order, kept only if all complete."""
        candidates = self.running()
        stops = [[self.reference]] * reference_visits(len(candidates)) + self._stops(candidates)
        visits: dict[TimedWorkload, list[Visit]] = {}
        for index in self.rng.permutation(len(stops)):
            for candidate, visit in self._visits(stops[index], worker):
                visits.setdefault(candidate, []).append(visit)
        for candidate, own in visits.items():
            candidate.visits.append(sorted(own, key=lambda visit: visit.median_s)[len(own) // 2])
            candidate.first_visits.extend(own[:1] if len(own) > 1 else [])
        self.next_round += 1

    def _stops(self, candidates: Sequence[TimedWorkload]) -> list[list[TimedWorkload]]:
        """Groups of consecutive visits, in random order: a few candidates that share a program, if calls are long.

        After other programs ran, one call brings the weights of a shared program back into the caches, for any feed. In
        short calls the evicted inputs matter too, so these candidates are visited one by one; so are cold parts, for
        which no call may find data that the previous one loaded.
        """
        together: dict[str, list[TimedWorkload]] = {}
        for index in self.rng.permutation(len(candidates)):
            candidate = candidates[index]
            loaded = candidate.loaded
            joined = loaded.program_id if loaded and candidate.calls == loaded.copies == 1 else candidate.feed
            together.setdefault(joined, []).append(candidate)
        size = MOST_TOGETHER
        return [group[start : start + size] for group in together.values() for start in range(0, len(group), size)]

    def _visits(self, stop: Sequence[TimedWorkload], worker: Worker) -> list[tuple[TimedWorkload, Visit]]:
        """One visit each, after discarded first calls: one of the first candidate, or of each of its copies."""
        touch_s, visits = None, []
        for candidate in stop:
            copies = candidate.loaded.copies if candidate.loaded else 1
            touches = copies if touch_s is None and not self.info.counts_first_call else 0
            values = self._visit(candidate, worker, touches=touches)
            if values is None:
                continue
            touch_s = values[TOUCH][0] if touch_s is None else touch_s
            visits.append((candidate, Visit(self.next_opening - 1, self.next_round, touch_s, tuple(values[LATENCY]))))
        return visits

    def _visit_pending(
        self, pending: list[TimedWorkload], opening: int, interrupted: Callable[[int], bool], worker: Worker
    ) -> None:
        """Visits candidates from the end of a list, and removes them; one that a worker died of has failed."""
        if not self.probe.alone:
            self._load(worker)
        while pending and not interrupted(opening):
            candidate = pending[-1]
            values = None if candidate.failure else self._visit(candidate, worker)
            for name, samples in (values or {}).items():
                candidate.values.setdefault(name, {})[opening] = tuple(samples)
            pending.pop()

    def _visit(
        self, candidate: TimedWorkload, worker: Worker, *, touches: int = 0
    ) -> Mapping[str, Sequence[float]] | None:
        """Samples of one visit; `None` if the candidate has failed."""
        workload, call_s = candidate.workload, candidate.warmup_s[-1] if candidate.warmup_s else 0.0
        try:
            program = candidate.program or self._program(candidate)
            subject = Subject(workload, program, self.programs, candidate.loaded, call_s, candidate.calls, touches)
            return self.probe.visit(worker, subject)
        except ProgramError as error:
            self._blame([candidate], error)
            return None
        except InputError as error:
            raise InputError(f"{self.info.device}: {error}") from error


def _described(info: DeviceInfo) -> str:
    return f"{info.device} ({', '.join([info.hardware, info.runtime, *info.options])})"


def reference_visits(candidates: int) -> int:
    """Number of visits of the reference per round; ratios are to the one with the median latency.

    An error of the reference affects the ratios of all its candidates, so it deserves more time than each of them: the
    optimum is the square root of their number, for a session of any length. An odd number has a middle visit, whose
    latency is above the expected one as often as below. It seldom has slow calls, so percentiles are of the first one.

    References:
        Dunnett 1955, "A multiple comparison procedure for comparing several treatments with a control".
        Bechhofer 1969, "Optimal allocation of observations when comparing several treatments with a control".
    """
    return 1 + 2 * (math.isqrt(candidates) // 2)
