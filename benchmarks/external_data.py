"""Latencies that others have measured and published, with features of what was measured; see prediction_external.py."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from external_few_shot import Columns
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Architectures and what they took.

    Args:
        name: Of the file.
        X: Features. Shape (n, n_features).
        columns: What they mean.
        latencies: Device -> milliseconds, in the order of measuring. Shape (n,) each.
        own: What other baselines of the same data need.
    """

    name: str
    X: Array
    columns: Columns
    latencies: Mapping[str, Array]
    own: Mapping[str, Array]


def files(folder: Path, pattern: str) -> list[Path]:
    """All of one format. Ends the program with 3 if there are none."""
    found = sorted(folder.glob(pattern))
    if not found:
        print(f"error: {folder} has no {pattern}; name the folder of the data with --data", file=sys.stderr)
        raise SystemExit(3)
    return found


def gemms(folder: Path) -> Iterator[Table]:
    """Products of the shapes of LoRA, one table for each device: memory and arithmetic as the data sheet has them."""
    for file in files(folder, "lora_gemm*.csv.gz"):
        rows: Any = np.genfromtxt(file, delimiter=",", names=True, dtype=None, encoding="utf-8")
        for system in np.unique(rows["system"]):
            own = rows[rows["system"] == system]
            m, n, k = (own[name].astype(np.float64) for name in "mnk")
            flops, moved = 2 * m * n * k, 2 * (m * n + n * k + m * k)
            memory, arithmetic = 1e3 * moved / own["bandwidth_bytes_s"], 1e3 * flops / own["peak_flops"]
            logs = np.log(np.stack([m, n, k], axis=1))
            tiles = [np.log(np.ceil(m / size) * np.ceil(n / size)) for size in (64, 128)]
            waste = [np.log(np.ceil(m / size) * size / m) for size in (64, 128)]
            more = [np.log(memory), np.log(arithmetic), np.log(np.minimum(n, k)), n < k, *tiles, *waste]
            X = np.column_stack([memory, arithmetic, logs, *more, logs[:, 0] + logs[:, 1], logs[:, 0] + logs[:, 2]])
            names = (
                "memory ms",
                "arithmetic ms",
                "log m",
                "log n",
                "log k",
                *(f"more {i}" for i in range(len(more) + 2)),
            )
            columns = Columns(names, size=0, work=(0, 1), smooth=(2, 3, 4))
            yield Table(str(system), X, columns, {str(system): own["latency_ms"]}, {})


def gpts(folder: Path) -> Iterator[Table]:
    """GPT-2-like decoders, prefill: FLOPs, and what adds up to them by kind; details are those of single widths."""
    for file in files(folder, "hwgptbench_*.npz"):
        with np.load(file) as content:
            codes = content["X"].astype(np.float64)
            flops = content["flops"].astype(np.float64)
            names = [name for name in content.files if name.startswith("lat_")]
            latencies = {name.removeprefix("lat_"): content[name].mean(axis=1) for name in names}
        layers_most = (codes.shape[1] - 3) // 2
        width, layers, bias = codes[:, :3].T
        each, ratios = codes[:, 3 : 3 + layers_most], codes[:, 3 + layers_most :].sum(axis=1)
        heads = each.sum(axis=1)
        work = [flops, layers, heads, width * layers, width * heads, width**2 * ratios, width * ratios]
        known = np.unique(each[each > 0])
        counts = [(each == number).sum(axis=1) for number in known[1:]]
        details = [
            (width == own) * part
            for own in np.unique(width)
            for part in (np.ones_like(width), layers, bias, ratios, heads, *counts)
        ]
        columns = Columns(
            ("flops", "layers", "heads", "e l", "e h", "e e r", "e r", *(f"detail {i}" for i in range(len(details)))),
            size=0,
            work=tuple(range(len(work))),
            details=tuple(range(len(work), len(work) + len(details))),
        )
        own = {"flops": flops, "per width": np.column_stack(details), "codes": codes}
        yield Table(file.stem, np.column_stack([*work, *details]), columns, latencies, own)


def hats(folder: Path) -> Iterator[Table]:
    """Transformers for translation: encoder once, decoder token by token."""
    for file in files(folder / "hat", "*.csv"):
        rows = np.genfromtxt(file, delimiter=",", skip_header=1)
        plain, latency = rows[:, :10], rows[:, 10:12].sum(axis=1)
        width, layers, inner, heads, d_width, d_layers, d_inner, d_heads, d_cross, d_sees = plain.T
        work = [
            layers * each for each in (np.ones_like(width), width, width**2, width * inner, heads)
        ] + [
            d_layers * each
            for each in (
                np.ones_like(width), d_width, d_width**2, d_width * d_inner, d_width * width, d_heads, d_cross,
                d_cross * d_sees,
            )
        ]  # fmt: skip
        names = (*(f"work {i}" for i in range(len(work))), *(f"plain {i}" for i in range(10)))
        count = len(work)
        columns = Columns(names, size=5, work=tuple(range(count)), smooth=tuple(range(count, count + 10)))
        yield Table(file.stem, np.column_stack([*work, plain]), columns, {file.stem: latency}, {"plain": plain})
