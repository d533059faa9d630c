"""Latency of the decoder blocks and the head of a model in isolation, compared with the whole model."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from adaptare.core import InputError
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.store.calibration import calibrated
from adaptare.profiler.store.measurement import Measurement, Visit
from adaptare.profiler.workloads.workload import Caches, Workload


@dataclass(frozen=True)
class Parts:
    """The parts of a whole model, timed in the same rounds as it: each distinct block with its number, and the head."""

    blocks: tuple[tuple[Measurement, int], ...]
    head: Measurement

    @cached_property
    def together(self) -> Measurement:
        """Sum of the parts in each round, as a measurement of the whole: a `ratio` of 1 means the parts explain it."""
        measured = [*self.blocks, (self.head, 1)]
        failures = [part.failure for part, _ in measured if part.failure]
        own = [({visit.round: visit for visit in part.visits}, count) for part, count in measured]
        common = sorted(set.intersection(*(set(visits) for visits, _ in own)))
        theirs = {visit.round: visit for visit in self.head.reference_visits}

        def total(name: str) -> float:
            return sum(count * float(getattr(part, name)) for part, count in measured)

        return replace(
            self.head,
            workload=self.head.reference,
            visits=tuple(_sum([(visits[number], count) for visits, count in own]) for number in common),
            reference_visits=tuple(theirs[number] for number in common),
            first_reference_visits=(),
            resident_bytes=round(total("resident_bytes")),
            load_s=total("load_s"),
            first_call_s=total("first_call_s"),
            failure=next(iter(failures), ""),
            origin="composed",
        )


def measure_parts(whole: Workload, session: Session, *, caches: Sequence[Caches] = ("cold",)) -> dict[Caches, Parts]:
    """Measures the blocks and the head of a model in isolation, in the same rounds as the whole model.

    Inside a model, other layers run between two calls of a block and evict its weights from the processor caches if the
    model exceeds them. In isolation and with `hot` caches, a block finds its weights there.

    Args:
        whole: Workload of scope `model`, with any adapter. Blocks with the same ranks are timed once.
        session: Measures all parts at once, or each cache state by itself where memory is short.
        caches: Cache states in which the parts are timed.

    Raises:
        InputError: The scope is not a whole model, layers do unequal work, or model and parts exceed the memory.
        DeviceError: No worker can be started, or the whole model does not run.
    """
    if whole.scope != "model":
        raise InputError(f"parts are those of a whole model, not of a {whole.describe()}")
    if whole.shape.period > 1 and whole.shape.window and whole.length > whole.shape.window:
        raise InputError(
            f"all blocks are timed as the first layer, and beyond {whole.shape.window} positions the layers of this "
            f"model differ in attention; take a length of at most {whole.shape.window}, not {whole.length}"
        )
    blocks, head = blocks_of(whole), replace(whole.base, scope="head")
    wanted = {state: [replace(part, caches=state) for part in (*blocks, head)] for state in caches}
    every = list(itertools.chain.from_iterable(wanted.values()))
    together = [every] if session.fits(every, reference=whole) else list(wanted.values())
    if not all(session.fits(parts, reference=whole) for parts in together):
        raise InputError(
            f"the whole model, its head and {len(blocks)} distinct blocks do not fit into memory together; free "
            "memory, or take an adapter with fewer distinct layers"
        )
    measured = calibrated([row for parts in together for row in session.measure(parts, reference=whole)])
    by_part = {row.workload: row for row in measured}
    return {
        state: Parts(tuple(zip((by_part[part] for part in own), blocks.values(), strict=True)), by_part[last])
        for state, (*own, last) in wanted.items()
    }


def blocks_of(whole: Workload) -> Counter[Workload]:
    """Distinct blocks, each moved to the first layer, with the number of layers that consist of it."""
    largest = max(whole.configuration.by_path.values(), default=0)
    blocks = Counter[Workload]()
    for layer in whole.configuration.of_layers(whole.shape):
        if whole.mode == "padded":
            layer = layer.with_ranks(dict.fromkeys(layer.by_path, largest))
        alone = replace(whole, configuration=layer, scope="block")
        blocks[alone if layer.ranks or alone.graph == "open" else alone.merged] += 1
    return blocks


def _sum(parts: Sequence[tuple[Visit, int]]) -> Visit:
    first, _ = parts[0]
    touch_s, seconds = (
        sum(count * value for value, (_, count) in zip(values, parts, strict=True))
        for values in ([visit.touch_s for visit, _ in parts], [visit.median_s for visit, _ in parts])
    )
    return Visit(first.opening, first.round, touch_s, (seconds,))
