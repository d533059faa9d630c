"""Who may import whom: core <- devices <- profiler <- predictor <- search <- workflows <- cli; testing beside cli."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["core", "devices", "profiler", "predictor", "search", "workflows", "cli"]
# Suites for other packages: nobody imports them, and they import everything below cli.
TESTING = "testing"
FILES = [file for package in [*ORDER, TESTING] for file in sorted((ROOT / package).rglob("*.py"))]
AGENT = ROOT / "devices" / "agent"
# Packages without public names: all of their modules are imported by their full path.
BY_FULL_PATH = {"core", "workflows"}
# Sub-packages with public names of their own, which are imported from their `__init__` only.
DOORS = {
    *("devices.browser", "devices.native"),
    *(
        "profiler.analysis",
        "profiler.measuring",
        "profiler.models",
        "profiler.programs",
        "profiler.store",
        "profiler.workloads",
    ),
    *("search.algorithms", "search.budget", "search.checking", "search.export", "search.recipes"),
    *("search.super_adapter", "search.training"),
}
# Sub-packages and modules that are imported by their full path, also from above: what only our own packages need.
OPEN = {"devices.agent"}
# What a package must not know, except in the files named.
HEAVY = {
    "core": {"torch": set(), "onnxruntime": set(), "transformers": set(), "peft": set(), "numpy": {"codec.py"}},
    "devices": {
        "torch": {"agent/accelerator.py", "agent/torch_runtime.py"},
        "onnxruntime": {"agent/ort_runtime.py", "agent/genai_runtime.py"},
        "transformers": set(),
        "peft": set(),
    },
    "profiler": {
        "torch": {
            "programs/torch/programs.py",
            "programs/torch/cut.py",
            "programs/onnx/export.py",
            "programs/openvino_graph.py",
            "models/random_model.py",
            "models/model_cache.py",
        },
        "onnxruntime": {"programs/onnx/export.py", "programs/onnx/quantise.py"},
        "peft": {"programs/torch/programs.py"},
        "sklearn": set(),
    },
    "predictor": {"torch": set(), "onnxruntime": set(), "transformers": set(), "peft": set()},
    "search": {"onnxruntime": set(), "sqlalchemy": set()},
    "workflows": {"onnxruntime": set(), "sqlalchemy": set()},
    "cli": {"torch": set(), "onnxruntime": set(), "sqlalchemy": set(), "pymoo": set()},
    TESTING: {"torch": set(), "onnxruntime": set(), "sqlalchemy": set(), "pymoo": set(), "transformers": set()},
}


def package_and_name(file: Path) -> tuple[str, str]:
    """The package that a file belongs to, and its path in there."""
    package, _, name = file.relative_to(ROOT).as_posix().partition("/")
    return package, name


def imports(source: str) -> Iterator[tuple[int, str, list[str]]]:
    """Level, module and names of every import, also of those inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((0, name.name, []) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [name.name for name in node.names]


def targets(module: str, names: list[str]) -> list[tuple[str, bool]]:
    """The packages of ours that an import reaches, and whether it goes deeper than their `__init__`."""
    parts = module.split(".")
    if parts[0] != "adaptare":
        return []
    if len(parts) > 1:
        closed = ".".join(parts[1:3]) not in OPEN and ".".join(parts[1:]) not in DOORS
        deep = len(parts) > 2 and parts[1] not in BY_FULL_PATH and closed
        return [(parts[1], deep) if parts[1] in HEAVY else ("cli", True)]
    return [(name if name in HEAVY else "cli", False) for name in names] or [("cli", False)]


def faults(package: str, file: str, source: str) -> list[str]:
    """What a file of a package imports and should not."""
    allowed = [*ORDER[:-1], TESTING] if package == TESTING else ORDER[: ORDER.index(package) + 1]
    found = []
    for level, module, names in imports(source):
        top = module.split(".")[0]
        if level:
            found.append(f"relative import of {module or names}")
        if top in HEAVY:
            found.append(f"{module} is imported without `adaptare.`")
        if file not in HEAVY[package].get(top, {file}) or (top == "pytest" and package != TESTING):
            found.append(f"{package} must not know {top}")
        for target, deep in targets(module, names):
            if target not in allowed:
                found.append(f"{package} imports {target}, which stands above it")
            elif deep and target != package:
                found.append(f"{module} is deeper than adaptare.{target}")
    return found


def rooms() -> dict[str, set[str]]:
    """Folder of each sub-package, or module of a package -> those of the same package that it imports."""
    found: dict[str, set[str]] = {}
    for file in FILES:
        package, _ = package_and_name(file)
        if package == "cli" or file.name == "__init__.py":  # what it gives out is no dependency of its room
            continue
        room = file.parent if file.parent != ROOT / package else file.with_suffix("")
        own = found.setdefault(room.relative_to(ROOT).as_posix(), set())
        for _, module, names in imports(file.read_text(encoding="utf-8")):
            parts = module.split(".")
            if parts == ["adaptare", package]:
                own |= {f"{package}/{name}" for name in names if (ROOT / package / name).is_dir()}
            if parts[:2] != ["adaptare", package] or len(parts) < 3:
                continue
            target = ROOT.joinpath(*parts[1:])
            target = target.parent if target.parent != ROOT / package and target.with_suffix(".py").exists() else target
            own.add(target.relative_to(ROOT).as_posix())
    return {room: targets - {room} for room, targets in found.items()}


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """Longest path of imports from room to room. Raises `CycleError` if there is a circle."""
    chains: dict[str, list[str]] = {}
    for room in TopologicalSorter(graph).static_order():
        chains[room] = [room, *max((chains[target] for target in graph.get(room, ())), key=len, default=[])]
    return max(chains.values(), key=len)


def test_sub_packages_import_each_other_in_one_direction() -> None:
    chain = longest_chain(rooms())
    assert 4 <= len(chain) <= 9, chain


PREDICTOR = (
    *("regressor", "estimators", "features", "base_curve", "intervals", "fitting", "fitted_predictor"),
    *("latency_predictor", "predictor_file", "adaptive"),
)


def test_inside_predictor_imports_follow_one_line() -> None:
    graph = {room: targets for room, targets in rooms().items() if room.startswith("predictor/")}
    order = [f"predictor/{name}" for name in PREDICTOR]
    assert set(graph) == set(order)
    upward = {(room, target) for room in graph for target in graph[room] if target not in order[: order.index(room)]}
    assert upward == set()
    for file in sorted((ROOT / "predictor").rglob("*.py")):
        if file != ROOT / "predictor" / "__init__.py":
            modules = [module for _, module, _ in imports(file.read_text(encoding="utf-8"))]
            assert "adaptare.predictor" not in modules, f"{file} imports the package that it is a part of"


def test_a_circle_of_sub_packages_is_found() -> None:
    with pytest.raises(CycleError):
        longest_chain({"a": {"b"}, "b": {"c"}, "c": {"a"}})


@pytest.mark.parametrize("package", [*ORDER, TESTING])
def test_a_file_imports_only_what_its_package_may_know(package: str) -> None:
    own = [file for file in FILES if package_and_name(file)[0] == package]
    found = {file: faults(*package_and_name(file), file.read_text(encoding="utf-8")) for file in own}
    assert {file: fault for file, fault in found.items() if fault} == {}


@pytest.mark.parametrize("file", sorted(AGENT.glob("*.py")), ids=lambda file: file.name)
def test_the_agent_imports_the_standard_library_numpy_its_runtime_and_itself(file: Path) -> None:
    """It is shipped alone, to where nothing else of ours is."""
    found = [module for _, module, _ in imports(file.read_text(encoding="utf-8"))]
    others = [module for module in found if module.split(".")[0] not in sys.stdlib_module_names]
    ours = [module for module in others if module.split(".")[0] == "adaptare"]
    assert [module for module in ours if not f"{module}.".startswith("adaptare.devices.agent.")] == []
    assert set(others) - set(ours) <= {"gguf", "numpy", "onnxruntime", "onnxruntime_genai", "openvino", "torch"}


@pytest.mark.parametrize(
    ("package", "source", "fault"),
    [
        ("devices", "from adaptare.profiler import Workload", "devices imports profiler, which stands above it"),
        ("profiler", "def f():\n    import adaptare.search", "profiler imports search, which stands above it"),
        ("predictor", "from adaptare import search", "predictor imports search, which stands above it"),
        ("search", "from adaptare import VERSION", "search imports cli, which stands above it"),
        ("search", "from adaptare.console import table", "search imports cli, which stands above it"),
        ("devices", "import adaptare", "devices imports cli, which stands above it"),
        (
            "search",
            "from adaptare.devices.simulated import SimulatedNoise",
            "adaptare.devices.simulated is deeper than",
        ),
        (
            "profiler",
            "from adaptare.predictor.fitting.choice import choose_candidate",
            "profiler imports predictor, which stands",
        ),
        ("cli", "from adaptare.search.pruning.losses import loss", "adaptare.search.pruning.losses is deeper than"),
        ("cli", "import adaptare.devices.transport", "adaptare.devices.transport is deeper than adaptare.devices"),
        ("cli", "from adaptare.devices.native.build import kept_for", "adaptare.devices.native.build is deeper than"),
        ("profiler", "from .shape import Site", "relative import of shape"),
        ("profiler", "from . import shape", "relative import of ['shape']"),
        ("profiler", "from devices import Device", "devices is imported without `adaptare.`"),
        ("devices", "import torch.nn", "devices must not know torch"),
        ("predictor", "from peft import LoraConfig", "predictor must not know peft"),
        ("search", "import pytest", "search must not know pytest"),
        ("cli", "from adaptare.testing import DeviceSuite", "cli imports testing, which stands above it"),
        ("search", "from adaptare import testing", "search imports testing, which stands above it"),
        ("testing", "from adaptare import overhead", "testing imports cli, which stands above it"),
    ],
)
def test_the_guard_sees_what_it_guards_against(package: str, source: str, fault: str) -> None:
    found = faults(package, "any.py", source)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("package", "file", "source"),
    [
        ("profiler", "any.py", "from adaptare.devices import Device"),
        ("profiler", "any.py", "from adaptare.profiler.shape import Site"),
        ("cli", "any.py", "from adaptare.console import table"),
        ("cli", "any.py", "from adaptare import VERSION"),
        ("cli", "any.py", "from adaptare.workflows.search.searching import select"),
        ("predictor", "fitting/any.py", "from adaptare.core.table import Table"),
        ("devices", "agent/torch_runtime.py", "import torch"),
        ("search", "any.py", "import torch"),
        ("testing", "any.py", "import pytest"),
        ("testing", "any.py", "from adaptare.search import Algorithm"),
    ],
)
def test_the_guard_lets_pass_what_is_right(package: str, file: str, source: str) -> None:
    assert faults(package, file, source) == []


def test_every_package_is_guarded() -> None:
    assert {package_and_name(file)[0] for file in FILES} == set(HEAVY)
    assert ("devices", "agent/server.py") in map(package_and_name, FILES)
