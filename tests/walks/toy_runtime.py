"""A runtime from outside: an engine of three numpy operations, its device, and the programs of models on it.

Registered by two entry points, `adaptare.devices: toy = toy_runtime:toy` and `adaptare.programs: toy =
toy_runtime:ToyPrograms`; the class of the runtime is named by its device.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adaptare.devices import AgentDevice, DeviceInfo, Feed, Program, RuntimeFacts, Transport, program_file

Operation = Callable[[np.ndarray], np.ndarray]


def linear(seed: int, rows: int, columns: int, rank: int, merged: bool) -> Operation:
    """A linear with weights by a seed, and an adapter of a rank (0: none) that is added to them or to its output."""
    rng = np.random.default_rng(seed)
    weight, down, up = (rng.uniform(-0.2, 0.2, size) for size in ((rows, columns), (rank, columns), (rows, rank)))
    if merged:
        weight += up @ down
    return lambda x: weight @ x if merged or not rank else weight @ x + up @ (down @ x)


# Name in a file -> what makes the operation out of its arguments.
OPERATIONS: dict[str, Callable[..., Operation]] = {
    "linear": linear,
    "resize": lambda rows: lambda x: np.resize(x, (rows, x.shape[1])),
    "tanh": lambda: np.tanh,
}


class ToyModel:
    """Operations that are called one after the other, on an input with as many rows."""

    def __init__(self, operations: list[Operation], rows: int) -> None:
        self._operations, self._rows = operations, rows

    def bind(self, arguments: Mapping[str, Any]) -> tuple[Callable[[], np.ndarray], Callable[[], None]]:
        """The call with an input of ramps, one column for each position; the engine has no state to restore."""
        given = np.linspace(-1.0, 1.0, self._rows * arguments.get("positions", 1)).reshape(self._rows, -1)

        def call() -> np.ndarray:
            x = given
            for operation in self._operations:
                x = operation(x)
            return x.ravel()

        return call, lambda: None

    def nodes(self) -> Mapping[str, int]:
        """All operations run in numpy."""
        return {"numpy": len(self._operations)}


class ToyRuntime:
    """Loads JSON files with `rows` of the input and `operations`, each a name and its arguments. Takes no options."""

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """The engine has nothing to set up; numpy decides about threads."""
        return RuntimeFacts("toy 1.0")

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int) -> ToyModel:
        """Reads a file; every loading has weights of its own, so copies share none."""
        content = json.loads(Path(folder, source).read_text(encoding="utf-8"))
        return ToyModel([OPERATIONS[name](*given) for name, *given in content["operations"]], content["rows"])


def toy(*, threads: int | None = None, transport: Transport | None = None) -> AgentDevice:
    """The device that is spelled `toy`, here or behind a transport."""
    return AgentDevice(name="toy", runtime="toy_runtime:ToyRuntime", threads=threads, transport=transport)


class ToyPrograms:
    """Programs of workloads, as files in `cache`: the linears in their order, each followed by a tanh."""

    def __init__(self, device: DeviceInfo | None = None, *, cache: Any = None, weights: Any = None) -> None:
        self._folder = Path(cache or tempfile.mkdtemp(), "toy")

    def modes(self, workload: Any) -> tuple[str, ...]:
        return ("swappable", "merged")

    def check(self, workload: Any) -> None:
        workload.shape.check_positions(workload.positions)

    def need(self, workload: Any) -> Any:
        from adaptare.profiler import Need  # not on the device

        self.check(workload)
        return Need(workload.hash, workload.work().moved_bytes, 8 * workload.batch * workload.positions)

    def disk_bytes(self, base: Any) -> int:
        return 4 * base.shape.parameters

    def program(self, workload: Any) -> Program:
        self.check(workload)
        ranks, merged, operations = workload.configuration.by_path, workload.mode == "merged", []
        for seed, site in enumerate(workload.scope_sites):
            given = seed, site.out_features, site.in_features, ranks.get(site.path, 0), merged
            operations += [("resize", site.in_features), ("linear", *given), ("tanh",)]
        file = self._folder / f"{workload.hash}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"rows": workload.shape.hidden, "operations": operations}), encoding="utf-8")
        return Program(workload.hash, file.name, "{}", (self._feed(workload),), (program_file(file),))

    def merged_reference(self, workload: Any) -> Program:
        return replace(self.program(workload.merged), feeds=(self._feed(workload),))

    def unrounded(self, workload: Any) -> Program:
        return self.program(workload)

    def _feed(self, workload: Any) -> Feed:
        return Feed(workload.hash, json.dumps({"positions": workload.rows}), workload.work())
