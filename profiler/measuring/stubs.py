"""Latency of models too large to load, composed from two stubs: true widths and head, fewer layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adaptare.core import InputError
from adaptare.devices import Program
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.store.measurement import Measurement, Visit
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.workload import Workload

FEWEST_LAYERS = (2, 6)
# Extrapolating from deeper stubs amplifies the error of single programs less (`stub_overhead_error` of
# benchmarks/profiling.py). Where layers are large, that is not worth the memory.
DEEP_BYTES = 2**30
DEEPEST = 0.75


@dataclass(frozen=True)
class Stubs:
    """Stubs of whole models that are measured together, in place of the models, in two `depths`.

    Both stubs of every workload and of the reference, the `whole`, run in the same rounds, and the line is fitted per
    round, so that the interval includes the extrapolation error. The workloads have the same ranks and widths in every
    layer.
    """

    workloads: Sequence[Workload]
    whole: Workload
    depths: tuple[int, int]

    @property
    def reference(self) -> Workload:
        """Reference of the stubs: the deep one of the whole reference."""
        return stub_of(self.whole, self.depths[-1])

    @property
    def timed(self) -> list[Workload]:
        """Stubs to measure in addition to their reference."""
        wholes = (self.whole, *self.workloads)
        stubs = dict.fromkeys(stub_of(workload, layers) for workload in wholes for layers in self.depths)
        return [stub for stub in stubs if stub != self.reference]

    def halves(self) -> "tuple[Stubs, Stubs]":
        """The same stubs in two parts."""
        half = len(self.workloads) // 2
        return replace(self, workloads=self.workloads[:half]), replace(self, workloads=self.workloads[half:])

    def composed(self, measured: Sequence[Measurement]) -> list[Measurement]:
        """Latency of the whole models, extrapolated linearly: all layers, or periods of layers, do equal work.

        Nothing is composed if some measurements of stubs are missing after an interruption.
        """
        by_stub = {row.workload: row for row in measured}
        if len(by_stub) < len(self.timed):
            return []
        base = by_stub[stub_of(self.whole, self.depths[0])]
        line = _drawn(base.visits, base.reference_visits, self._share(self.whole))
        few, many = self.depths
        return [
            self._composed(whole, by_stub[stub_of(whole, few)], by_stub[stub_of(whole, many)], line, base.failure)
            for whole in self.workloads
        ]

    def _composed(
        self,
        workload: Workload,
        shallow: Measurement,
        deep: Measurement,
        base: Mapping[tuple[int, int], Visit],
        failure: str,
    ) -> Measurement:
        """Measurement of one workload, with the whole base as its reference."""
        share = self._share(workload)
        own = _drawn(shallow.visits, deep.visits, share)
        rounds = sorted(set(own) & set(base))
        lost = "" if rounds or not deep.visits else "its stubs were disturbed in every round; close other programs"
        return replace(
            deep,
            workload=workload,
            reference=self.whole,
            visits=tuple(own[place] for place in rounds),
            reference_visits=tuple(base[place] for place in rounds),
            first_reference_visits=(),
            resident_bytes=max(0, round(_line(shallow.resident_bytes, deep.resident_bytes, share))),
            load_s=max(0.0, _line(shallow.load_s, deep.load_s, share)),
            first_call_s=max(0.0, _line(shallow.first_call_s, deep.first_call_s, share)),
            failure=shallow.failure or deep.failure or failure or lost,
            origin="composed",
        )

    def _share(self, workload: Workload) -> float:
        """Layers of a workload beyond the shallow stub, over those of the deep one."""
        few, many = self.depths
        return (workload.layers - few) / (many - few)


def stub_session(session: Session, whole: Workload) -> Session:
    """A session for the stubs of a model, whose caches are in the state that the model leaves."""
    return replace(session, programs=StubPrograms(session.builder, whole.shape))


def stubs_for(workloads: Sequence[Workload], *, reference: Workload, session: Session) -> list[Stubs]:
    """Stubs of all workloads, in as many parts as fit into memory at once.

    They are as deep as `stub_layers` says, or as shallow as possible if those do not fit into memory.

    Raises:
        InputError: Layers differ in ranks or widths, the model has too few, the reference is among the workloads, or
            the stubs do not fit into memory.
    """
    if reference in workloads:
        raise InputError("the reference is measured anyway; leave it out of the workloads")
    depths = stub_layers(reference)
    each = [Stubs([workload], reference, depths) for workload in workloads]
    if not all(session.fits(stubs.timed, reference=stubs.reference) for stubs in each):
        depths = _whole_periods(*FEWEST_LAYERS, reference.shape.period)
    return _fitting(Stubs(workloads, reference, depths), session)


class StubPrograms:
    """Stubs that run with the processor caches in the state that the whole model leaves.

    A model larger than the caches finds few of its weights there when called again; a stub that fits would find all of
    its weights. Other memory is therefore read between its calls, in place of the missing layers; of none if the model
    itself is timed together with its stubs.
    """

    def __init__(self, programs: Programs, whole: ModelShape) -> None:
        self._programs, self._whole = programs, whole
        self.modes, self.check, self.need = programs.modes, programs.check, programs.need
        self.disk_bytes, self.unrounded = programs.disk_bytes, programs.unrounded

    def program(self, workload: Workload) -> Program:
        return self._among_others(self._programs.program(workload), workload)

    def merged_reference(self, workload: Workload) -> Program:
        return self._among_others(self._programs.merged_reference(workload), workload)

    def _among_others(self, program: Program, workload: Workload) -> Program:
        base = workload.base
        own, whole = (replace(base, shape=shape).work().moved_bytes for shape in (base.shape, self._whole))
        return replace(program, moved_bytes=own, between_bytes=whole - own)


def stub_layers(workload: Workload) -> tuple[int, int]:
    """Layers of both stubs: 2 and 6; more, up to a quarter and three quarters of all, where layers are small.

    Where some layers use a sliding window, both stubs have full and windowed layers in the model's proportion. Raises
    `InputError` if the scope is not a whole model, or the model has fewer layers.
    """
    shape = workload.shape
    fewest, least = _whole_periods(*FEWEST_LAYERS, shape.period)
    if workload.scope != "model" or shape.layers < least:
        raise InputError(
            f"stubs stand for whole models of {least} or more layers, not for a {workload.describe()}; measure it "
            "without stubs"
        )
    weights = sum(site.in_features * site.out_features for site in shape.sites) / shape.layers
    fitting = int(DEEP_BYTES / (workload.base_weight_bytes * weights))
    many = max(least, min(fitting, int(DEEPEST * shape.layers)))
    return _whole_periods(max(fewest, many // 3), many, shape.period)


def _whole_periods(few: int, many: int, period: int) -> tuple[int, int]:
    few = period * -(-few // period)
    return few, max(period * (many // period), few + period)


def stub_of(workload: Workload, layers: int) -> Workload:
    """The workload with only a number of layers, each like those that stay. Raises `InputError` if they differ."""
    shape = workload.shape
    if shape.period > 1 and workload.configuration.left_out:
        raise InputError(
            "layers of this model differ in attention, so stubs cannot leave layers out; measure the whole model"
        )
    first, *others = workload.configuration.of_layers(shape)
    if any(layer != first for layer in others):
        raise InputError(
            "stubs need the same ranks and widths in every layer; tie each kind of linear over all layers (`tie: all` "
            "in a YAML file), or measure the whole model"
        )
    return replace(workload, shape=shape.stub(layers), configuration=first.in_layers(layers))


def _fitting(stubs: Stubs, session: Session) -> list[Stubs]:
    """Parts that fit into memory at once; the line needs rounds that they have in common."""
    if session.fits(stubs.timed, reference=stubs.reference):
        return [stubs]
    if len(stubs.workloads) == 1:
        raise InputError(
            f"the stubs of {stubs.workloads[0].describe()} do not fit into half of the free memory, which is "
            f"{session.device.capacity_bytes() / 2**21:,.0f} MiB; free memory, or take fewer tokens or sequences"
        )
    return [part for half in stubs.halves() for part in _fitting(half, session)]


def _drawn(shallow: Sequence[Visit], deep: Sequence[Visit], share: float) -> dict[tuple[int, int], Visit]:
    """The line extrapolated to the whole depth, by opening (one fresh load of all programs) and round.

    Rounds in which a stub was disturbed so much that the extrapolation is not positive are left out.
    """
    few, many = ({(visit.opening, visit.round): visit for visit in visits} for visits in (shallow, deep))
    drawn = {place: _line(few[place].median_s, many[place].median_s, share) for place in set(few) & set(many)}
    return {
        place: Visit(*place, max(0.0, _line(few[place].touch_s, many[place].touch_s, share)), (seconds,))
        for place, seconds in drawn.items()
        if seconds > 0
    }


def _line(shallow: float, deep: float, share: float) -> float:
    return shallow + share * (deep - shallow)
