"""The keys of profiling.py that need whole models: what parts and stubs say of them, at the pace of the commands.

Exports come out of the cache; on the first run they are made, which takes a few minutes more.

python benchmarks/profiling_models.py [SESSIONS]

alone compares stubs with the whole model in several pairs of sessions (4) on the 4-bit base, as one pair has wide
intervals.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from profiling_figures import Figure, Figures

from adaptare.devices import connect
from adaptare.profiler import (
    Configuration,
    Measurement,
    Phase,
    Quantisation,
    Workload,
    open_model,
    precise_within,
)
from adaptare.profiler.measuring.parts import measure_parts
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.measuring.stubs import stub_session, stubs_for

ORT, TORCH = "ort-cpu:threads=1", "torch-cpu:threads=1"
COMPOSED: tuple[tuple[str, Phase], ...] = ((TORCH, "decode"), (ORT, "decode"))
STUBS: tuple[tuple[Quantisation, Phase], ...] = (("int4", "decode"), ("none", "prefill"))
RANK = 16
PLACEMENTS = (
    (),
    ("q_proj", "v_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("gate_proj", "up_proj", "down_proj"),
    ("down_proj",),
)
RANKS = (1, 8, 16, 64)
# Default of the commands `overhead` and `parts`.
STOP = precise_within(0.01, 60.0)


def composition() -> Figures:
    """Blocks and head, timed alone with cold caches, added up beside the whole model."""
    shape, cells = open_model("smollm2-135m").shape, list[dict[str, Any]]()
    for device, phase in COMPOSED:
        parts = measure_parts(Workload(shape, phase=phase).base, Session(connect(device), STOP, seed=0))
        ratio = parts["cold"].together.ratio
        ends = {"error": ratio.middle - 1, "lower": ratio.lower - 1, "upper": ratio.upper - 1}
        cells.append({"device": device, "phase": phase, **ends})
    worst = max(abs(cell["error"]) for cell in cells)
    return {"composition_error": Figure(worst, len(cells)), "compositions": Figure(cells, len(cells))}


def stubs(*, cases: Sequence[tuple[Quantisation, Phase]] = STUBS, seed: int = 0) -> Figures:
    """Overhead and seconds by stubs beside those of the whole model, each in a session of its own."""
    shape, cells = open_model("smollm2-135m").shape, list[dict[str, Any]]()
    for quantisation, phase in cases:
        adapted = Workload(shape, Configuration.uniform(shape, RANK), phase=phase, quantisation=quantisation)
        session = Session(connect(ORT), STOP, seed=seed)
        (whole,) = checked(session.measure([adapted], reference=adapted.base))
        (plan,) = stubs_for([adapted], reference=adapted.base, session=session)
        measured = stub_session(session, adapted.base).measure(plan.timed, reference=plan.reference)
        (composed,) = checked(plan.composed(measured))
        cells.append(
            {
                "quantisation": quantisation,
                "phase": phase,
                "overhead": whole.overhead.middle,
                "overhead_error": composed.overhead.middle - whole.overhead.middle,
                "half_widths": [(each.overhead.upper - each.overhead.lower) / 2 for each in (whole, composed)],
                "seconds_error": composed.reference_raw_s / whole.reference_raw_s - 1,
            }
        )
    worst = max(abs(cell["overhead_error"]) for cell in cells)
    return {"stub_overhead_error": Figure(worst, len(cells)), "stubs": Figure(cells, len(cells))}


def checked(measured: list[Measurement]) -> list[Measurement]:
    """The measurements, unless one failed."""
    if failures := [each.failure for each in measured if each.failure]:
        raise SystemExit(f"not measured: {failures[0]}")
    return measured


def placements() -> list[list[Workload]]:
    """The ranks of each placement, to be decoded."""
    shape = open_model("smollm2-135m").shape
    return [
        [Workload(shape, Configuration.uniform(shape, rank, kinds=kinds)) for rank in RANKS] for kinds in PLACEMENTS
    ]


if __name__ == "__main__":
    for session in range(int(sys.argv[1]) if sys.argv[1:] else 4):
        print(json.dumps(stubs(cases=STUBS[:1], seed=session)["stubs"].value), flush=True)
