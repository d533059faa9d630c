"""`adaptare parts`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adaptare.arguments import (
    DEFAULT_DEVICE,
    BatchOption,
    CacheOption,
    DeviceOption,
    HalfWidthOption,
    JsonOption,
    ModelArgument,
    ModeOption,
    OpeningsOption,
    SecondsOption,
    SeedOption,
)
from adaptare.console import Console, between, command, milliseconds, percent
from adaptare.pace import PARTS

if TYPE_CHECKING:
    from adaptare.profiler import Caches, Interval, Measurement, Parts


@command
def parts(
    model: ModelArgument,
    adapter: Annotated[
        Path | None, typer.Argument(help="A PEFT adapter folder.", show_default="--rank; without both, the base")
    ] = None,
    rank: Annotated[int, typer.Option("--rank", help="The same on every chosen site; 0: no adapter.", min=0)] = 0,
    sites: Annotated[
        str | None, typer.Option("--sites", help="Kinds of linears, for example q_proj,v_proj.", show_default="all")
    ] = None,
    phase: Annotated[Literal["prefill", "decode"], typer.Option("--phase", help="What to call.")] = "decode",
    length: Annotated[int, typer.Option("--length", help="Tokens in prefill, cached positions in decode.")] = 64,
    batch: BatchOption = 1,
    mode: ModeOption = "swappable",
    device: DeviceOption = DEFAULT_DEVICE,
    half_width: HalfWidthOption = PARTS.half_width,
    seconds: SecondsOption = PARTS.seconds,
    openings: OpeningsOption = None,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """What blocks and head take alone, with cold caches and hot ones, and how far their sum is from the whole."""
    from adaptare.devices import DeviceError, InputError
    from adaptare.overhead_grid import ALL, check_alone, grid
    from adaptare.profiler import (
        Configuration,
        Workload,
        measure_parts,
        open_model,
        precise_within,
        programs_for,
        read_peft,
    )
    from adaptare.target import target_of

    console = Console(as_json=as_json)
    if length < (phase == "prefill"):
        raise InputError(f"--length must be at least 1 in prefill and 0 in decode, not {length}")
    check_alone(adapter, rank=rank, sites=sites)
    if not (adapter or rank) and (sites or mode != "swappable"):
        raise InputError("--sites and --mode say where and how an adapter is applied; give one, or --rank")
    target = target_of(device)
    shape = open_model(model, cache=cache).shape
    if adapter:
        config = read_peft(adapter, shape)
    else:
        config = grid(shape, [rank], [ALL if sites is None else sites])[0].config if rank else Configuration()
    adapted = Workload(shape, config, mode=mode, phase=phase, tokens=length, past=length, batch=batch, **target.weights)
    whole = adapted if config.ranks else adapted.base
    console.note("timing the whole, and its parts with cold caches and hot ones, by turns")
    found = measure_parts(
        whole,
        device=target.device,
        stop=precise_within(half_width, seconds, openings),
        seed=seed,
        caches=("cold", "hot"),
        programs=programs_for(target.device.info(), cache=cache),
    )
    if failure := next((each.together.failure for each in found.values() if each.together.failure), ""):
        raise DeviceError(f"a part does not run on {target.name}: {failure}")
    what = f"{len(config.ranks)} adapters, {mode}" if config.ranks else "the base"
    console.table(
        f"{model} on {target.name}, {phase} {length}: {what}",
        ["part", "layers", "cold ms", "hot ms", "cold, of the whole"],
        rows_of(found),
    )
    for caches, each in found.items():
        console.say(f"{caches} parts together are {_over_whole(each.together)} off the whole")
    console.result(
        {
            "model": model,
            "device": target.device.info().device,
            **target.weights,
            "phase": phase,
            "length": length,
            "sites": len(config.ranks),
            "mode": whole.mode,
            "whole_s": found["cold"].head.reference_s,
            "parts": {caches: _summary(each) for caches, each in found.items()},
        }
    )


def rows_of(found: "dict[Caches, Parts]") -> list[list[str]]:
    """Every kind of block, the head, their sum and the whole."""
    cold, hot = found["cold"], found["hot"]
    whole_s = cold.head.reference_s
    kinds = [_kind(block) if len(cold.blocks) > 1 else "block" for block, _ in cold.blocks]
    lines = [
        (name, count, own, other) for name, (own, count), (other, _) in zip(kinds, cold.blocks, hot.blocks, strict=True)
    ]
    lines += [("head", 1, cold.head, hot.head), ("together", 0, cold.together, hot.together)]
    rows = [
        [
            name,
            str(count or ""),
            milliseconds(own.latency_s),
            milliseconds(other.latency_s),
            f"{(count or 1) * own.ratio.middle:.1%}",
        ]
        for name, count, own, other in lines
    ]
    return [*rows, ["the whole", "", milliseconds(whole_s), "", ""]]


def _kind(block: "Measurement") -> str:
    ranks = block.workload.configuration.by_path
    return f"block, {len(ranks)} sites up to r{max(ranks.values())}" if ranks else "block, no adapter"


def _over_whole(together: "Measurement") -> str:
    ratio = together.ratio
    one = together.within_one_opening
    ends = between(percent(ratio.lower - 1), percent(ratio.upper - 1), within_one_opening=one)
    return f"{percent(ratio.middle - 1)} {ends}"


def _summary(parts: "Parts") -> dict[str, Any]:
    return {
        "blocks": [
            {"layers": count, "ranks": block.workload.configuration.by_path, **_seconds(block)}
            for block, count in parts.blocks
        ],
        "head": _seconds(parts.head),
        "together": _seconds(parts.together),
        "over_whole": _ends(parts.together.ratio),
    }


def _seconds(measurement: "Measurement") -> dict[str, float | bool]:
    return {
        "seconds": measurement.latency_s,
        "lower_s": measurement.lower_s,
        "upper_s": measurement.upper_s,
        "within_one_opening": measurement.within_one_opening,
    }


def _ends(ratio: "Interval") -> dict[str, float]:
    return {"middle": ratio.middle, "lower": ratio.lower, "upper": ratio.upper}
