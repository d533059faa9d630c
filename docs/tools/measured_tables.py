"""Tables of measured and simulated numbers. A function returns the heading and the rows; its name is the table's."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Table = list[list[str]]
Interval = tuple[float, float, float]
RUNS = {"detect_5pct"}
TABLES: dict[str, Callable[[], Table]] = {}


@functools.cache
def kept(name: str) -> Any:
    """A file of `benchmarks/measured`."""
    folder = Path(__file__).parents[2] / "benchmarks" / "measured"
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def table(function: Callable[[], Table]) -> Callable[[], Table]:
    """Registers a table under the name of its function, with dashes."""
    TABLES[function.__name__.replace("_", "-")] = function
    return function


def percent(values: Sequence[float]) -> str:
    """A change in per cent with its interval: middle, lower and upper end."""
    middle, lower, upper = (round(100 * value, 1) + 0.0 for value in values)  # no -0.0
    return f"{middle:+.1f} % [{lower:.1f}, {upper:.1f}]"


def value(values: Sequence[float], digits: int, sign: str = "") -> str:
    """A number with its interval: middle, lower and upper end."""
    middle, lower, upper = (round(each, digits) + 0.0 for each in values)
    return f"{middle:{sign}.{digits}f} [{lower:.{digits}f}, {upper:.{digits}f}]"


def middle_first(interval: dict[str, float]) -> Interval:
    """An interval of a result, in the order of this file."""
    return interval["middle"], interval["lower"], interval["upper"]


def reordered(ends: Sequence[float]) -> Interval:
    """An interval that is written as lower end, middle and upper end."""
    lower, middle, upper = ends
    return middle, lower, upper


@table
def seconds_per_digit() -> Table:
    """Seconds that half-widths take, before openings were forks and since; and the spread of optimum-benchmark."""
    kept_rows, optimum = kept("seconds_per_digit")["devices"], kept("seconds_per_digit")["optimum"]
    bases = {"torch": "PyTorch fp32", "fp32": "ONNX Runtime fp32", "int4": "ONNX Runtime 4-bit"}
    rows = [["device", "release", "seconds per opening", "first interval, s", "±3 points, s", "±2", "±1"]]
    for name, words in bases.items():
        for release, said in (("other", "before"), ("this", "now")):
            [row] = [row for row in kept_rows if (row["device"], row["release"]) == (name, release)]
            needed = [f"{row['needed_s'][points]:.0f}" for points in ("3", "2", "1")]
            rows.append([words, said, f"{row['opening_s']:.1f}", f"{4 * row['opening_s']:.0f}", *needed])
    spread = f"spread {optimum['sd_points']:.1f} points"
    return [*rows, ["PyTorch fp32", "optimum-benchmark", spread, "none", "", "", ""]]


@table
def adapter_ways() -> Table:
    """Overhead of an adapter by the way that its operators are written."""
    found = kept("graph_adapters")
    ways = list(dict.fromkeys(way for cell in found.values() for way in cell["ways"] if way != "base"))

    def overhead(cell: Any, way: str) -> str:
        lower, middle, upper = (each - 1 for each in cell["ways"][way]["ratio"])
        return percent((middle, lower, upper))

    return [
        ["adapter", "swappable is written as", *ways],
        *(
            [name, cell["written"], *(overhead(cell, way) if way in cell["ways"] else "" for way in ways)]
            for name, cell in found.items()
        ),
    ]


@table
def earlier_adapters() -> Table:
    """Overhead and time of adapters in earlier graphs and in the present ones."""
    rows = [["adapter", "mode", "overhead in earlier graphs", "overhead", "time relative to earlier"]]
    for name, cell in kept("graph_adapters_earlier").items():
        ways = cell["ways"]
        for mode, way in {"static": "sum", "swappable": cell["written"]}.items():
            own = ways[f"{mode} {way}"]
            ratios = ways[f"earlier {mode}"]["to_own_base"], own["ratio"]
            overheads = [percent([middle - 1, lower - 1, upper - 1]) for lower, middle, upper in ratios]
            lower, middle, upper = own["to_earlier"]
            rows.append([name, mode, *overheads, value((middle, lower, upper), 2)])
    return rows


def _beside_plain_processes(name: str) -> Table:
    rows = [["cell", "overhead here", "in plain processes", "difference, points"]]
    for cell in kept(name)["cells"]:
        points = [100 * cell[end] for end in ("difference", "lower", "upper")]
        here, there = (f"{100 * cell[side]:+.1f} %" for side in ("overhead", "stock_overhead"))
        rows.append([cell["cell"], here, there, value(points, 1, "+")])
    return rows


@table
def llama_stock() -> Table:
    """Agreement of overheads in llama.cpp with plain processes."""
    return _beside_plain_processes("llama_stock")


@table
def openvino_stock() -> Table:
    """Agreement of overheads in OpenVINO with plain processes."""
    return _beside_plain_processes("openvino_stock")


@table
def swap_cost() -> Table:
    """Memory of the base and with an adapter, and seconds from a change of the adapter to the first right token."""
    found = kept("swap_cost")
    contexts = sorted({each["context"] for device in found for each in device["swap_s"]})
    rows = [["device", "base, MB", "with the adapter, MB", *(f"{tokens:,} tokens, s" for tokens in contexts)]]
    for device in found:
        memory = [f"{device[name]['middle'] / 1e6:,.0f}" for name in ("base_bytes", "adapted_bytes")]
        seconds = {each["context"]: value(middle_first(each), 2) for each in device["swap_s"]}
        rows.append([f"`{device['device']}`", *memory, *(seconds.get(tokens, "") for tokens in contexts)])
    return rows


@table
def llama_ranks() -> Table:
    """Ranks beside a multiple of 32, in llama.cpp."""
    ranks = ("31", "32", "33", "63", "64")
    found = kept("llama_ranks")

    def cell(phase: str, rank: str) -> str:
        lower, middle, upper = (ratio - 1 for ratio in found[phase][rank]["ratio"])
        return percent((middle, lower, upper))

    phases = {"decode": "decode after 64", "prefill": "prefill of 64"}
    rows = [[words, *(cell(phase, rank) for rank in ranks)] for phase, words in phases.items()]
    return [["phase", *(f"rank {rank}" for rank in ranks)], *rows]


@table
def graphs() -> Table:
    """Time of our graphs over that of the model builder's own."""
    columns = {
        "fp32": ("fp32", "adaptare"),
        "4 bits": ("int4", "adaptare"),
        "fp32, earlier": ("fp32", "before"),
        "4 bits, earlier": ("int4 with earlier", "before"),
    }

    def cell(cell_name: str, quantisation: str, which: str) -> str:
        found = kept("graphs")[quantisation]["cells"].get(cell_name, {}).get(which)
        if not found:
            return ""
        lower, middle, upper = found["ratio"]
        return value((middle, lower, upper), 2)

    rows = [[name, *(cell(name, *column) for column in columns.values())] for name in kept("graphs")["fp32"]["cells"]]
    return [["phase", *columns], *rows]


@table
def rounded_activations() -> Table:
    """Effect of 8-bit activations beside 4-bit weights on logits, tokens and loss."""
    words = {4: "`int4`: activations rounded to 8 bits", 1: "`int4-weight-only`: 32-bit activations"}
    rows = [["quantisation", "median difference", "95th percentile", "largest", "same token", "loss, nats per token"]]
    for level in kept("rounded_activations")["levels"]:
        shares = [level[f"difference_{name}"] for name in ("median", "p95", "largest")]
        lower, middle, upper = level["loss_difference"]
        rows.append(
            [
                words[level["accuracy_level"]],
                *(f"{100 * share:.1f} %" for share in shares),
                f"{100 * level['same_token']:.1f} %",
                value((middle, lower, upper), 3, "+"),
            ]
        )
    return rows


@table
def generated_tokens() -> Table:
    """Greedy tokens of a runtime that equal PEFT's, by runtime and arithmetic."""
    genai, openvino, llama = kept("genai_tokens"), kept("openvino_tokens"), kept("llama_tokens")
    groups = {
        "onnxruntime-genai, fp32": [row for row in genai if row["weights"] == "none"],
        "onnxruntime-genai, `int4-weight-only`": [row for row in genai if row["weights"] == "int4-weight-only"],
        "onnxruntime-genai, `int4`": [row for row in genai if row["weights"] == "int4"],
        "OpenVINO, `execution_mode=accuracy`": [row for row in openvino if row["mode"] == "accuracy"],
        "OpenVINO, its defaults": [row for row in openvino if row["mode"] == "performance"],
        **{f"llama.cpp, {weights}": [row for row in llama if row["weights"] == weights] for weights in ("F32", "F16")},
    }
    return [
        ["runtime", "models and adapters", "all 32 tokens equal", "fewest equal tokens"],
        *(
            [
                name,
                str(len(rows)),
                str(sum(row["equal_tokens"] == row["tokens"] for row in rows)),
                str(min(row["equal_tokens"] for row in rows)),
            ]
            for name, rows in groups.items()
        ),
    ]


@table
def verdicts() -> Table:
    """Simulated verifications of winners on, below and above a budget."""
    rows = [["winners", "openings differ by", "one is met wrongly", "first is not met wrongly", "openings"]]
    for row in kept("verdict_errors")["rows"]:
        wrong, lost = row["any_met_wrongly"], row["lost"]
        rows.append(
            [
                row["case"],
                f"{100 * row['noise']:.1f} %",
                "" if wrong is None else f"{100 * wrong:.1f} %",
                "" if lost is None else f"{100 * lost:.1f} %",
                f"{row['openings']:.0f}",
            ]
        )
    return rows


@table
def stock_process() -> Table:
    """Agreement with a process that does not import adaptare."""
    seconds = [
        value([cell[name] for name in ("seconds_ratio", "seconds_lower", "seconds_upper")], 2)
        for cell in kept("stock_process")["cells"]
    ]
    rows = _beside_plain_processes("stock_process")
    return [[*row, own] for row, own in zip(rows, ["base seconds, ratio", *seconds], strict=True)]


@table
def interval_coverage() -> Table:
    """How often 95 % intervals hold the truth, and how often a difference is found."""
    found, levels = kept("profiling"), kept("two_levels")["two_levels_coverage"]
    shares = {
        "intervals that hold the truth: independent noise": "coverage_iid",
        "autocorrelated noise": "coverage_ar1",
        "a speed of its own in each opening": "coverage_openings",
        "a program called unequal to itself": "aa_false_positive",
        "a toy program of matrix products with 5 % more work is found": "detect_5pct",
    }
    rows = [
        [
            words,
            f"{100 * found[key]['value']:.1f} %",
            f"{found[key]['cases']} {'runs' if key in RUNS else 'simulated series'}",
        ]
        for words, key in shares.items()
    ]
    lowest, highest = (f"{100 * end:.1f}" for end in (min(levels.values()), max(levels.values())))
    slower = [
        "a share of loadings 6 % slower: intervals that hold the middle half of loadings",
        f"{lowest} to {highest} %",
    ]
    return [["question", "share", "of"], *rows, [*slower, f"{len(levels)} cases of 2000 simulated series"]]


@table
def long_memory() -> Table:
    """Intervals and notes when the noise of consecutive rounds is correlated."""
    found = kept("strongly_autocorrelated")["strongly_autocorrelated"]
    words = {
        "coverage_openings": "95 % intervals over 8 openings that hold the truth",
        "coverage_one_opening": "95 % intervals over 60 rounds of one opening",
        "flat": "series that are called flat",
        "nothing_dropped": "series of which no round is dropped as warm-up",
        "false_alarm": "series in which the device's speed is said to change",
        "step_seen": "changes of 20 % that are noted, at most ten rounds off",
    }
    rows = [[text, *(f"{100 * each[key]:.1f} %" for each in found.values())] for key, text in words.items()]
    return [["correlation of consecutive rounds", *found], *rows]
