"""What the agent uses to load programs that are ONNX files, and to run them with everything bound beforehand.

This file and its neighbours need nothing but the standard library, numpy and onnxruntime.
"""

import functools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.devices.empty_call import empty_call
from adaptare.devices.even_memory import read_evenly, release

CPU = "CPUExecutionProvider"
FILLS = ("constant", "integers", "normal")
# Pages in memory get as large as what is written at once.
COPIED_AT_ONCE = 8 * 2**20

_chosen: dict[str, Any] = {}
_read: set[Path] = set()


def setup(options: dict[str, Any]) -> None:
    """Settles provider, threads and flags of every session that `load` makes from now on."""
    available = available_providers()
    import onnxruntime

    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        version = onnxruntime.__version__
        raise RuntimeError(f"onnxruntime {version} cannot say which provider runs a node; install 1.24 or later")
    if options["provider"] not in available:
        raise RuntimeError(f"provider {options['provider']!r} is not available; available are {', '.join(available)}")
    _chosen.clear()
    _chosen.update(options)


def prepare(source: str) -> None:
    """Makes what all programs have in common, before any of them is loaded and timed."""
    _empty_call()


def settle() -> None:
    """Gives back the slow memory that was held, once a program has what it needs."""
    release()


def available_providers() -> list[str]:
    """Execution providers of the installed build; `get_all_providers` lists what any build could have."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    names: list[str] = onnxruntime.get_available_providers()
    return names


def load(source: str, arguments: dict[str, Any], copy: int = 0) -> Any:
    """A session of the file.

    Args:
        source: Path of the file.
        arguments: `prepared: false` leaves the graph as it stands and its weights unpacked, for programs that are run
            once and not timed. `mapped: {file: bytes}` says how much of each file of weights calls read where it is
            mapped, from its start on; in default of it, all of all.
        copy: Beyond 0, a copy of the file and of the weights beside it is loaded, so that it shares none of them. What
            it computes on the way lies where other copies have theirs, as layers of one model do.

    Raises:
        RuntimeError: The provider that was asked for runs none of the nodes.
    """
    if not copy:
        return _load(source, arguments)
    with tempfile.TemporaryDirectory() as folder:  # what is mapped stays until it is no longer mapped
        for file in (Path(source), *_weights(Path(source))):
            with file.open("rb") as whole, (Path(folder) / file.name).open("wb") as written:
                shutil.copyfileobj(whole, written, COPIED_AT_ONCE)
        return _load(str(Path(folder) / Path(source).name), arguments, copied=True)


def mapped_bytes(source: str) -> int:
    """Bytes of the files of weights that a graph names: a session maps what it does not copy."""
    return sum(file.stat().st_size for file in _weights(Path(source)))


def _weights(source: Path) -> list[Path]:
    graph = source.read_bytes() if source.is_file() else b""
    return [file for file in source.parent.glob("*.data") if file.name.encode() in graph]


def _load(source: str, arguments: dict[str, Any], *, trace: str = "", copied: bool = False) -> "_Model":
    """See `load`.

    Args:
        source: As there.
        arguments: As there.
        trace: If given, the session's profiler writes a file whose name begins so.
        copied: Whether the file is one of several copies. What they compute on the way lies in memory that all of them
            share.
    """
    import onnxruntime

    _refuse_active_adapters(arguments)
    if arguments.get("prepared", True):
        _read_weights(Path(source), arguments.get("mapped"))
    provider, options = _chosen["provider"], _options()
    if not arguments.get("prepared", True):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    if copied:
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    if trace:
        options.enable_profiling = True
        options.profile_file_prefix = trace
    session = onnxruntime.InferenceSession(source, options, providers=list(dict.fromkeys([provider, CPU])))
    model = _Model(session)
    if provider != CPU and not model.nodes[provider]:
        nodes = sum(model.nodes.values())
        raise RuntimeError(f"provider {provider!r} was requested but runs none of the {nodes} nodes of {source!r}")
    return model


def _options() -> Any:
    """Of every session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _chosen["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for key, value in config_entries().items():
        options.add_session_config_entry(key, value)
    return options


@functools.cache
def _empty_call() -> Callable[[], None]:
    return empty_call(_options())


@functools.cache
def _share_memory() -> None:
    """Makes the memory that sessions may share, once for a worker."""
    import onnxruntime as ort

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(place, None)


def config_entries() -> dict[str, str]:
    """What every session is configured with, by the library's own keys."""
    return {
        "session.intra_op.allow_spinning": _flag("spinning"),
        # Every session has threads of its own; those of the one before would go on spinning into the next one's calls.
        "session.force_spinning_stop": "1",
        "session.set_denormal_as_zero": _flag("flush_denormals"),
        "session.record_ep_graph_assignment_info": "1",
    }


def providers(model: Any) -> dict[str, int]:
    """How many nodes each provider runs, as the graph was divided: later fusions may leave fewer."""
    return dict(model.nodes)


def attribute(
    source: str, arguments: dict[str, Any], feed: dict[str, Any], timed: Callable[..., list[float]]
) -> tuple[list[float], list[dict[str, list[float]]]]:
    """See the agent. Kinds are those of the graph as it runs, after fusions; the profiler cuts to whole microseconds.

    Raises:
        RuntimeError: The profiler did not record every call; it keeps a million events.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = _load(source, arguments, trace=str(Path(folder) / "trace"))
        seconds = timed(*model.bind(feed))
        settle()
        events = json.loads(Path(model.end_profiling()).read_text(encoding="utf-8"))
    runs = _operators(events)
    if len(runs) != len(seconds):
        raise RuntimeError(f"the profiler recorded {len(runs)} of {len(seconds)} calls; ask for fewer calls")
    return seconds, runs


def _operators(events: Sequence[dict[str, Any]]) -> list[dict[str, list[float]]]:
    """Calls and seconds by kind of operator, for each run in a trace.

    An event is written when it ends: those inside a node that has a graph of its own stand before it.
    """
    runs: list[dict[str, list[float]]] = []
    run: dict[str, list[float]] = {}
    ended: list[tuple[int, int]] = []
    for event in events:
        if event["name"] == "model_run":
            runs.append(run)
            run, ended = {}, []
        if event["cat"] != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        start, own = event["ts"], event["dur"]
        while ended and ended[-1][0] >= start:
            own -= ended.pop()[1]
        ended.append((start, event["dur"]))
        operator = run.setdefault(event["args"]["op_name"], [0, 0.0])
        operator[0] += 1
        operator[1] += 1e-6 * own
    return runs


class _Model:
    """A session, its inputs and outputs bound anew for each feed."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.nodes: Counter[str] = Counter()
        for part in session.get_provider_graph_assignment_info():
            self.nodes[part.ep_name] += len(part.get_nodes())

    def bind(self, arguments: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], None]]:
        """See the agent. `arguments["inputs"]` has a spec for every input of the graph, see `filled`."""
        import onnxruntime

        _refuse_active_adapters(arguments)
        specs = arguments.get("inputs", {})
        names = [argument.name for argument in self._session.get_inputs()]
        if absent := [name for name in names if name not in specs]:
            raise ValueError(f"the feed has no spec for inputs {absent}; it has {sorted(specs)}")
        if unknown := sorted(set(specs) - set(names)):
            raise ValueError(f"the graph has no inputs {unknown}; it has {names}")
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(filled(name, specs[name])) for name in names]
        binding = self._session.io_binding()
        for name, value in zip(names, values, strict=True):
            binding.bind_ortvalue_input(name, value)
        outputs = [argument.name for argument in self._session.get_outputs()]
        for name in outputs:
            binding.bind_output(name, "cpu")
        run, output = self._session.run_with_iobinding, _Output(binding, outputs, values)

        def call() -> _Output:
            run(binding)
            return output

        return call, output.keep

    def end_profiling(self) -> str:
        """Writes the trace. Returns its file."""
        file: str = self._session.end_profiling()
        return file


class _Output:
    """What a binding gives, read only when someone asks; keeps the inputs alive, whose memory a binding does not own.

    The first call allocates its outputs, and all later ones write into those.
    """

    def __init__(self, binding: Any, names: list[str], inputs: list[Any]) -> None:
        self._binding, self._names, self._inputs = binding, names, inputs
        self._calls_begun = 0
        self._empty_call = _empty_call()

    def keep(self) -> None:
        """To be called before every call."""
        if self._calls_begun == 1:
            for name, value in zip(self._names, self._binding.get_outputs(), strict=True):
                self._binding.bind_ortvalue_output(name, value)
        self._calls_begun += 1
        self._empty_call()

    def tolist(self) -> list[float]:
        values: list[float] = self._binding.get_outputs()[0].numpy().ravel().tolist()
        return values


def filled(name: str, spec: dict[str, Any]) -> NDArray[Any]:
    """The array of a spec: `dtype`, `shape`, one of three fills, and `padded_to` if zeros follow on every axis.

    The fills are `constant` (the value), `integers` (from 0 to below the number) and `normal` (its standard
    deviation); the latter two need a `seed`.
    """
    kinds = sorted(set(spec) - {"dtype", "shape", "seed", "padded_to"})
    if len(kinds) != 1 or kinds[0] not in FILLS:
        raise ValueError(f"input {name!r} must be filled by exactly one of {', '.join(FILLS)}, not by {kinds}")
    needed = {"dtype", "shape"} if kinds == ["constant"] else {"dtype", "shape", "seed"}
    if lacking := sorted(needed - set(spec)):
        raise ValueError(f"input {name!r}: its spec lacks {', '.join(lacking)}")
    values = _values(kinds[0], spec)
    if "padded_to" not in spec:
        return values
    whole = spec["padded_to"]
    if len(whole) != values.ndim or any(size > limit for size, limit in zip(values.shape, whole, strict=True)):
        raise ValueError(f"input {name!r} of shape {spec['shape']} cannot be padded to {whole}")
    padded = np.zeros(whole, dtype=values.dtype)
    padded[tuple(slice(size) for size in values.shape)] = values
    return padded


def _values(kind: str, spec: dict[str, Any]) -> NDArray[Any]:
    shape, dtype = spec["shape"], spec["dtype"]
    if kind == "constant":
        return np.full(shape, spec["constant"], dtype=dtype)
    rng = np.random.default_rng(spec["seed"])
    drawn: NDArray[Any]
    if kind == "integers":
        drawn = rng.integers(0, spec["integers"], shape)
    else:
        drawn = rng.standard_normal(shape, dtype=np.float32) * np.float32(spec["normal"])
    return drawn.astype(dtype, copy=False)


def _refuse_active_adapters(arguments: dict[str, Any]) -> None:
    if "active_adapters" in arguments:
        raise ValueError("a bound run ignores active_adapters without a word; give their tensors as inputs instead")


def _read_weights(source: Path, mapped: dict[str, int] | None) -> None:
    """Brings the weights of a graph into fast memory and large pages, unless this worker has done so; see `load`.

    Pages of a file stay where they are from one process to the next, and some places are faster than others. Left to
    page faults, a part of each file comes to lie in large pages, which part differs between files but not between
    readings, and by that programs differ for good.
    """
    for file in set(_weights(source)) - _read:
        size = file.stat().st_size if mapped is None else mapped.get(file.name, 0)
        if size:
            _read.add(file)
            with suppress(OSError, ValueError):  # some file systems map nothing
                read_evenly(file, size)


def _flag(name: str) -> str:
    return "1" if _chosen[name] else "0"
