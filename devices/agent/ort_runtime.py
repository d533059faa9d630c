"""Programs that are ONNX files, run as in ONNX Runtime's documentation: a session with bound inputs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from adaptare.devices.agent.feeds import filled
from adaptare.devices.agent.runtime import Bound, Operators, Output, RuntimeFacts, Timed

CPU = "CPUExecutionProvider"
# Reports the provider of each node, from version 1.24 on, except for files of the `.ort` format.
ASSIGNMENT = "get_provider_graph_assignment_info"
# The first version that reads the files that are timed.
OLDEST = (1, 18)
# Providers with threads of their own, and the option that sets their number; the session then gets a single one.
OWN_THREADS = {"XnnpackExecutionProvider": "intra_op_num_threads"}


class OrtRuntime:
    """Runtime of ONNX Runtime; inputs and outputs are bound to the memory of the machine, for any provider.

    Options: `provider` with its `provider_options` and, if it is a plug-in, its `library`; `spinning`,
    `flush_denormals`, and `replay` of the optimisations that are saved in files of the `.ort` format.
    """

    packages = ("numpy", "onnxruntime>=1.24")

    def __init__(self) -> None:
        self._provider = CPU
        self._provider_options: dict[str, str] = {}
        self._plug_in: list[Any] = []
        self._threads = 1
        self._entries: dict[str, str] = {}
        self._shares_memory = False

    @property
    def reads_adapter_files(self) -> bool:
        """True if this version of ONNX Runtime reads adapter files: from 1.20 on."""
        return hasattr(_onnxruntime(), "AdapterFormat")

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """Applies the options; the facts name the providers of this build only, unlike `get_all_providers`."""
        ort = _onnxruntime()
        if tuple(int(part) for part in ort.__version__.split(".")[:2]) < OLDEST:
            message = f"onnxruntime {ort.__version__} is too old; {'.'.join(map(str, OLDEST))} or later is needed"
            raise ImportError(message, name="onnxruntime")
        provider = self._provider = options["provider"]
        if options.get("library"):
            self._plug_in = _plugged_in(options["library"], provider)
        elif provider not in ort.get_available_providers():
            known = ", ".join(ort.get_available_providers())
            raise ValueError(f"provider {provider!r} is not in this build of onnxruntime; it has {known}")
        own = {OWN_THREADS[provider]: str(threads)} if provider in OWN_THREADS else {}
        self._threads = 1 if own else threads
        self._provider_options = {**own, **options.get("provider_options", {})}
        self._entries = {"session.record_ep_graph_assignment_info": "1"}
        if not options["spinning"]:
            self._entries["session.intra_op.allow_spinning"] = "0"
        if options["flush_denormals"]:
            self._entries["session.set_denormal_as_zero"] = "1"
        if options.get("replay"):
            self._entries["session.enable_saved_runtime_optimizations"] = "1"
        return RuntimeFacts(f"onnxruntime {ort.__version__}", ort.get_available_providers())

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> OrtModel:
        """Creates a session for the file.

        Args:
            folder: Folder with the graph and its weight files.
            source: Name of the graph.
            arguments: `prepared: false` disables the provider, graph optimisation and weight prepacking, for programs
                that run once and are not timed.
            copy: Above 0, loads a copy of the file and of its weight files, so that no weights are shared. Intermediate
                results share memory with other copies, as do the layers of one model.

        Raises:
            RuntimeError: The requested provider runs none of the nodes.
        """
        if not copy:
            return self._session(os.path.join(folder, source), arguments)
        with tempfile.TemporaryDirectory() as place:  # mapped files stay until they are unmapped
            for name in os.listdir(folder):
                shutil.copyfile(os.path.join(folder, name), os.path.join(place, name))
            self._share_memory()
            return self._session(os.path.join(place, source), arguments, {"session.use_env_allocators": "1"})

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Timed
    ) -> tuple[Sequence[float], Sequence[Operators]]:
        """Profiles the calls. Operator types are those of the graph after fusions; times in whole microseconds.

        Raises:
            RuntimeError: The profiler did not record every call; it is limited to a million events.
        """
        with tempfile.TemporaryDirectory() as place:
            model = self._session(os.path.join(folder, source), arguments, trace=os.path.join(place, "trace"))
            seconds = timed(*model.bind(feed))
            with open(model.session.end_profiling(), encoding="utf-8") as trace:
                runs = _operators(json.load(trace))
        if len(runs) != len(seconds):
            raise RuntimeError(f"the profiler recorded {len(runs)} of {len(seconds)} calls; ask for fewer calls")
        return seconds, runs

    def _session(
        self, file: str, arguments: Mapping[str, Any], entries: Mapping[str, str] | None = None, trace: str = ""
    ) -> OrtModel:
        import onnxruntime as ort

        _refuse_active_adapters(arguments)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        unprepared = not arguments.get("prepared", True)
        if unprepared:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if trace:
            options.enable_profiling = True
            options.profile_file_prefix = trace
        chosen = {**self._entries, **(entries or {}), **({"session.disable_prepacking": "1"} if unprepared else {})}
        for name, value in chosen.items():
            options.add_session_config_entry(name, value)
        wanted = CPU if unprepared else self._provider
        place = ""
        if not trace and (file.endswith(".ort") or not hasattr(ort.InferenceSession, ASSIGNMENT)):
            place = tempfile.mkdtemp()
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(place, "trace")
        try:
            return OrtModel(self._created(file, options, wanted), wanted, file, place)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def _created(self, file: str, options: Any, provider: str) -> Any:
        import onnxruntime as ort

        if provider != CPU and self._plug_in:
            options.add_provider_for_devices(self._plug_in, self._provider_options)
            return ort.InferenceSession(file, options)
        chosen = [(provider, self._provider_options)] if provider != CPU else []
        return ort.InferenceSession(file, options, providers=[*chosen, CPU])

    def _share_memory(self) -> None:
        """Creates the allocator shared by sessions, once per worker."""
        import onnxruntime as ort

        if not self._shares_memory:
            place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
            ort.create_and_register_allocator(place, None)
            self._shares_memory = True


class OrtModel:
    """A session, with inputs and outputs bound separately for each feed.

    Args:
        provider: The provider that has to run a node.
        file: Path of its file; adapter files are beside it.
        place: Folder of the profile where the library cannot report the provider of a node: only the first call is
            profiled. Otherwise empty.
    """

    def __init__(self, session: Any, provider: str, file: str, place: str) -> None:
        self.session = session
        self._provider, (self._folder, self._name) = provider, os.path.split(file)
        self._place, self._uncounted = place, bool(place)
        self._nodes: Counter[str] = Counter()
        if place:
            weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        elif hasattr(session, ASSIGNMENT):
            for part in session.get_provider_graph_assignment_info():
                self._nodes[part.ep_name] += len(part.get_nodes())
            self._check()

    def nodes(self) -> Mapping[str, int]:
        """Nodes per provider, counted after partitioning; later fusions may leave fewer."""
        return dict(self._nodes)

    def _check(self) -> None:
        """Raises `RuntimeError` if the provider runs nothing."""
        if self._provider != CPU and not self._nodes.get(self._provider):
            raise RuntimeError(
                f"provider {self._provider!r} was requested but runs none of the {sum(self._nodes.values())} nodes of "
                f"{self._name!r}"
            )

    def _count(self) -> None:
        """Counts the nodes in the profile of one call, and ends it."""
        with open(self.session.end_profiling(), encoding="utf-8") as trace:
            events = json.load(trace)
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
                self._nodes[event["args"]["provider"]] += 1
        shutil.rmtree(self._place, ignore_errors=True)  # now, because a fork ends without finalizers
        self._uncounted = False
        self._check()

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """Binds inputs and outputs.

        Args:
            arguments: `inputs` has a spec for every input of the graph, as `filled` takes it; `adapter`, if there is
                any, names an adapter file with the values of further inputs; `shared`, if there is any, maps outputs to
                inputs whose memory they are written to.
        """
        import onnxruntime as ort

        _refuse_active_adapters(arguments)
        specs, kept = arguments.get("inputs", {}), list[Any]()
        given: Mapping[str, Any] = {}
        if "adapter" in arguments:
            kept.append(ort.AdapterFormat.read_adapter(os.path.join(self._folder, arguments["adapter"])))
            given = kept[0].get_parameters()
        names = [argument.name for argument in self.session.get_inputs()]
        absent = [name for name in names if name not in specs and name not in given]
        if absent:
            raise ValueError(f"the feed has no spec for inputs {absent}; it has {sorted(specs)}")
        unknown = sorted({*specs, *given} - set(names))
        if unknown:
            raise ValueError(f"the graph has no inputs {unknown}; it has {names}")
        values = [
            given[name] if name in given else ort.OrtValue.ortvalue_from_numpy(filled(name, specs[name]))
            for name in names
        ]
        binding = self.session.io_binding()
        for name, value in zip(names, values):
            binding.bind_ortvalue_input(name, value)
        shared = arguments.get("shared", {})
        for argument in self.session.get_outputs():
            if argument.name in shared:
                binding.bind_ortvalue_output(argument.name, values[names.index(shared[argument.name])])
            else:
                binding.bind_output(argument.name, "cpu")
        run = self.session.run_with_iobinding
        # Bindings do not own the memory of their inputs.
        output = Output(lambda: binding.get_outputs()[0].numpy(), *values, *kept)
        if self._uncounted:
            run(binding)
            self._count()

        def call() -> Output:
            run(binding)
            return output

        return call, lambda: None  # a graph has no state to restore


def _plugged_in(library: str, provider: str) -> list[Any]:
    """The first device of a provider that a library brings."""
    import onnxruntime as ort

    if not hasattr(ort, "register_execution_provider_library"):
        raise ValueError(f"onnxruntime {ort.__version__} takes no plug-in providers; 1.23 or later does")
    try:
        ort.register_execution_provider_library(provider, library)
    except Exception as error:  # the library's own exceptions, whose types are not public
        raise ValueError(f"library {library!r} is no provider for onnxruntime {ort.__version__}: {error}") from error
    devices = ort.get_ep_devices()
    own = [device for device in devices if device.ep_name == provider]
    if not own:
        names = ", ".join(sorted({device.ep_name for device in devices}))
        raise ValueError(f"library {library!r} brings no device of {provider!r} here; there are devices of {names}")
    return own[:1]


def _onnxruntime() -> Any:
    """The library, imported with the telemetry of its Linux wheels disabled."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def write_adapter(file: str, tensors: Mapping[str, Any]) -> None:
    """Writes a file for `onnxruntime.LoraAdapter`: name of an input of the graph -> its values, a NumPy array."""
    ort = _onnxruntime()
    content = ort.AdapterFormat()
    # For users that version their adapters; ONNX Runtime does not check either number.
    content.set_adapter_version(1)
    content.set_model_version(1)
    content.set_parameters({name: ort.OrtValue.ortvalue_from_numpy(values) for name, values in tensors.items()})
    content.export_adapter(file)


def _refuse_active_adapters(arguments: Mapping[str, Any]) -> None:
    if "active_adapters" in arguments:
        raise ValueError("a bound run ignores active_adapters silently; give their tensors as inputs instead")


def _operators(events: Sequence[Mapping[str, Any]]) -> list[dict[str, list[float]]]:
    """Calls and seconds by operator type, for each run in a trace.

    Events are recorded at their end: those inside a node with a subgraph precede it.
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
