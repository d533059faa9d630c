"""The keys of profiling.py that need whole models: what parts and stubs say of them, and what a campaign takes.

Exports come out of the cache; on the first run they are made, which takes a few minutes more.
"""

import time
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from onnx_overhead_cells import QWEN_05B, TRIMMED
from profiling_memory import equal_files
from scipy.stats import trim_mean

from adaptare.devices import connect
from adaptare.profiler import (
    AdapterConfig,
    Caches,
    FixedRounds,
    Measurement,
    ModelShape,
    Programs,
    StubPrograms,
    Workload,
    measure_parts,
    open_model,
    overhead,
    precise_within,
    profile,
    programs_for,
    stub_layers,
    stub_of,
)

ORT, TORCH = "ort-cpu:threads=1", "torch-cpu:threads=1"
PHASES = ("decode", "prefill")
PLACEMENTS = (
    (),
    ("q_proj", "v_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("gate_proj", "up_proj", "down_proj"),
    ("down_proj",),
)
RANKS = (1, 8, 16, 64)
# Openings at most and rounds in each, and the relative half-width of all intervals over the base that is enough; steps
# between ranks, which share an opening, should be known better then, and are checked at the end.
CAMPAIGN_PACE = (12, 10)
CAMPAIGN_HALF_WIDTH = 0.0125
CAMPAIGN_LIMIT_S = 600.0
# Openings and rounds in each. What a block is off while it is open counts as often as there are layers.
COMPOSITION_PACE = {
    (TORCH, "decode"): (2, 7),
    (TORCH, "prefill"): (2, 4),
    (ORT, "decode"): (4, 6),
    (ORT, "prefill"): (4, 4),
}
# The same for stubs. The line through two stubs multiplies what is off in decode while they are open, most on
# 4 bits.
STUBS_PACE = {
    ("smollm2-135m", "none", "decode"): (6, 6),
    ("smollm2-135m", "none", "prefill"): (4, 5),
    ("smollm2-135m", "int4", "decode"): (24, 3),
    ("smollm2-135m", "int4", "prefill"): (6, 5),
    ("qwen2.5-0.5b", "none", "decode"): (3, 6),
    ("qwen2.5-0.5b", "none", "prefill"): (3, 4),
    ("qwen2.5-0.5b", "int4", "decode"): (13, 3),
    ("qwen2.5-0.5b", "int4", "prefill"): (3, 5),
}


def composition() -> dict[str, Any]:
    """Every block and the head, timed alone with cold caches, added up beside the whole model; hot ones too."""
    shape, cells = open_model("smollm2-135m").shape, []
    for device in (TORCH, ORT):
        for phase in PHASES:
            base = Workload(shape, phase=phase).base  # type: ignore[arg-type]
            cell: dict[str, Any] = {"device": device, "phase": phase}
            started = time.monotonic()
            openings, rounds = COMPOSITION_PACE[device, phase]
            stop, states = FixedRounds(rounds), get_args(Caches)
            found = measure_parts(base, device=connect(device), stop=stop, seed=0, openings=openings, caches=states)
            cell |= {caches: found[caches].together.ratio.middle - 1 for caches in states}
            cells.append({**cell, "seconds": time.monotonic() - started})
    return {
        "composition_error": max(abs(cell["cold"]) for cell in cells),
        "composition_error_hot": max(abs(cell["hot"]) for cell in cells),
        "compositions": cells,
        **equal_files("memory", Workload(shape).base.work().moved_bytes),
    }


def stub_line() -> dict[str, Any]:
    """The line through two stubs beside the whole model, drawn in each round."""
    cells = []
    shapes = {"smollm2-135m": open_model("smollm2-135m").shape, "qwen2.5-0.5b": ModelShape.from_mapping(QWEN_05B)}
    for name, shape in shapes.items():
        for quantisation in ("none", "int4"):
            for phase in PHASES:
                base = Workload(shape, phase=phase, quantisation=quantisation).base  # type: ignore[arg-type]
                depths = stub_layers(base)
                stubs = [stub_of(base, layers) for layers in depths]
                openings, rounds = STUBS_PACE[name, quantisation, phase]
                started = time.monotonic()
                among_others = StubPrograms(programs_for(connect(ORT).info()), shape)
                few, many = _beside(base, stubs, ORT, openings=openings, rounds=rounds, programs=among_others)
                line = few.ratios + (many.ratios - few.ratios) * (shape.layers - depths[0]) / (depths[1] - depths[0])
                error, lower, upper = _over_openings((line - 1).reshape(openings, rounds))
                ends = {"error": error, "lower": lower, "upper": upper}
                took = {"layers": depths, "seconds": time.monotonic() - started}
                cells.append({"model": name, "quantisation": quantisation, "phase": phase, **took, **ends})
    return {"stub_error": max(abs(cell["error"]) for cell in cells), "stubs": cells}


def _over_openings(errors: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean without the fifth at either end, with a 95 % interval over openings; a median would need half as many again.

    Args:
        errors: Shape (n_openings, n_rounds).
    """
    drawn = np.random.default_rng(0).choice(errors, (2000, len(errors)), axis=0).reshape(2000, -1)
    lower, upper = np.percentile(trim_mean(drawn, TRIMMED, axis=1), [2.5, 97.5])
    return float(trim_mean(errors.ravel(), TRIMMED)), float(lower), float(upper)


def placements() -> list[list[Workload]]:
    """The ranks of each placement, to be decoded."""
    shape = open_model("smollm2-135m").shape
    return [
        [Workload(shape, AdapterConfig.uniform(shape, rank, kinds=kinds or None)) for rank in RANKS]
        for kinds in PLACEMENTS
    ]


def campaign() -> dict[str, Any]:
    """Five placements with four ranks each on the whole model: how long until the intervals are narrow."""
    every = [each for some in placements() for each in some]
    base = every[0].base
    programs_for(connect(ORT).info()).program(base)
    openings, rounds = CAMPAIGN_PACE
    started = time.monotonic()
    found = _beside(base, every, ORT, openings=openings, rounds=rounds, half_width=CAMPAIGN_HALF_WIDTH)
    elapsed_s = time.monotonic() - started
    own = [found[start : start + len(RANKS)] for start in range(0, len(found), len(RANKS))]
    steps = [overhead(each, some[0]) for some in own for each in some[1:]]
    between_ranks = max((step.upper - step.lower) / 2 for step in steps)
    between_placements = max((each.overhead.upper - each.overhead.lower) / 2 for each in found)
    narrow = between_ranks <= 0.01 and between_placements <= 0.02
    return {
        "configs20_s": elapsed_s if narrow else None,
        "configs20_elapsed_s": elapsed_s,
        "configs20_openings": len(set(found[0].openings.tolist())),
        "configs20_rank_half_width": between_ranks,
        "configs20_placement_half_width": between_placements,
    }


def _beside(
    base: Workload,
    workloads: list[Workload],
    device: str,
    *,
    openings: int,
    rounds: int,
    half_width: float | None = None,
    programs: Programs | None = None,
) -> list[Measurement]:
    found = profile(
        workloads,
        reference=base,
        device=connect(device),
        stop=FixedRounds(rounds) if half_width is None else precise_within(half_width, CAMPAIGN_LIMIT_S),
        seed=0,
        openings=openings,
        programs=programs,
    )
    if failures := [each.failure for each in found if each.failure]:
        raise SystemExit(f"not measured on {device}: {failures[0]}")
    return found
