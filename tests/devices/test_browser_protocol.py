"""The server of a page, against pages and processes that do not keep to the protocol, or end. No browser is needed."""

import asyncio
import contextlib
import json
import runpy
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from adaptare.core import DeviceError, ProgramError, WorkerDiedError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, connect, program_file
from adaptare.devices.browser import transport
from adaptare.devices.browser.web_pages import LARGEST_MESSAGE_BYTES

STAND_IN = runpy.run_path(str(Path(__file__).parent / "browser_stand_in.py"))
SERVED, TOLD, Served, Reply, page, answering = map(
    STAND_IN.get, ("SERVED", "TOLD", "Served", "Reply", "page", "answering")
)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with SERVED("served") as (url, process):
        yield Served(url, "served", process.pid)


def run_unloaded(server: Served, reply: Reply) -> None:
    """Asks a page to run what it never loaded."""
    with answering(server, reply), connect(f"browser:{server.name}").open() as worker:
        worker.run("p", "f", 1)


MISBEHAVIOUR: dict[str, tuple[Callable[[ClientWebSocketResponse, str], Awaitable[None]], str]] = {
    "no json": (lambda link, number: link.send_str("{"), "a message that is no reply"),
    "nested deep": (lambda link, number: link.send_str("[" * 10**6), "a message that is no reply"),
    "bytes": (lambda link, number: link.send_bytes(b"\0"), "a message that is no text"),
    "no reply": (lambda link, number: link.send_json({"id": number, "reply": 7}), "the agent in the page ended"),
    "too large": (
        lambda link, number: link.send_str(json.dumps({"id": number, "reply": {"x": "x" * LARGEST_MESSAGE_BYTES}})),
        "a message that is too large",
    ),
}


@pytest.mark.parametrize("kind", MISBEHAVIOUR)
def test_a_page_that_does_not_keep_to_the_protocol_is_no_device(served: Served, kind: str) -> None:
    misbehave, said = MISBEHAVIOUR[kind]
    failures: list[Exception] = []

    def measure() -> None:
        try:
            with connect(f"browser:{served.name}").open():
                pass
        except DeviceError as error:
            failures.append(error)

    async def serve() -> None:
        async with page(served) as connection:
            thread = threading.Thread(target=measure)
            thread.start()
            asked = json.loads((await connection.receive(timeout=60)).data)
            with contextlib.suppress(ConnectionError):  # nobody reads all of it
                await misbehave(connection, asked["id"])
            await asyncio.to_thread(thread.join)

    asyncio.run(serve())
    assert said in str(failures[0])


def test_a_reply_cannot_be_replayed(served: Served) -> None:
    """The second copy of an answer comes while the next request waits."""

    async def serve() -> int:
        async with page(served) as connection:
            task = asyncio.create_task(asyncio.to_thread(measure))
            for _ in ("machine", "hello"):
                asked = json.loads((await connection.receive(timeout=60)).data)
                answer = {"id": asked["id"], "reply": {"seq": asked["request"]["seq"], "ok": True, **TOLD}}
                await connection.send_json(answer)
            while json.loads((await connection.receive(timeout=60)).data)["id"] == asked["id"]:
                pass
            await connection.send_json(answer)
            await task
            closing = await connection.receive(timeout=60)
            while closing.type is WSMsgType.TEXT:
                closing = await connection.receive(timeout=60)
            return int(closing.data)

    def measure() -> None:
        with (
            connect(f"browser:{served.name}").open() as worker,
            pytest.raises(WorkerDiedError, match="the page sent a reply to no open request; it was disconnected"),
        ):
            worker.run("p", "f", 1)

    assert asyncio.run(serve()) == 1008


def test_a_page_that_nobody_asked_may_not_speak(served: Served) -> None:
    async def speak() -> int | None:
        async with page(served) as connection:
            await connection.send_json({"id": "", "reply": {"ok": True}})
            await connection.receive(timeout=60)
            return connection.close_code

    assert asyncio.run(speak()) == 1008


def test_a_page_that_is_opened_later_takes_over(served: Served) -> None:
    async def both() -> int | None:
        async with page(served) as first, page(served):
            await first.receive(timeout=60)
            return first.close_code

    assert asyncio.run(both()) == 4001


def test_no_page_takes_over_during_a_measurement(served: Served) -> None:
    codes: list[int | None] = []

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        async def second() -> int | None:
            async with page(served) as connection:
                await connection.receive(timeout=60)
                return connection.close_code

        if request["op"] == "run":
            codes.append(threaded(second))
        return {"reply": {"count": 1, "seconds": [0.5]}}

    with answering(served, reply), connect(f"browser:{served.name}").open() as worker:
        assert worker.run("p", "f", 1) == [0.5]
    assert codes == [4001]


def threaded(make: Callable[[], Any]) -> Any:
    """Result of a coroutine that runs beside the loop of the caller."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(make())))
    thread.start()
    thread.join()
    return results[0]


def test_without_a_page_its_address_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WAIT_S", 0.3)
    with pytest.raises(DeviceError, match=f"no browser has opened the page .*; its address is {served.url}"):
        connect(f"browser:{served.name}").info()


def test_a_page_that_is_closed_during_a_run_is_a_dead_worker(served: Served) -> None:
    with pytest.raises(
        WorkerDiedError, match="ended during 'run' with exit code 1; its last output: the page was closed"
    ):
        run_unloaded(served, lambda request: None)


def test_an_agent_that_died_in_the_page_is_a_dead_worker(served: Served) -> None:
    with pytest.raises(WorkerDiedError, match="last output: the agent in the page ended: RuntimeError: unreachable"):
        run_unloaded(served, lambda request: {"died": "RuntimeError: unreachable"})


def test_a_server_that_is_killed_during_a_run_is_a_dead_worker() -> None:
    with SERVED("mortal") as (url, process):

        def kill(request: dict[str, Any]) -> None:
            process.kill()

        with pytest.raises(WorkerDiedError, match="its last output: the server of the page"):
            run_unloaded(Served(url, "mortal", process.pid), kill)


def test_a_refusal_of_the_page_is_that_of_the_program(served: Served) -> None:
    with pytest.raises(ProgramError, match="the page was hidden for 60 s") as caught:
        run_unloaded(served, lambda request: {"reply": {"ok": False, "error": "the page was hidden for 60 s"}})
    assert not isinstance(caught.value, WorkerDiedError)


def test_a_file_that_cannot_be_read_fails_its_program(served: Served, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"any")
    program = Program("p", "model.onnx", "{}", (), (program_file(tmp_path / "model.onnx"),))
    (tmp_path / "model.onnx").unlink()

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        return {"reply": {"missing": request.get("digests", []), "end": request["op"] == "close"}}

    with (
        answering(served, reply),
        connect(f"browser:{served.name}").open() as worker,
        pytest.raises(ProgramError, match=r"model.onnx could not be brought to the device: no file"),
    ):
        worker.load(program)


def test_outputs_other_than_those_of_the_host_are_not_timed(served: Served, tmp_path: Path) -> None:
    graph = "g (float[2] x) => (float[2] y) { y = Add(x, x) }"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}'), tmp_path / "m.onnx")
    inputs = {"inputs": {"x": {"dtype": "float32", "shape": [2], "constant": 2.0}}}
    feed = Feed("f", canonical_json(inputs), Work(1, 1, 1))
    program = Program("p", "m.onnx", "{}", (feed,), (program_file(tmp_path / "m.onnx"),))
    asked: list[str] = []

    def page_giving(outputs: dict[str, list[float]]) -> Reply:
        def reply(request: dict[str, Any]) -> dict[str, Any]:
            asked.append(request["op"])
            loaded = {"outputs": outputs, "resident_bytes": 0, "load_s": 1.0, "providers": {"wasm": 1}}
            loaded |= {"bind_s": {"f": 0.1}, "first_call_s": {"f": 0.1}, "peak_bytes": 0, "copies": 1}
            return {"reply": {"missing": [], "end": request["op"] == "close", **loaded}}

        return reply

    device = connect(f"browser:{served.name}")
    with answering(served, page_giving({"f": [4.0, 4.0003]})), device.open() as worker:
        assert worker.load(program).outputs == {"f": (4.0, 4.0003)}
    for outputs, difference in (({"f": [4.0, 4.001]}, "0.00025"), ({"other": [4.0, 4.0]}, "inf")):
        asked.clear()
        with (
            answering(served, page_giving(outputs)),
            device.open() as worker,
            pytest.raises(ProgramError, match=rf"from those of this machine by {difference} \(allowed: 0.0001\)"),
        ):
            worker.load(program)
        assert asked == ["missing", "load", "unload", "close"]
