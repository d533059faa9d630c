"""A page in a real browser: its clock, its memory, tabs that are hidden, closed or crash, and where its library is."""

import asyncio
import json
import runpy
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from aiohttp import ClientSession
from onnx import TensorProto, helper, numpy_helper

from adaptare.core import DeviceError, InputError, ProgramError, WorkerDiedError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, Worker, connect, program_file

BROWSER = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "browser_device.py"))
pytestmark = BROWSER["MARKS"]
square = BROWSER["square"]


def product(folder: Path, width: int) -> Program:
    """A vector times a matrix in a file of its own."""
    matrix = np.random.default_rng(0).normal(size=(width, width)).astype(np.float32)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        ports[:1],
        ports[1:],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = folder / f"product-{width}.onnx"
    onnx.save(model, file, save_as_external_data=True, location=f"{file.name}.data", size_threshold=0)
    x = {"dtype": "float32", "shape": [1, width], "uniform": 0.1, "seed": 3}
    feed = Feed("f", canonical_json({"inputs": {"x": x}}), Work(1, 1, 1))
    files = (program_file(file), program_file(folder / f"{file.name}.data"))
    return Program("product", file.name, "{}", (feed,), files, moved_bytes=4 * width**2)


@dataclass(frozen=True)
class Tab:
    """A page that is open.

    Args:
        name: Name of the device.
        url: Address of the page.
        profile: Folder of the browser.
    """

    name: str
    url: str
    profile: Path

    @property
    def device(self) -> str:
        return f"browser:{self.name}/ort-web:threads=1,timeout_s=60"

    def control(self, *commands: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Results of commands of the DevTools protocol to the browser; `TAB` stands for the tab of the page."""

        async def send() -> list[dict[str, Any]]:
            port, path = (self.profile / "DevToolsActivePort").read_text().split()
            async with ClientSession() as session, session.ws_connect(f"ws://127.0.0.1:{port}{path}") as link:
                asked = [("Target.getTargets", {}), *commands]
                results: list[dict[str, Any]] = []
                for number, (method, parameters) in enumerate(asked):
                    filled = {key: self._tab(results) if value == "TAB" else value for key, value in parameters.items()}
                    await link.send_json({"id": number, "method": method, "params": filled})
                    while (answer := json.loads((await link.receive(timeout=60)).data)).get("id") != number:
                        pass
                    results.append(answer["result"])
                return results[1:]

        return asyncio.run(send())

    @staticmethod
    def _tab(results: list[dict[str, Any]]) -> str:
        targets = results[0]["targetInfos"]
        return str(next(each["targetId"] for each in targets if each["type"] == "page" and each["title"] == "adaptare"))


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """A page of its own."""
    with (
        BROWSER["served"]("tab", "--runtime-files", BROWSER["RUNTIME"]) as (url, _),
        BROWSER["chromium"](url, tmp_path / "profile"),
    ):
        yield Tab("tab", url, tmp_path / "profile")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a page that nobody disturbs."""
    with BROWSER["opened"]("shared", tmp_path_factory.mktemp("shared")):
        yield "shared"


@pytest.fixture(scope="module")
def worker(shared: str) -> Iterator[Worker]:
    with connect(f"browser:{shared}/ort-web:threads=1,timeout_s=60").open() as opened:
        yield opened


def test_an_isolated_page_has_a_clock_of_microseconds(worker: Worker) -> None:
    assert worker.info.timer_step_s == pytest.approx(5e-6, rel=0.1)
    assert worker.info.environment["isolated"] is True


def test_short_calls_are_timed_together(worker: Worker, tmp_path: Path) -> None:
    loaded = worker.load(square(tmp_path, 4))
    touch, *samples = worker.run(loaded.program_id, "f", 400)
    assert touch > 0  # timed alone, by a clock that may not have moved
    assert 1 < len(set(samples)) < len(samples) / 2
    assert max(samples.count(value) * value for value in set(samples)) >= 100 * worker.info.timer_step_s


def test_long_calls_are_timed_one_by_one(worker: Worker, tmp_path: Path) -> None:
    loaded = worker.load(square(tmp_path, 512))
    samples = worker.run(loaded.program_id, "f", 8)
    assert min(samples) > 100 * worker.info.timer_step_s
    assert len(set(samples)) >= 6


def test_weights_in_a_file_are_those_of_the_host(worker: Worker, tmp_path: Path) -> None:
    loaded = worker.load(product(tmp_path, 256))
    assert len(loaded.outputs["f"]) == 256
    assert loaded.providers == {"CPUExecutionProvider": 1}
    assert loaded.peak_bytes >= loaded.resident_bytes


def test_cold_parts_have_copies_that_fill_the_caches_twice(worker: Worker, tmp_path: Path) -> None:
    program = replace(product(tmp_path, 1024), others_bytes=2**30)
    loaded = worker.load(program)
    assert loaded.copies == 1 + 2 * worker.info.cache_bytes // program.moved_bytes
    assert loaded.resident_bytes > loaded.copies * program.moved_bytes // 2
    assert len(worker.run(loaded.program_id, "f", loaded.copies + 2)) == loaded.copies + 2
    worker.unload(loaded.program_id)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": canonical_json({"active_adapters": ["x"]})}, r"pages know no arguments \[active_adapters\]"),
        ({"feeds": (Feed("f", "{}", Work(1, 1, 1)),)}, r"the feed has no spec for inputs \[x\]"),
    ],
)
def test_a_program_that_is_wrong_is_refused(
    worker: Worker, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProgramError, match=message):
        worker.load(replace(square(tmp_path, 4), **change))


def test_a_file_that_changed_since_it_was_hashed_is_refused(worker: Worker, tmp_path: Path) -> None:
    program = product(tmp_path, 32)
    data = program.files[1].path
    data.write_bytes(data.read_bytes()[::-1])
    with pytest.raises(ProgramError, match=f"the file with the hash {program.files[1].digest} did not come, or is"):
        worker.load(program)


def test_a_program_larger_than_the_memory_is_refused_and_the_others_are_served(shared: str, tmp_path: Path) -> None:
    device = connect(f"browser:{shared}/ort-web:threads=1,timeout_s=60,memory_bytes={64 * 2**20}")
    with device.open() as small:
        assert small.info.free_bytes < 32 * 2**20
        with pytest.raises(ProgramError, match=r"out of memory: .* limited to 64 MiB; compose it from stubs") as caught:
            small.load(product(tmp_path, 4096))
        assert not isinstance(caught.value, WorkerDiedError)
        assert len(small.run(small.load(product(tmp_path, 64)).program_id, "f", 3)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("threads=99", r"threads must be 1 to \d+ here, not 99$"),
        ("pin=yes", "option 'pin=yes' is unknown"),
    ],
)
def test_options_that_a_page_lacks_are_refused(shared: str, options: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        connect(f"browser:{shared}/ort-web:{options}").info()


def test_a_device_without_gpu_says_so(shared: str) -> None:
    with pytest.raises(DeviceError, match=r"could not be set up: .*webgpu"):
        connect(f"browser:{shared}/ort-web:backend=webgpu").info()


def test_a_gpu_that_runs_no_node_is_an_error(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[1,n,n] x) => (float[1] y) { y = Det(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "det.onnx")
    x = {"dtype": "float32", "shape": [1, 2, 2], "uniform": 0.5, "seed": 3}
    feed = Feed("f", canonical_json({"inputs": {"x": x}}), Work(1, 1, 1))
    program = Program("det", "det.onnx", "{}", (feed,), (program_file(tmp_path / "det.onnx"),))
    with (
        BROWSER["opened"]("gpu", tmp_path, *BROWSER["SOFTWARE_GPU"]),
        connect("browser:gpu/ort-web:backend=webgpu,timeout_s=60").open() as gpu,
    ):
        assert gpu.load(square(tmp_path, 8)).providers == {"WebGpuExecutionProvider": 1}
        with pytest.raises(ProgramError, match=r"'webgpu' was requested but runs none of the 1 nodes of 'det\.onnx'"):
            gpu.load(program)


def long_run(device: str, folder: Path, disturb: Callable[[threading.Event], object]) -> int:
    """Number of times of a run that lasts for seconds, during which something happens, which is given the end."""
    ended = threading.Event()
    with connect(device).open() as opened:
        loaded = opened.load(square(folder, 192))
        first = min(opened.run(loaded.program_id, "f", 5))  # another process may have taken the processor
        timer = threading.Timer(0.3, disturb, (ended,))
        timer.start()
        try:
            seconds = opened.run(loaded.program_id, "f", int(1.5 / first))
        finally:
            ended.set()
            timer.join()
        assert opened.environment()["hidden_times"] == 1
        return len(seconds)


def hide(tab: Tab) -> None:
    tab.control(("Target.createTarget", {"url": "about:blank"}))


def test_a_run_of_a_hidden_page_is_repeated_when_it_is_seen_again(tab: Tab, tmp_path: Path) -> None:
    def hide_for_a_while(_: threading.Event) -> None:
        hide(tab)
        time.sleep(0.5)
        tab.control(("Target.activateTarget", {"targetId": "TAB"}))

    assert long_run(tab.device, tmp_path, hide_for_a_while) > 100


def test_a_page_that_is_hidden_again_and_again_is_refused(tab: Tab, tmp_path: Path) -> None:
    def hide_often(ended: threading.Event) -> None:
        while not ended.is_set():
            hide(tab)
            time.sleep(0.3)
            tab.control(("Target.activateTarget", {"targetId": "TAB"}))
            time.sleep(0.3)

    with pytest.raises(ProgramError, match="the page was hidden during run, 3 times; keep it in front") as caught:
        long_run(tab.device, tmp_path, hide_often)
    assert not isinstance(caught.value, WorkerDiedError)


def test_a_tab_that_crashes_is_a_dead_worker_and_a_new_one_goes_on(tab: Tab, tmp_path: Path) -> None:
    def crash(_: threading.Event) -> None:
        port = (tab.profile / "DevToolsActivePort").read_text().split()[0]

        async def send() -> None:
            async with ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    (target,) = [each for each in await answer.json() if each["title"] == "adaptare"]
                async with session.ws_connect(target["webSocketDebuggerUrl"]) as link:
                    await link.send_json({"id": 1, "method": "Page.crash"})
                    await asyncio.sleep(0.5)

        asyncio.run(send())

    with pytest.raises(WorkerDiedError, match="its last output: the page was closed"):
        long_run(tab.device, tmp_path, crash)
    tab.control(("Target.createTarget", {"url": tab.url}))
    with connect(tab.device).open() as again:
        assert len(again.run(again.load(square(tmp_path, 4)).program_id, "f", 3)) == 3


def test_a_page_that_is_not_isolated_has_one_thread_and_says_so(tmp_path: Path) -> None:
    with BROWSER["served"]("bare", "--runtime-files", BROWSER["RUNTIME"]) as (url, server):
        elsewhere = url.replace("127.0.0.1", "phone.test")
        rule = "--host-resolver-rules=MAP phone.test 127.0.0.1"
        with BROWSER["chromium"](elsewhere, tmp_path / "profile", *BROWSER["NO_GPU"], rule):
            with connect("browser:bare/ort-web:timeout_s=60").open() as bare:
                assert (bare.info.threads, bare.info.environment["isolated"]) == (1, False)
                assert bare.info.timer_step_s == pytest.approx(1e-4, rel=0.1)
                loaded = bare.load(square(tmp_path, 4))
                assert min(bare.run(loaded.program_id, "f", 50)) > 0  # shorter than a step of that clock, yet timed
            with pytest.raises(InputError, match="threads must be 1 to 1 here, not 2: the page is not isolated"):
                connect("browser:bare/ort-web:threads=2").info()
        server.terminate()
        assert "browser:bare is open; it is not isolated: one thread, and a coarse clock" in server.stderr.read()
