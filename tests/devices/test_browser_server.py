"""The server of a page, against pages and processes that do not keep to the protocol. No browser is needed."""

import asyncio
import contextlib
import hashlib
import json
import os
import runpy
import signal
import socket
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from yarl import URL

from adaptare.devices import (
    DeviceError,
    Feed,
    InputError,
    Program,
    ProgramError,
    Work,
    WorkerDiedError,
    connect,
    program_file,
)
from adaptare.devices.browser import transport
from adaptare.devices.browser.runtime_files import HASHES, PUBLIC_FILES, RuntimeFiles, local_files
from adaptare.devices.browser.state import ServerState, read_state, state_file
from adaptare.devices.browser.web_pages import LARGEST_MESSAGE_BYTES, content_policy
from adaptare.devices.program import canonical_json

SERVED = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "browser_device.py"))["served"]
TOLD = {"runtime": "onnxruntime-web 0.0.0", "threads": 1, "gap_s": 0, "free_bytes": 2**30, "processors": []}
TOLD |= {"cache_bytes": 2**25, "timer_step_s": 1e-4, "providers": ["wasm"], "capabilities": [], "hardware": "A page"}
TOLD |= {"environment": {}}
Reply = Callable[[dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    name: str
    process: int

    @property
    def state(self) -> ServerState:
        return read_state(self.name)

    @property
    def origin(self) -> str:
        return "{0.scheme}://{0.netloc}".format(urlsplit(self.url))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with SERVED("served") as (url, process):
        yield Served(url, "served", process.pid)


@contextlib.asynccontextmanager
async def page(server: Served, origin: str | None = None) -> AsyncIterator[ClientWebSocketResponse]:
    """A connection such as a page has."""
    headers = {"Origin": server.origin if origin is None else origin}
    async with ClientSession() as session, session.ws_connect(f"{server.url}socket", headers=headers) as connection:
        yield connection


@contextlib.contextmanager
def answering(server: Served, reply: Reply) -> Iterator[None]:
    """A page that answers each request, or is closed where there is no answer; `hello` is answered as usual."""
    opened, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with page(server) as connection:
            opened.set()
            while not stop.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    message = await connection.receive(timeout=0.05)
                    if message.type is not WSMsgType.TEXT:
                        return
                    content = json.loads(message.data)
                    if (request := content.get("request")) is None:
                        continue
                    answer = {"reply": TOLD} if request["op"] == "hello" else reply(request)
                    if answer is None:
                        return
                    if "reply" in answer:
                        answer["reply"] = {"seq": request["seq"], "ok": True, **answer["reply"]}
                    await connection.send_str(json.dumps({"id": content["id"], **answer}))

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert opened.wait(10)
        yield
    finally:
        stop.set()
        thread.join()


def run_unloaded(server: Served, reply: Reply) -> None:
    """Asks a page to run what it never loaded."""
    with answering(server, reply), connect(f"browser:{server.name}").open() as worker:
        worker.run("p", "f", 1)


def status(server: Served, path: str, **headers: str) -> int:
    """Status of a request; the path is sent as it is."""

    async def ask() -> int:
        async with ClientSession() as session:
            address = URL(server.origin + path, encoded=True)
            async with session.get(address, headers=headers, allow_redirects=False) as response:
                return response.status

    return asyncio.run(ask())


def path_of(server: Served) -> str:
    return urlsplit(server.url).path


@pytest.mark.parametrize("path", ["/", "/index.html", "/agent.js", "/wrong/", "/wrong/socket", "/%00/", "//"])
def test_nothing_is_served_without_the_token(served: Served, path: str) -> None:
    assert status(served, path) == 403


@pytest.mark.parametrize("name", ["", "index.html", "page.css", "page.js", "agent.js", "feeds.js", "device.json"])
def test_the_page_is_isolated_and_loads_only_from_its_server(served: Served, name: str) -> None:
    async def headers() -> dict[str, str]:
        async with ClientSession() as session, session.get(served.url + name) as response:
            assert response.status == 200
            return dict(response.headers)

    found = asyncio.run(headers())
    assert found["Cross-Origin-Opener-Policy"] == "same-origin"
    assert found["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert found["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'")
    assert (found["Referrer-Policy"], found["Cache-Control"]) == ("no-referrer", "no-store")


def test_only_local_files_of_the_library_need_no_blobs() -> None:
    assert "blob:" not in content_policy(RuntimeFiles("runtime/"))
    policy = content_policy(PUBLIC_FILES)
    assert "connect-src 'self' blob: https://cdn.jsdelivr.net;" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy


@pytest.mark.parametrize(
    "tail",
    [
        "files/../../../../etc/passwd",
        "files/..%2f..%2f..%2fetc%2fpasswd",
        "files/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "files//etc/passwd",
        "files/",
        "runtime/..%2f..%2fserver.py",
        "runtime/ort.wasm.min.mjs",
        "..%2fserver.py",
        "../server.py",
        "__init__.py",
    ],
)
def test_no_path_leads_out_of_what_is_served(served: Served, tail: str) -> None:
    assert status(served, path_of(served) + tail) in (403, 404)


def test_a_page_is_given_the_files_that_were_brought_and_no_others(served: Served, tmp_path: Path) -> None:
    (tmp_path / "brought").write_bytes(b"content")
    (tmp_path / "other").write_bytes(b"secret")
    brought, other = (hashlib.sha256(content).hexdigest() for content in (b"content", b"secret"))
    assert served.state.ask("file", digest=brought, path=str(tmp_path / "brought")) == {}
    assert status(served, f"{path_of(served)}files/{brought}") == 200
    assert status(served, f"{path_of(served)}files/{other}") == 404
    assert status(served, f"/files/{brought}") == 403
    (tmp_path / "brought").unlink()
    assert status(served, f"{path_of(served)}files/{brought}") == 404


@pytest.mark.parametrize(
    "origin", ["", "null", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1.evil.example"]
)
def test_only_the_page_itself_may_connect(served: Served, origin: str) -> None:
    async def join() -> None:
        async with page(served, origin):
            pass

    with pytest.raises(WSServerHandshakeError, match="403"):
        asyncio.run(join())


MISBEHAVIOUR: dict[str, tuple[Callable[[ClientWebSocketResponse, str], Awaitable[None]], str]] = {
    "no json": (lambda link, number: link.send_str("{"), "a message that is no reply"),
    "no object": (lambda link, number: link.send_str("[1, 2]"), "a message that is no reply"),
    "nested deep": (lambda link, number: link.send_str("[" * 10**6), "a message that is no reply"),
    "no number": (lambda link, number: link.send_json({"reply": {}}), "a message that is no reply"),
    "bytes": (lambda link, number: link.send_bytes(b"\0"), "a message that is no text"),
    "another number": (lambda link, number: link.send_json({"id": "0" * 32, "reply": {}}), "a reply that nobody waits"),
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
            asked = json.loads((await connection.receive(timeout=20)).data)
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
            asked = json.loads((await connection.receive(timeout=20)).data)
            answer = {"id": asked["id"], "reply": {"seq": asked["request"]["seq"], "ok": True, **TOLD}}
            await connection.send_json(answer)
            while json.loads((await connection.receive(timeout=20)).data)["id"] == asked["id"]:
                pass
            await connection.send_json(answer)
            await task
            closing = await connection.receive(timeout=20)
            while closing.type is WSMsgType.TEXT:
                closing = await connection.receive(timeout=20)
            return int(closing.data)

    def measure() -> None:
        with (
            connect(f"browser:{served.name}").open() as worker,
            pytest.raises(WorkerDiedError, match="the page sent a reply that nobody waits for; it was disconnected"),
        ):
            worker.run("p", "f", 1)

    assert asyncio.run(serve()) == 1008


def test_a_page_that_nobody_asked_may_not_speak(served: Served) -> None:
    async def speak() -> int | None:
        async with page(served) as connection:
            await connection.send_json({"id": "", "reply": {"ok": True}})
            await connection.receive(timeout=10)
            return connection.close_code

    assert asyncio.run(speak()) == 1008


def local_answer(server: Served, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.state.port), timeout=10) as connection:
        connection.sendall(line)
        return connection.makefile("rb").read()


@pytest.mark.parametrize(
    "line",
    [
        b'{"secret": "wrong", "op": "status"}\n',
        b'{"op": "status"}\n',
        b'{"secret": 7, "op": "status"}\n',
        b'{"secret": null}\n',
        b"[]\n",
        b"\xff\xfe\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_process_without_the_secret_gets_no_answer(served: Served, line: bytes) -> None:
    assert local_answer(served, line) == b""
    assert served.state.ask("status")["url"] == served.url


def test_a_process_that_asks_for_what_there_is_not_gets_no_answer(served: Served) -> None:
    for content in ({"op": "evaluate"}, {"op": "file"}, {"op": "file", "digest": 1, "path": 2}):
        line = json.dumps({"secret": served.state.secret, **content}).encode() + b"\n"
        assert local_answer(served, line) == b""
    assert served.state.ask("status")["url"] == served.url


def test_only_its_user_can_read_the_secret(served: Served) -> None:
    assert stat.S_IMODE(os.stat(state_file(served.name)).st_mode) == 0o600


def test_listens_on_loopback_alone(served: Served) -> None:
    listening = [each for each in psutil.Process(served.process).net_connections() if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    assert len(listening) == 2


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_every_address_is_none(host: str) -> None:
    with SERVED("everywhere", "--host", host) as (said, process):
        assert f"--host {host!r} is every address" in said
        assert process.wait() == 2


def test_an_address_of_another_machine_is_refused() -> None:
    with SERVED("elsewhere", "--host", "192.0.2.1") as (said, process):
        assert "cannot serve on 192.0.2.1, port 0" in said
        assert process.wait() == 2


def test_a_folder_without_the_library_is_refused(tmp_path: Path) -> None:
    with SERVED("empty", "--runtime-files", str(tmp_path)) as (said, process):
        assert "has no files ort.wasm.min.mjs, " in said
        assert process.wait() == 2


def test_the_library_may_lie_deeper(tmp_path: Path) -> None:
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in HASHES:
        (tmp_path / "package" / "dist" / name).touch()
    assert local_files(tmp_path) == local_files(tmp_path / "package") == local_files(tmp_path / "package" / "dist")


def test_a_name_is_served_once(served: Served) -> None:
    with SERVED(served.name) as (said, process):
        assert f"a page named '{served.name}' is served already" in said
        assert process.wait() == 2
    assert served.state.ask("status")["url"] == served.url


@pytest.mark.parametrize("name", ["../x", "a b", "", "x" * 41, "a.b", "ä"])
def test_a_name_is_a_word(name: str) -> None:
    with pytest.raises(InputError, match="a page is named by up to 40 letters"):
        state_file(name)


def test_a_server_that_ends_takes_its_state_along() -> None:
    with SERVED("brief") as (_, process):
        assert state_file("brief").exists()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert not state_file("brief").exists()
    with pytest.raises(DeviceError, match="no page named 'brief' is served; run: adaptare devices serve --name brief"):
        read_state("brief")


def test_what_a_killed_server_left_is_written_over() -> None:
    with SERVED("killed") as (_, process):
        process.kill()
        process.wait()
    with pytest.raises(DeviceError, match="does not answer; restart: adaptare devices serve"):
        read_state("killed").ask("status")
    with SERVED("killed"):
        assert read_state("killed").ask("status")["open"] is False


def test_a_page_that_is_opened_later_takes_over(served: Served) -> None:
    async def both() -> int | None:
        async with page(served) as first, page(served):
            await first.receive(timeout=10)
            return first.close_code

    assert asyncio.run(both()) == 4001


def test_no_page_takes_over_during_a_measurement(served: Served) -> None:
    codes: list[int | None] = []

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        async def second() -> int | None:
            async with page(served) as connection:
                await connection.receive(timeout=10)
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


def test_several_processes_have_an_agent_each(served: Served) -> None:
    device = connect(f"browser:{served.name}")
    with (
        answering(served, lambda request: {"reply": {"count": 1, "seconds": [0.5], "end": request["op"] == "close"}}),
        device.open() as first,
        device.open() as second,
    ):
        assert first.run("p", "f", 1) == second.run("p", "f", 1) == [0.5]


def test_without_a_page_its_address_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WAIT_S", 0.3)
    with pytest.raises(DeviceError, match=f"no browser has opened the page .*; its address is {served.url}"):
        connect(f"browser:{served.name}").info()


def test_a_page_that_is_closed_during_a_run_is_a_dead_worker(served: Served) -> None:
    with pytest.raises(WorkerDiedError, match="ended during 'run' with exit code 1; it last said: the page was closed"):
        run_unloaded(served, lambda request: None)


def test_an_agent_that_died_in_the_page_is_a_dead_worker(served: Served) -> None:
    with pytest.raises(WorkerDiedError, match="it last said: the agent in the page ended: RuntimeError: unreachable"):
        run_unloaded(served, lambda request: {"died": "RuntimeError: unreachable"})


def test_a_server_that_is_killed_during_a_run_is_a_dead_worker() -> None:
    with SERVED("mortal") as (url, process):

        def kill(request: dict[str, Any]) -> None:
            process.kill()

        with pytest.raises(WorkerDiedError, match="it last said: the server of the page"):
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
    onnx = pytest.importorskip("onnx")
    graph = "g (float[2] x) => (float[2] y) { y = Add(x, x) }"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}'), tmp_path / "m.onnx")
    inputs = {"inputs": {"x": {"dtype": "float32", "shape": [2], "constant": 2.0}}}
    feed = Feed("f", canonical_json(inputs), Work(1, 1, 1))
    program = Program("p", "m.onnx", "{}", (feed,), (program_file(tmp_path / "m.onnx"),))
    asked: list[str] = []

    def page_giving(value: float) -> Reply:
        def reply(request: dict[str, Any]) -> dict[str, Any]:
            asked.append(request["op"])
            loaded = {"outputs": {"f": [4.0, value]}, "resident_bytes": 0, "load_s": 1.0, "providers": {"wasm": 1}}
            loaded |= {"bind_s": {"f": 0.1}, "first_call_s": {"f": 0.1}, "peak_bytes": 0, "copies": 1}
            return {"reply": {"missing": [], "end": request["op"] == "close", **loaded}}

        return reply

    device = connect(f"browser:{served.name}")
    with answering(served, page_giving(4.0003)), device.open() as worker:
        assert worker.load(program).outputs == {"f": (4.0, 4.0003)}
    with (
        answering(served, page_giving(4.001)),
        device.open() as worker,
        pytest.raises(ProgramError, match=r"differ from those of this machine by 0.00025 \(allowed: 0.0001\)"),
    ):
        worker.load(program)
    assert asked == ["missing", "load", "close", "missing", "load", "unload", "close"]
