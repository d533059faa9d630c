"""The library of a page, from a public host with the pinned hashes, or changed on its way."""

import asyncio
import contextlib
import queue
import re
import runpy
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from adaptare.core import DeviceError
from adaptare.devices import browser, connect
from adaptare.devices.browser import PageServer
from adaptare.devices.browser.web_pages import HASHES, RuntimeFiles, local_files
from adaptare.live_page import LivePage

BROWSER = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "browser_device.py"))
pytestmark = BROWSER["MARKS"]


@contextlib.contextmanager
def beside(serve: Callable[[Callable[[str], None]], Coroutine[Any, Any, None]]) -> Iterator[str]:
    """Address of a server that runs in another thread."""
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def main() -> None:
        told.put((asyncio.get_running_loop(), asyncio.current_task()))
        await serve(told.put)

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    loop, task = told.get(timeout=60)
    try:
        yield told.get(timeout=60)
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


@contextlib.contextmanager
def library_elsewhere(folder: Path, tail: bytes = b"") -> Iterator[str]:
    """Name of an open page that loads the library from a public host, with the pinned hashes.

    Args:
        folder: Parent folder of the browser's.
        tail: Appended to the binary.
    """
    files = local_files(Path(BROWSER["RUNTIME"])).files

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        kind, end = ("application/wasm", tail) if name.endswith(".wasm") else ("text/javascript", b"")
        headers = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
        return web.Response(body=files[name].read_bytes() + end, content_type=kind, headers=headers)

    async def serve(tell: Callable[[str], None]) -> None:
        application = web.Application()
        application.add_routes([web.get("/dist/{name}", answer)])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        tell(f"http://127.0.0.1:{runner.addresses[0][1]}/dist/")
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    with beside(serve) as address:
        runtime = RuntimeFiles(address, integrity=HASHES)
        server = PageServer(name="elsewhere", runtime=runtime, report=lambda text: None)
        with (
            beside(lambda tell: LivePage([], server).serve(host="127.0.0.1", port=0, started=tell)),
            BROWSER["chromium"](server.url, folder / "profile"),
        ):
            yield "elsewhere"


def test_the_page_loads_what_has_a_hash_and_nothing_else() -> None:
    agent = Path(browser.__file__).parent / "page" / "agent.js"
    assert set(re.findall(r'"(ort[\w.-]+\.(?:mjs|wasm))"', agent.read_text(encoding="utf-8"))) == set(HASHES)


def test_the_library_may_come_from_a_public_host(tmp_path: Path) -> None:
    with (
        library_elsewhere(tmp_path) as name,
        connect(f"browser:{name}/ort-web:threads=2,timeout_s=60").open() as worker,
    ):
        assert worker.info.threads == 2
        assert len(worker.run(worker.load(BROWSER["square"](tmp_path, 64)).program_id, "f", 3)) == 3


def test_a_library_with_another_hash_is_not_run(tmp_path: Path) -> None:
    with (
        library_elsewhere(tmp_path, b"\0") as name,
        pytest.raises(DeviceError, match="could not be set up: Failed to fetch"),
    ):
        connect(f"browser:{name}").info()
