"""The tables of HELP: architectures of two spaces on many devices, of which some are known and others are new.

A space is given as blocks of columns for `BlockLinear`: what the known devices say of every architecture, and what an
architecture consists of. Its known devices are also asked how much each block matters, each as if it were new: then the
columns of others of its family are left out. Known devices have measured the first 900 architectures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from external_block_linear import BlockVariances, block_variances, stacked_blocks
from external_data import files
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
# Architectures that other devices have measured, and of which those for a new one are taken.
KNOWN = 900
CELLS, NETWORKS = "help-nb201", "help-fbnet"
FILES = {CELLS: "help_nasbench201.npz", NETWORKS: "help_fbnet.npz"}
BATCHES = {CELLS: (1, 32, 256), NETWORKS: (1, 32, 64)}
# With the batches of a GPU, the nine that HELP trains on; the four by which it chooses its settings are not used.
GPU = "1080ti"
OTHERS = ("silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1", "samsung_s7")
NEW = {
    CELLS: ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss"),
    NETWORKS: ("fpga", "raspi4", "eyeriss"),
}
TESTED = {CELLS: slice(900, 1900), NETWORKS: slice(4000, 5000)}
# Edges of a cell by their operation's place in its code; 0 = none.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
PATHS = ((0, 2, 5), (0, 4), (1, 5), (3,))
OPERATIONS = 4
# Kernel, expansion, groups of the blocks of a network; the last choice leaves the block out.
CHOICES = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1))
# Output channels, blocks and the first one's stride.
STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
FIRST_PIXELS, FIRST_CHANNELS = 112, 16


@dataclass(frozen=True)
class Space:
    """Architectures of one space.

    Args:
        codes: Shape (n, positions).
        latencies: Device -> shape (n,).
        known: Devices that may be learned from.
        blocks: Device names -> columns, see `stacked_blocks`, with what these devices say among them.
    """

    codes: NDArray[np.int64]
    latencies: Mapping[str, Array]
    known: Sequence[str]
    blocks: Callable[[Sequence[str]], tuple[Array, tuple[int, ...]]]


def space(folder: Path, name: str) -> Space:
    """One of both."""
    (file,) = files(folder, FILES[name])
    with np.load(file) as content:
        codes = content["ops"].astype(np.int64)
        latencies = {
            each.removeprefix("lat_"): content[each].astype(np.float64) for each in content.files if each[:4] == "lat_"
        }
    known = [*(f"{GPU}_{batch}" for batch in BATCHES[name]), *OTHERS]
    make = _cells if name == CELLS else _networks
    return Space(codes, latencies, known, make(codes, {device: latencies[device][:KNOWN] for device in known}))


def tested(latency: Array, name: str) -> Indices:
    """HELP's: 1,000 architectures without the fastest and the slowest tenth."""
    rows = np.arange(len(latency))[TESTED[name]]
    order = rows[np.argsort(latency[rows], kind="stable")]
    tenth = len(rows) // 10
    return order[tenth:-tenth]


def taught(found: Space, rows: int = 200, draws: int = 2) -> list[BlockVariances]:
    """What every known device says of how much the blocks matter, from some of its rows."""
    learned = []
    for number, device in enumerate(found.known):
        X, blocks = found.blocks([other for other in found.known if _family(other) != _family(device)])
        for draw in range(draws):
            seen = np.random.default_rng((number, draw)).choice(KNOWN, rows, replace=False)
            learned.append(block_variances(X[seen], found.latencies[device][seen], blocks))
    return learned


def _family(device: str) -> str:
    return device.split("_")[0]


def _cells(codes: NDArray[np.int64], latencies: Mapping[str, Array]) -> Callable[..., tuple[Array, tuple[int, ...]]]:
    """Cells of NAS-Bench-201: operations that are on a path from input to output, where they are, pairs and paths."""
    live = _on_paths(codes)
    at, anywhere = _one_hot(live), _one_hot(codes)
    counts = at.reshape(len(codes), len(EDGES), OPERATIONS).sum(axis=1)
    apart = [(i, j) for i, j in combinations(range(at.shape[1]), 2) if i // OPERATIONS != j // OPERATIONS]
    pairs = np.array([at[:, i] * at[:, j] for i, j in apart]).T
    pairs = pairs[:, pairs[:KNOWN].std(axis=0) > 0]
    open_ = np.array([(live[:, path] > 0).all(axis=1) for path in PATHS], dtype=np.float64).T
    along = [
        open_[:, i] * (live[:, path] == operation).sum(axis=1)
        for i, path in enumerate(PATHS)
        for operation in range(1, OPERATIONS + 1)
    ]
    meeting = np.array([(live[:, edges] > 0).sum(axis=1) for edges in ([0], [1, 2], [3, 4, 5])], dtype=np.float64).T
    paths = np.column_stack([*along, open_, meeting])
    dead = (codes != live).astype(np.float64)
    products = [counts[:, i] * counts[:, j] for i in range(OPERATIONS) for j in range(i, OPERATIONS)]
    said = _said(np.column_stack([at, pairs, *products, paths, anywhere]), latencies)

    def blocks(devices: Sequence[str]) -> tuple[Array, tuple[int, ...]]:
        own = [_unit(counts), at, pairs, _unit(paths), np.hstack([anywhere, dead])]
        return stacked_blocks([*_common(said, devices), *own])

    return blocks


def _networks(codes: NDArray[np.int64], latencies: Mapping[str, Array]) -> Callable[..., tuple[Array, tuple[int, ...]]]:
    """Networks of FBNet: a sum over blocks of what each choice asks of the hardware, in all and in each stage."""
    taken = np.eye(len(CHOICES) + 1)[codes]
    asked, stages = _asked()
    whole = np.einsum("npc,pcq->nq", taken, asked)
    staged = np.stack(
        [np.einsum("npc,pcq->nq", taken, asked * (stages == stage)[:, None, None]) for stage in range(len(STAGES))], 2
    )
    flat = taken.reshape(len(codes), -1)
    said, prices = {}, {}
    for device, latency in latencies.items():
        fitted = RidgeCV(np.logspace(-4, 2, 13)).fit(flat[:KNOWN], latency / latency.mean())
        table = fitted.coef_.reshape(taken.shape[1:])
        prices[device] = table - table.min(axis=1, keepdims=True)
        said[device] = np.einsum("npc,pc->n", taken, prices[device])

    def blocks(devices: Sequence[str]) -> tuple[Array, tuple[int, ...]]:
        priced = taken * np.mean([prices[device] for device in devices], axis=0)
        by_choice = np.stack([priced[:, stages == stage].sum(axis=1) for stage in range(len(STAGES))], axis=2)
        own = [_unit(whole), (staged / whole.std(axis=0)[:, None]).reshape(len(codes), -1), by_choice.sum(axis=2)]
        own += [by_choice.reshape(len(codes), -1), priced.reshape(len(codes), -1), flat]
        return stacked_blocks([*_common(said, devices), *own])

    return blocks


def _common(said: Mapping[str, Array], devices: Sequence[str]) -> tuple[Array, Array]:
    """What devices agree about, and what is left of each."""
    each = _unit(np.stack([said[device] for device in devices], axis=1))
    agreed = _unit(each.mean(axis=1, keepdims=True))
    return agreed, each - agreed * (each * agreed).mean(axis=0)


def _said(X: Array, latencies: Mapping[str, Array]) -> dict[str, Array]:
    """What each device is predicted to take for every architecture, from those it has measured."""
    spread = np.maximum(X[:KNOWN].std(axis=0), 1e-3)
    ridges = {device: RidgeCV(np.logspace(-1, 4, 16)) for device in latencies}
    return {
        device: ridge.fit(X[:KNOWN] / spread, latencies[device] / latencies[device].mean()).predict(X / spread)
        for device, ridge in ridges.items()
    }


def _on_paths(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    on = np.zeros(codes.shape, dtype=np.bool_)
    for path in PATHS:
        on[:, path] |= (codes[:, path] > 0).all(axis=1, keepdims=True)
    return np.where(on, codes, 0)


def _one_hot(codes: NDArray[np.int64]) -> Array:
    """Of operations; none has no column."""
    return np.eye(OPERATIONS + 1)[codes][:, :, 1:].reshape(len(codes), -1)


def _unit(columns: Array) -> Array:
    centred = columns - columns.mean(axis=0)
    return centred / np.maximum(centred.std(axis=0), 1e-9)


def _asked() -> tuple[Array, NDArray[np.int64]]:
    """FLOPs by kind, values moved, weights, launches and more of every choice, and the stage of every block.

    Returns:
        Shapes (blocks, choices, 7) and (blocks,).
    """
    found, stages = [], []
    pixels, channels = FIRST_PIXELS, FIRST_CHANNELS
    for stage, (out, blocks, first_stride) in enumerate(STAGES):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            before, after = pixels**2, (pixels // stride) ** 2
            rows: list[tuple[float, ...]] = []
            for kernel, expansion, groups in CHOICES:
                inner = channels * expansion
                pointwise = (channels * inner * before + inner * out * after) / groups
                depthwise = kernel**2 * inner * after
                moved = before * (channels + 2 * inner) + after * (2 * inner + out)
                weights = (channels * inner + inner * out) / groups + kernel**2 * inner
                wide = inner * after if kernel == 5 else 0
                rows.append((pointwise, depthwise, moved, weights, 3, groups - 1, wide))
            kept = stride == 1 and channels == out
            projected = (channels * out * after, 0, after * (channels + out), channels * out, 1, 0, 0)
            found.append([*rows, (0,) * 7 if kept else projected])
            stages.append(stage)
            pixels, channels = pixels // stride, out
    return np.array(found, dtype=np.float64), np.array(stages)
