"""Fixtures that several test folders share, and the guard against silent skips."""

import os
import runpy
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

# A shell that starts something in the background has it ignore interrupts, and so would all that these tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
WORKER_MODULES = Path(__file__).parent / "worker_modules"
SSH_SERVER = Path(__file__).parent / "devices" / "ssh_server.py"


def declared_marks() -> set[str]:
    """Marks whose tests must run here: `ADAPTARE_MUST_RUN=demo_model,slow`."""
    return set(filter(None, os.environ.get("ADAPTARE_MUST_RUN", "").split(",")))


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new folder of this run that all of its processes share; for what takes seconds to make and nobody changes."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if hasattr(request.config, "workerinput") else root) / "shared"


@pytest.fixture
def worker_modules(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets worker processes import the modules in `tests/worker_modules`."""
    paths = [str(WORKER_MODULES), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return WORKER_MODULES


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
    from adaptare.predictor.fitting import cross_validation

    def exact(candidates: Iterable[str], X: object, ratios: object, *_: object, **__: object) -> dict[str, object]:
        return dict.fromkeys(candidates, ratios)

    monkeypatch.setattr(cross_validation, "_left_out_ratios", exact)
