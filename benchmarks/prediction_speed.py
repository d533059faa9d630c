"""How many adapter configs a fitted predictor judges per second, on this machine.

Times a real fit on simulated measurements of a model of 210 linears, then one config and 10,000 at once.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import SimulatedDevice, this_machine
from adaptare.predictor import LatencyPredictor
from adaptare.profiler import Measurement, ModelShape, Workload, named_space
from adaptare.profiler.store.measurement import Visit

SHAPE = ModelShape("llama", 30, 576, 9, 3, 64, 1536, 49152, "{}")
ROWS, BATCH, ROUNDS, REPETITIONS = 40, 10_000, 9, 15


def measurements(codes: NDArray[np.int64], rng: np.random.Generator) -> list[Measurement]:
    """Simulated ones, each off by half a per cent."""
    device, space = SimulatedDevice(launch_s=1e-5), named_space("sites", SHAPE)
    base = Workload(SHAPE).base
    base_s = device.latency_s(base.work())
    steady = tuple(Visit(0, number, base_s, (base_s,)) for number in range(ROUNDS))
    found = []
    for row in codes:
        workload = Workload(SHAPE, space.decode(row))
        seconds = device.latency_s(workload.work()) * float(np.exp(0.005 * rng.standard_normal()))
        visits = tuple(replace(visit, samples_s=(seconds,)) for visit in steady)
        found.append(Measurement(workload, device.info(), base, base_s, "simulated", visits, steady))
    return found


def median_s(call: Callable[[], object]) -> float:
    """Of some repetitions, after one that does not count."""
    call()
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure() -> dict[str, float]:
    rng = np.random.default_rng(0)
    space = named_space("sites", SHAPE)
    rows = measurements(space.at(space.spread(ROWS, rng)), rng)
    start = time.perf_counter()
    predictor = LatencyPredictor().fit(rows)
    fit_s = time.perf_counter() - start
    codes = space.at(space.sample(BATCH, rng))
    one = codes[:1]
    return {
        "configs_per_s": BATCH / median_s(lambda: predictor.predict(codes)),
        "single_ms": 1000 * median_s(lambda: predictor.predict(one)),
        "fit_s": fit_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    print(f"on {this_machine().hardware}", file=sys.stderr if arguments.json else sys.stdout)
    result = measure()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"fit on {ROWS} measurements: {result['fit_s']:.3f} s")
    print(f"one config of {len(SHAPE.sites)} sites: {result['single_ms']:.3f} ms")
    print(f"{BATCH} configs at once: {result['configs_per_s']:,.0f} configs/s")


if __name__ == "__main__":
    main()
