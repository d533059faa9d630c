"""Fixtures that several test folders share, and the guard against silent skips."""

import importlib.util
import os
import runpy
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# A shell that starts something in the background has it ignore interrupts, and so would all that these tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Marks of tests that need a service or a compiler of the system, which `.ci/run` installs.
SERVICES = {"adb", "browser", "native", "other_languages", "postgresql", "qemu", "ssh", "xnnpack"}
CORE = "not service and not slow"
WORKER_MODULES = Path(__file__).parent / "worker_modules"
PHONE = Path(__file__).parent / "devices" / "phone.py"
SSH_SERVER = Path(__file__).parent / "devices" / "ssh_server.py"


def declared_marks() -> set[str]:
    """Marks whose tests must run here: `ADAPTARE_MUST_RUN=demo_model,slow`."""
    return set(filter(None, os.environ.get("ADAPTARE_MUST_RUN", "").split(",")))


def missing_for_native() -> str:
    """What the agent in C cannot be compiled without."""
    from adaptare.devices.native.compiler import HEADER, INCLUDES

    if not any((folder / HEADER).exists() for folder in INCLUDES):
        return f"{HEADER} is not installed (libonnxruntime-dev)"
    return "" if importlib.util.find_spec("ziglang") else "ziglang is not installed"


@cache
def missing_for_adb() -> str:
    """What adbd cannot run without."""
    return str(runpy.run_path(str(PHONE))["problem"]())


def missing_for_qemu() -> str:
    """What the agent in C for aarch64 can be neither compiled nor run without."""
    return missing_for_native() or ("" if shutil.which("qemu-aarch64") else "qemu-aarch64 is not installed (qemu-user)")


def missing_for_llama() -> str:
    """What the device of llama.cpp cannot run without."""
    return "" if importlib.util.find_spec("xllamacpp") else "xllamacpp is not installed"


def missing_for_openvino() -> str:
    """What the device of OpenVINO cannot run without."""
    return "" if importlib.util.find_spec("openvino") else "openvino is not installed"


# Marks of tests that need something of the system, or a large package -> what is missing.
NEEDS = {
    "native": missing_for_native,
    "adb": missing_for_adb,
    "qemu": missing_for_qemu,
    "llama": missing_for_llama,
    "openvino": missing_for_openvino,
}


def pytest_configure(config: pytest.Config) -> None:
    """Leaves out slow tests and those that need a service, unless tests were chosen or are declared."""
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS or config.option.markexpr or config.option.keyword
    if not (chosen or declared_marks()):
        config.option.markexpr = CORE  # processes of xdist take it from here
    if not hasattr(config, "workerinput"):  # processes of xdist report to this one
        config.pluginmanager.register(DeclaredMarks())


def pytest_report_header(config: pytest.Config) -> str | None:
    """Tells what is left out, and how to run it."""
    if config.option.markexpr != CORE:
        return None
    services = ", ".join(sorted(SERVICES))
    return f"left out: tests marked slow or {services}; .ci/run runs those marked smoke, and make test-all runs all"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests that need what is not here."""
    for mark in {mark.name for mark in item.iter_markers()} & set(NEEDS):
        if problem := NEEDS[mark]():
            pytest.skip(problem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    declared = declared_marks() & {mark.name for mark in item.iter_markers()}
    if report.skipped and declared and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"ADAPTARE_MUST_RUN declares {sorted(declared)}, yet this was skipped: {call.excinfo}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and declared_marks():
        report.outcome = "failed"
        report.longrepr = f"ADAPTARE_MUST_RUN is set, yet a whole file was skipped with its marks: {collector.nodeid}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs a service, and what is slow beyond the first cases of its test.

    Slow tests come first: no process is left alone with one of them at the end.
    """
    cases = Counter[str]()
    for item in items:
        if SERVICES & {mark.name for mark in item.iter_markers()}:
            item.add_marker("service")
        if mark := item.get_closest_marker("slow_after"):
            test = item.nodeid.partition("[")[0]
            cases[test] += 1
            if cases[test] > mark.args[0]:
                item.add_marker("slow")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


class DeclaredMarks:
    """Fails a run in which no test with a declared mark has passed."""

    def __init__(self) -> None:
        self._missing = declared_marks()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._missing -= set(report.keywords)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._missing and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._missing:
            terminalreporter.write_line(f"ADAPTARE_MUST_RUN declares marks of which no test passed: {self._missing}")


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new folder of this run that all of its processes share; for what takes seconds to make and nobody changes."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if hasattr(request.config, "workerinput") else root) / "shared"


@pytest.fixture(scope="session")
def model_cache(shared_folder: Path) -> Path:
    """Models and their exports; nobody may change what is in it."""
    return shared_folder / "models"


@pytest.fixture
def worker_modules(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets worker processes import the modules in `tests/worker_modules`."""
    paths = [str(WORKER_MODULES), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return WORKER_MODULES


@pytest.fixture
def phone(tmp_path: Path) -> Generator[Callable[..., Any], None, None]:
    """Starts adbd as a device of its own, which is the only one that `adb` reaches. See `devices/phone.py`."""
    module = runpy.run_path(str(PHONE))
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(module["phone"](tmp_path / "phone", **options))


@pytest.fixture
def ssh_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[..., Any], None, None]:
    """Starts servers on loopback, each a device of its own; clients know the newest. See `devices/ssh_server.py`."""
    module = runpy.run_path(str(SSH_SERVER))
    if module["MISSING"]:
        pytest.skip(module["MISSING"])
    with ExitStack() as stack:

        def start(**options: Any) -> Any:
            place = tmp_path / f"device-{len(list(tmp_path.glob('device-*')))}"
            server = stack.enter_context(module["ssh_server"](place, **options))
            monkeypatch.setenv("ADAPTARE_SSH_CONFIG", str(server.configuration))
            return server

        yield start


@pytest.fixture(autouse=True, scope="session")
def own_user_cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """Files that programs make in the user's cache folder lie in one of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user-cache")))
        yield


@pytest.fixture
def without_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits skip what only the error card needs: baselines, and the choice inside each fold; four fifths of the time."""
    from adaptare.predictor import latency_predictor
    from adaptare.predictor.fitting import cross_validation
    from adaptare.predictor.fitting.training_rows import Rows

    def exact(candidates: Iterable[str], rows: Rows, **__: object) -> dict[str, object]:
        return dict.fromkeys(candidates, rows.ratios)

    for module in (cross_validation, latency_predictor):
        monkeypatch.setattr(module, "left_out_ratios", exact)
