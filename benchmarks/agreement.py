"""The same program on this machine, by ssh and by adb: overheads agree, and what the agent in Python adds to a call.

python benchmarks/agreement.py [--json] [--minutes 9] [--blocks 20] [--model smollm2-135m] [--layers 6]

All ways lead to the same processor, the first, and to the same ONNX Runtime: the agent in Python and the agent in C
here, both by a real ssh server on loopback, and the agent in C by a real adbd in a network of its own. The program is
decode after 64 cached positions, of a model of a few layers, with an adapter of rank 16 on all linears beside its base.

A block measures each way once, in random order, in a new worker beside a process that holds a random amount of memory
(see `stock_process.py` for both). Blocks are the independent samples: intervals are 95 % ones of Student's t over them,
and none is left out. Two ways agree if each overhead lies in the interval of the other, which chance alone denies some;
`difference` is paired, and says whether 0 is inside. `seconds` compares the base's seconds of two ways within a block.

There are at least four blocks, and at most `--blocks`, as far as `--minutes` suffice.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loopback import AbsentError, by_adb, by_ssh, here
from scipy import stats
from stock_memory import drawn_size, memory_held

from adaptare.core import AdaptareError
from adaptare.devices import connect
from adaptare.profiler import Configuration, FixedRounds, Workload, open_model, profile, programs_for

RANK, PAST, LEVEL, LEAST_BLOCKS, ROUNDS = 16, 64, 0.95, 4, 12
PROCESSOR = 0  # adbd of the tests runs on it
PYTHON, NATIVE = "ort-cpu:threads=1", "ort-native:threads=1"
WAYS = {
    "local-python": (here, PYTHON),
    "local-native": (here, NATIVE),
    "ssh-python": (by_ssh, PYTHON),
    "ssh-native": (by_ssh, NATIVE),
    "adb-native": (by_adb, NATIVE),
}
PLACES = (here, by_ssh, by_adb)
# Ratios of seconds: the other agent at the same place, and the same agent at another place.
COMPARED = (
    ("local-native", "local-python"),
    ("ssh-native", "ssh-python"),
    ("ssh-python", "local-python"),
    ("ssh-native", "local-native"),
    ("adb-native", "local-native"),
)


@dataclass(frozen=True)
class Sample:
    """One way in one block.

    Args:
        base_s: Seconds of the base.
        overhead: Of the adapter, as a share of them.
    """

    base_s: float
    overhead: float


def pair(model: str, layers: int) -> tuple[Workload, Workload]:
    """Base and adapted model."""
    whole = open_model(model).shape
    shape = whole.stub(min(layers, whole.layers))
    adapted = Workload(shape, Configuration.uniform(shape, RANK), phase="decode", past=PAST)
    return adapted.base, adapted


def sample(spelling: str, base: Workload, adapted: Workload, seed: int) -> Sample:
    """A new worker, one loading of both programs. Raises `AdaptareError`."""
    device = connect(spelling)
    stop = FixedRounds(ROUNDS)
    (found,) = profile(
        [adapted], reference=base, device=device, stop=stop, seed=seed, programs=programs_for(device.info())
    )
    if found.failure:
        raise RuntimeError(f"{spelling}: {found.failure}")
    return Sample(found.reference_raw_s, found.overhead.middle)


def blocks_of(
    spellings: Mapping[str, str], base: Workload, adapted: Workload, *, most: int, minutes: float
) -> list[dict[str, Sample]]:
    """Samples of every way, block by block."""
    rng, started = np.random.default_rng(0), time.monotonic()
    for spelling in spellings.values():  # brings all files, and exports what is missing
        sample(spelling, base, adapted, 0)
    prepared, blocks = time.monotonic(), list[dict[str, Sample]]()
    while len(blocks) < most:
        now = time.monotonic()
        mean_s = (now - prepared) / max(1, len(blocks))
        if len(blocks) >= LEAST_BLOCKS and now + mean_s > started + 60 * minutes:
            break
        block = {}
        for way in rng.permutation(list(spellings)):
            with memory_held(drawn_size(rng)):
                block[str(way)] = sample(spellings[way], base, adapted, int(rng.integers(2**31)))
        blocks.append(block)
        say(f"block {len(blocks)}: " + ", ".join(f"{way} {1e3 * block[way].base_s:.2f} ms" for way in spellings))
    return blocks


def interval(samples: Sequence[float]) -> dict[str, float]:
    """Mean of independent samples, with its interval."""
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(samples) - 1) * stats.sem(samples))
    middle = float(np.mean(samples))
    return {"middle": middle, "lower": middle - half, "upper": middle + half}


def summary(blocks: Sequence[Mapping[str, Sample]]) -> dict[str, Any]:
    """Overhead of each way, their agreement by pairs, and ratios of seconds."""
    ways = list(WAYS)
    overheads = {way: interval([block[way].overhead for block in blocks]) for way in ways}
    pairs = []
    for one, other in itertools.combinations(ways, 2):
        apart = interval([block[one].overhead - block[other].overhead for block in blocks])
        inside = _holds(overheads[one], overheads[other]) and _holds(overheads[other], overheads[one])
        zero = apart["lower"] <= 0 <= apart["upper"]
        pairs.append({"ways": [one, other], "inside": inside, "difference": apart, "zero_inside": zero})
    seconds = []
    for one, other in COMPARED:
        logarithms = interval([float(np.log(block[one].base_s / block[other].base_s)) for block in blocks])
        seconds.append({"ways": [one, other], **{name: float(np.exp(end)) for name, end in logarithms.items()}})
    return {
        "blocks": len(blocks),
        "overheads": overheads,
        "pairs": pairs,
        "agree": sum(each["inside"] for each in pairs),
        "zero_inside": sum(each["zero_inside"] for each in pairs),
        "of": len(pairs),
        "seconds": seconds,
        "samples": {
            way: [{"base_s": block[way].base_s, "overhead": block[way].overhead} for block in blocks] for way in ways
        },
    }


def _holds(interval: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return interval["lower"] <= other["middle"] <= interval["upper"]


def shown(found: Mapping[str, Any]) -> str:
    """Lines for people."""
    lines = [f"{found['blocks']} blocks"]
    for way, share in found["overheads"].items():
        lines.append(f"{way:14} overhead {share['middle']:+.2%} [{share['lower']:.2%}, {share['upper']:.2%}]")
    for each in found["pairs"]:
        apart = each["difference"]
        verdict = "inside each other's intervals" if each["inside"] else "not inside each other's intervals"
        ends = f"{apart['middle']:+.2%} [{apart['lower']:.2%}, {apart['upper']:.2%}]"
        lines.append(f"{' and '.join(each['ways'])}: {verdict}; difference {ends}")
    for each in found["seconds"]:
        ends = f"{each['middle']:.4f} [{each['lower']:.4f}, {each['upper']:.4f}]"
        lines.append(f"seconds of {' over '.join(each['ways'])}: {ends}")
    summed = f"{found['agree']} of {found['of']} pairs agree; {found['zero_inside']} differences have 0 inside"
    return "\n".join([*lines, summed])


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=6)
    options = parser.parse_args()
    if options.blocks < LEAST_BLOCKS:
        parser.error(f"--blocks must be at least {LEAST_BLOCKS}, not {options.blocks}")

    os.sched_setaffinity(0, {PROCESSOR})  # of everything that is started from here
    base, adapted = pair(options.model, options.layers)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
            places = {place: stack.enter_context(place(Path(folder) / place.__name__)) for place in PLACES}
            spellings = {way: places[place] + runtime for way, (place, runtime) in WAYS.items()}
            blocks = blocks_of(spellings, base, adapted, most=options.blocks, minutes=options.minutes)
    except (AdaptareError, AbsentError) as error:
        sys.exit(str(error))
    found = summary(blocks)
    print(json.dumps({"model": options.model, "layers": base.shape.layers, **found}) if options.json else shown(found))


if __name__ == "__main__":
    main()
