"""Latency of models too large to load, composed from two stubs: true widths and head, fewer layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from adaptare.core import InputError
from adaptare.devices import Program
from adaptare.profiler.measuring.groups import split_into_groups
from adaptare.profiler.measuring.options import ProfileOptions
from adaptare.profiler.measuring.rounds import profile_groups
from adaptare.profiler.programs.builders import Need, Programs
from adaptare.profiler.store.measurement import INTERRUPTED, Measurement, Visit
from adaptare.profiler.workloads.configuration import Configuration
from adaptare.profiler.workloads.shape import ModelShape, in_layer
from adaptare.profiler.workloads.workload import Mode, Workload

FEWEST_LAYERS = (2, 6)
# Extrapolating from deeper stubs amplifies the error of single programs less (`stub_overhead_error` of
# benchmarks/profiling.py). Where layers are large, that is not worth the memory.
DEEP_BYTES = 2**30
DEEPEST = 0.75


def profile_by_stubs(
    workloads: Sequence[Workload],
    *,
    reference: Workload,
    options: ProfileOptions,
    reference_s: float | None = None,
) -> Iterator[list[Measurement]]:
    """Latency of whole models, extrapolated linearly from two stubs: all layers, or periods of layers, do equal work.

    Both stubs of every workload and of the reference run in the same rounds, and the line is fitted per round, so that
    the interval includes the extrapolation error.

    Args:
        workloads: Workloads of scope `model`, with the same ranks and widths in every layer.
        reference: Workload of scope `model`.
        options: Device, stopping rule and seed; the rule applies to the stubs.
        reference_s: Seconds of the whole reference when the device was calibrated; `None` calibrates it by the first
            stubs.

    Yields:
        Composed measurements of as many workloads as fit into memory at once, in a separate session each.

    Raises:
        InputError: Layers differ in ranks or widths, the model has too few, the reference is among the workloads, or
            the stubs do not fit into memory.
        DeviceError: No worker can be started, or the reference does not run.
    """
    if reference in workloads:
        raise InputError("the reference is measured beside the workloads; leave it out of them")
    programs, free_bytes = options.builder, options.device.capacity_bytes()
    among_others = replace(options, programs=StubPrograms(programs, reference.shape))
    depths = fitting_layers(workloads, reference, programs, free_bytes)
    shallow, deep = (stub_of(reference, layers) for layers in depths)
    for part in _fitting(workloads, reference, depths, programs, free_bytes):
        stubs = [stub for stub in stubs_of(part, reference, depths) if stub != deep]
        groups = profile_groups(stubs, reference=deep, options=among_others)
        by_stub = {stub.workload: stub for group in groups for stub in group}
        if len(by_stub) < len(stubs):  # interrupted before all of them had started
            return
        line = _Line(reference, depths, by_stub[shallow], reference_s)
        if by_stub[shallow].complete:
            reference_s = line.reference_s
        yield [line.measurement(whole, *(by_stub[stub_of(whole, layers)] for layers in depths)) for whole in part]
        if any(stub.stopped_by == INTERRUPTED for stub in by_stub.values()):
            return


@dataclass(frozen=True)
class StubPrograms:
    """Stubs that run with the processor caches in the state that the whole model leaves.

    A model larger than the caches finds few of its weights there when called again; a stub that fits would find all of
    its weights. Other memory is therefore read between its calls, in place of the missing layers.

    Args:
        programs: Program builder of the device's runtime.
        whole: The model; if it is timed together with its stubs, nothing is read between its calls.
    """

    programs: Programs
    whole: ModelShape

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """See `Programs.modes`."""
        return self.programs.modes(workload)

    def check(self, workload: Workload) -> None:
        """See `Programs.check`."""
        self.programs.check(workload)

    def need(self, workload: Workload) -> Need:
        """See `Programs.need`."""
        return self.programs.need(workload)

    def disk_bytes(self, base: Workload) -> int:
        """See `Programs.disk_bytes`."""
        return self.programs.disk_bytes(base)

    def program(self, workload: Workload) -> Program:
        """See `Programs.program`."""
        return self._among_others(self.programs.program(workload), workload)

    def merged_reference(self, workload: Workload) -> Program:
        """See `Programs.merged_reference`."""
        return self._among_others(self.programs.merged_reference(workload), workload)

    def unrounded(self, workload: Workload) -> Program:
        """See `Programs.unrounded`."""
        return self.programs.unrounded(workload)

    def _among_others(self, program: Program, workload: Workload) -> Program:
        base = workload.base
        own, whole = (replace(base, shape=shape).work().moved_bytes for shape in (base.shape, self.whole))
        return replace(program, moved_bytes=own, between_bytes=whole - own)


def stub_layers(workload: Workload) -> tuple[int, int]:
    """Layers of both stubs: 2 and 6; more, up to a quarter and three quarters of all, where layers are small.

    Where some layers use a sliding window, both stubs have full and windowed layers in the model's proportion.

    Raises:
        InputError: The scope is not a whole model, or the model has fewer layers.
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


def fitting_layers(
    workloads: Sequence[Workload], reference: Workload, programs: Programs, free_bytes: int
) -> tuple[int, int]:
    """Layers of both stubs: `stub_layers`, or the minimum if those do not fit into half of the free memory.

    Raises:
        InputError: The scope is not a whole model, it has too few layers, or layers differ.
    """
    depths = stub_layers(reference)
    if all(_fits([workload], reference, depths, programs, free_bytes) for workload in workloads):
        return depths
    return _whole_periods(*FEWEST_LAYERS, reference.shape.period)


def stub_of(workload: Workload, layers: int) -> Workload:
    """The same workload with only a number of layers, each like those that the model keeps.

    Raises:
        InputError: Layers differ in their ranks or widths.
    """
    shape = workload.shape
    if shape.period > 1 and workload.configuration.left_out:
        raise InputError(
            "layers of this model attend in different ways, so stubs cannot leave any out; measure the whole"
        )
    first, *others = workload.configuration.of_layers(shape)
    if any(layer != first for layer in others):
        raise InputError(
            "stubs need the same ranks and widths in every layer; tie each kind of linear over all layers (`tie: all` "
            "in a YAML file), or measure the whole"
        )
    ranks = {in_layer(path, layer): rank for path, rank in first.ranks for layer in range(layers)}
    widths = {layer: width for _, width in first.widths for layer in range(layers)}
    configuration = Configuration.of(ranks, widths=widths, kind=first.kind)
    return replace(workload, shape=shape.stub(layers), configuration=configuration)


def stubs_of(workloads: Sequence[Workload], reference: Workload, depths: tuple[int, int]) -> list[Workload]:
    """Stubs to time for workloads and their reference. Raises `InputError`, see `stub_of`."""
    return list(dict.fromkeys(stub_of(workload, layers) for workload in (reference, *workloads) for layers in depths))


def _fits(
    workloads: Sequence[Workload],
    reference: Workload,
    depths: tuple[int, int],
    programs: Programs,
    free_bytes: int,
) -> bool:
    """True if all stubs fit into memory at once; the line needs rounds that they have in common."""
    deep = stub_of(reference, depths[-1])
    stubs = [stub for stub in stubs_of(workloads, reference, depths) if stub != deep]
    for stub in (deep, *stubs):
        programs.check(stub)
    try:
        return len(split_into_groups(stubs, reference=deep, programs=programs, free_bytes=free_bytes)) == 1
    except InputError:
        return False


def _fitting(
    workloads: Sequence[Workload],
    reference: Workload,
    depths: tuple[int, int],
    programs: Programs,
    free_bytes: int,
) -> list[Sequence[Workload]]:
    """Subsets of the workloads whose stubs fit into memory at once."""
    if _fits(workloads, reference, depths, programs, free_bytes):
        return [workloads]
    if len(workloads) == 1:
        raise InputError(
            f"the stubs of {workloads[0].describe()} do not fit into half of the free memory, which is "
            f"{free_bytes / 2**21:,.0f} MiB; free memory, or take fewer tokens or sequences"
        )
    half = len(workloads) // 2
    return [
        part
        for some in (workloads[:half], workloads[half:])
        for part in _fitting(some, reference, depths, programs, free_bytes)
    ]


class _Line:
    """Fits the line through both stubs in each round.

    Args:
        reference: The whole base model.
        depths: Layers of both stubs.
        shallow: Shallow stub of the base, measured in the same rounds as the deep one.
        reference_s: Seconds of the whole base when the device was calibrated; `None` calibrates it now.
    """

    def __init__(
        self, reference: Workload, depths: tuple[int, int], shallow: Measurement, reference_s: float | None
    ) -> None:
        self._reference = reference
        self._failure = shallow.failure
        self._depths = depths
        self._base = _drawn(shallow.visits, shallow.reference_visits, self._share(reference))
        medians = [visit.median_s for visit in self._base.values()]
        self.reference_s = float(np.median(medians)) if reference_s is None and medians else reference_s

    def measurement(self, workload: Workload, shallow: Measurement, deep: Measurement) -> Measurement:
        """Composed measurement of the whole workload, with the whole base as its reference."""
        share = self._share(workload)
        own = _drawn(shallow.visits, deep.visits, share)
        rounds = sorted(set(own) & set(self._base))
        lost = "" if rounds or not deep.visits else "its stubs were disturbed in every round; close other programs"
        return replace(
            deep,
            workload=workload,
            reference=self._reference,
            reference_s=self.reference_s or 0.0,
            visits=tuple(own[place] for place in rounds),
            reference_visits=tuple(self._base[place] for place in rounds),
            resident_bytes=max(0, round(_line(shallow.resident_bytes, deep.resident_bytes, share))),
            load_s=max(0.0, _line(shallow.load_s, deep.load_s, share)),
            first_call_s=max(0.0, _line(shallow.first_call_s, deep.first_call_s, share)),
            failure=shallow.failure or deep.failure or self._failure or lost,
            origin="composed",
        )

    def _share(self, workload: Workload) -> float:
        """Layers of a workload beyond the shallow stub, over those of the deep one."""
        few, many = self._depths
        return (workload.layers - few) / (many - few)


def _drawn(shallow: Sequence[Visit], deep: Sequence[Visit], share: float) -> dict[tuple[int, int], Visit]:
    """The line extrapolated to the whole depth, by opening (one fresh load of all programs) and round.

    Rounds in which a stub was disturbed so much that the extrapolation is not positive are left out.
    """
    few, many = ({(visit.opening, visit.round): visit for visit in visits} for visits in (shallow, deep))
    drawn = {place: _at_depth(few[place], many[place], share) for place in set(few) & set(many)}
    return {place: visit for place, visit in drawn.items() if visit.median_s > 0}


def _at_depth(shallow: Visit, deep: Visit, share: float) -> Visit:
    return Visit(
        deep.opening,
        deep.round,
        max(0.0, _line(shallow.touch_s, deep.touch_s, share)),
        (_line(shallow.median_s, deep.median_s, share),),
    )


def _line(shallow: float, deep: float, share: float) -> float:
    return shallow + share * (deep - shallow)
