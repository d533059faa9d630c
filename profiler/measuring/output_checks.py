"""Comparison of the outputs of loaded programs with those of their bases and merged references, before they count."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from adaptare.core import ProgramError, WorkerDiedError
from adaptare.devices import Program, Worker
from adaptare.profiler.measuring.timed_workload import TimedWorkload, shared
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.programs.equality import (
    changes_outputs,
    check_against_merged,
    check_applied,
    needs_merged_reference,
    rounds_activations,
)
from adaptare.profiler.workloads.workload import Workload


@dataclass(frozen=True)
class OutputChecks:
    """Checks of one group of candidates.

    Args:
        blame: Attributes the failure of a worker to candidates.
        rounded: Bases whose activations are rounded -> their outputs, and those of their merged references.
        unrounded: Bases -> their outputs without rounded activations.
    """

    reference: TimedWorkload
    programs: Programs
    blame: Callable[[Sequence[TimedWorkload], ProgramError], None]
    rounded: dict[Workload, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    unrounded: dict[Workload, Sequence[float]] = field(default_factory=dict)

    def check(self, candidates: Sequence[TimedWorkload], worker: Worker) -> None:
        """Fails the candidates whose adapter is not applied, or whose outputs differ from the merged reference."""
        for candidate in candidates:
            self._check_applied(candidate, worker)
        for program, sharing in shared(list(self._unequal_references(candidates))):
            self._check_merged(program, sharing, worker)
        for candidate in candidates:
            candidate.checked = True

    def _check_applied(self, candidate: TimedWorkload, worker: Worker) -> None:
        workload, bare = candidate.workload, candidate.workload.bare
        known = bare == self.reference.workload or workload.configuration.cuts_base
        try:
            if changes_outputs(workload) and known:
                check_applied(workload, candidate.outputs, self._outputs(bare, worker))
        except WorkerDiedError as error:
            self.blame([candidate], error)
        except ProgramError as error:
            candidate.failure = str(error)

    def _unequal_references(self, candidates: Sequence[TimedWorkload]) -> Iterator[tuple[Program, TimedWorkload]]:
        """Merged references to compare with; a program that equals its own needs no comparison."""
        for candidate in candidates:
            if candidate.failure or not needs_merged_reference(candidate.workload):
                continue
            try:
                merged = self.programs.merged_reference(candidate.workload)
                equal = merged == self.programs.program(candidate.workload)
            except ProgramError as error:
                self.blame([candidate], error)
            else:
                if not equal:
                    yield merged, candidate

    def _check_merged(self, program: Program, candidates: Sequence[TimedWorkload], worker: Worker) -> None:
        bases = dict.fromkeys(
            candidate.workload.bare for candidate in candidates if rounds_activations(candidate.workload)
        )
        try:
            references = self._reference_outputs(program, [base for base in bases if base not in self.rounded], worker)
        except ProgramError as error:
            self.blame(candidates, error)
            return
        for candidate in candidates:
            theirs, own = references.get(candidate.feed, ()), self.rounded.get(candidate.workload.bare, ((), ()))
            try:
                check_against_merged(candidate.workload, candidate.outputs, theirs, bases=own)
            except ProgramError:
                self._check_unrounded(candidate, theirs, worker)

    def _check_unrounded(self, candidate: TimedWorkload, expected: Sequence[float], worker: Worker) -> None:
        """Compares again without rounded activations, whose error an adapter may multiply."""
        bare = candidate.workload.bare
        try:
            ours = self._unrounded(candidate.workload, worker)
            base = self.unrounded[bare] = self.unrounded.get(bare) or self._unrounded(bare, worker)
            check_against_merged(candidate.workload, ours, expected, bases=(base, self.rounded.get(bare, ((), ()))[1]))
        except WorkerDiedError as error:
            self.blame([candidate], error)
        except ProgramError as error:
            candidate.failure = str(error)

    def _unrounded(self, workload: Workload, worker: Worker) -> Sequence[float]:
        return outputs_once(self.programs.unrounded(workload), worker).get(workload.hash, ())

    def _reference_outputs(
        self, program: Program, bases: Sequence[Workload], worker: Worker
    ) -> Mapping[str, Sequence[float]]:
        """Outputs of a merged reference; notes those of bases, which may be feeds of the same program."""
        merged = {base: self.programs.merged_reference(base) for base in bases}
        shared = [reference for reference in merged.values() if replace(reference, feeds=program.feeds) == program]
        feeds = (*program.feeds, *(feed for reference in shared for feed in reference.feeds))
        outputs = dict(outputs_once(replace(program, feeds=feeds), worker))
        for base, reference in merged.items():
            theirs = outputs if reference in shared else outputs_once(reference, worker)
            self.rounded[base] = self._outputs(base, worker), theirs.get(base.hash, ())
        return outputs

    def _outputs(self, base: Workload, worker: Worker) -> Sequence[float]:
        """Outputs of a base, which is not necessarily the reference."""
        if base == self.reference.workload:
            return self.reference.outputs
        return outputs_once(self.programs.program(base), worker).get(base.hash, ())


def outputs_once(program: Program, worker: Worker) -> Mapping[str, Sequence[float]]:
    """Outputs of a program that is not needed any more."""
    loaded = worker.load(program)
    worker.unload(loaded.program_id)
    return loaded.outputs
