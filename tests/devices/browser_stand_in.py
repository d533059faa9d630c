"""Servers of pages, and pages that are no browser: programs that keep to its protocol, or do not."""

import asyncio
import contextlib
import json
import runpy
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from adaptare.devices.browser.transport import ServerState, read_state

SERVED = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "browser_device.py"))["served"]
TOLD = {"runtime": "onnxruntime-web 0.0.0", "threads": 1, "free_bytes": 2**30, "timer_step_s": 1e-4}
TOLD |= {"providers": ["wasm"], "capabilities": [], "machine": {"hardware": "A page", "at_s": 0, "known": {}}}
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


@contextlib.asynccontextmanager
async def page(server: Served, origin: str | None = None) -> AsyncIterator[ClientWebSocketResponse]:
    """A connection such as a page has."""
    headers = {"Origin": server.origin if origin is None else origin}
    async with ClientSession() as session, session.ws_connect(f"{server.url}socket", headers=headers) as connection:
        yield connection


@contextlib.contextmanager
def answering(server: Served, reply: Reply) -> Iterator[None]:
    """A page that answers each request, or is closed without an answer; `machine` and `hello` are answered as usual."""
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
                    answer = {"reply": TOLD} if request["op"] in ("machine", "hello") else reply(request)
                    if answer is None:
                        return
                    if "reply" in answer:
                        answer["reply"] = {"seq": request["seq"], "ok": True, **answer["reply"]}
                    await connection.send_str(json.dumps({"id": content["id"], **answer}))

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert opened.wait(60)
        yield
    finally:
        stop.set()
        thread.join()
