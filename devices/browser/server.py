"""Server of a page: serves it to a browser, and relays requests of this user's processes to it."""

import asyncio
import contextlib
import hmac
import itertools
import json
import secrets
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import web

from adaptare.core import DeviceError, InputError
from adaptare.devices.browser.page_link import PageLink, PageLostError
from adaptare.devices.browser.transport import ServerState, published, read_state
from adaptare.devices.browser.web_pages import PUBLIC_FILES, RuntimeFiles, WebPages, local_files

# Requests carry the specification of every input of a program.
LARGEST_REQUEST_BYTES = 64 * 2**20
# Close code by which a page knows that another one is the device now.
TAKEN = 4001
LOOPBACK = "127.0.0.1"
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (refused)


class PageServer:
    """One page at a time; a page that is opened later takes over, unless agents run in the present one.

    Args:
        name: Name of the device, which is `browser:NAME`.
        report: Callback that receives a line for the user whenever a page comes or goes.

    Raises:
        InputError: A server with this name runs already.
    """

    def __init__(self, *, name: str, runtime: RuntimeFiles, report: Callable[[str], None]) -> None:
        with contextlib.suppress(DeviceError):
            read_state(name).ask("status")
            raise InputError(f"a page named {name!r} is served already; end that server, or choose another name")
        self._name, self._report = name, report
        self._token, self._secret = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
        self._pages = WebPages(name=name, token=self._token, runtime=runtime, joined=self._join)
        self._page: PageLink | None = None
        self._agents: set[int] = set()
        self._numbers = itertools.count(1)
        self._url = ""

    async def serve(self, *, host: str, port: int, started: Callable[[str], None]) -> None:
        """Serves until it is cancelled. Raises `InputError` if the address or the port cannot be used.

        Args:
            host: Address of this machine for the page; other processes use loopback in any case.
            port: Port for the page; 0: any free one.
            started: Callback that receives the address of the page.
        """
        if host in EVERYWHERE:
            raise InputError(f"the host {host!r} is every address; name the one that the device reaches")
        runner = web.AppRunner(self._pages.application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise InputError(f"cannot serve on {host}, port {port}: {error.strerror or error}") from error
        own_port = runner.addresses[0][1]
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{own_port}/{self._token}/"
        local = await asyncio.start_server(self._serve_process, LOOPBACK, 0, limit=LARGEST_REQUEST_BYTES)
        state = ServerState(self._url, local.sockets[0].getsockname()[1], self._secret)
        try:
            with published(self._name, state):
                started(self._url)
                await local.serve_forever()
        finally:
            if self._page:
                await self._page.close(1001)
            await runner.cleanup()

    async def _join(self, page: PageLink, isolated: bool) -> None:
        if self._page and self._agents:
            await page.close(TAKEN)
            return
        if self._page:
            await self._page.close(TAKEN)
        self._page = page
        alone = "" if isolated else "; it is not isolated: one thread, and a coarse clock"
        self._report(f"browser:{self._name} is open{alone}")
        await page.listen()
        if self._page is page:
            self._page = None
            self._report(f"browser:{self._name} was closed")

    async def _serve_process(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection of a process of this user; others are closed without an answer."""
        try:
            request = await _line(reader)
            given = request.get("secret") if request else None
            if request and isinstance(given, str) and hmac.compare_digest(given.encode(), self._secret.encode()):
                await self._answer(request, reader, writer)
        except (ConnectionError, KeyError, RecursionError, TypeError, ValueError):
            pass  # it ended, or sent what is no request
        finally:
            writer.close()

    async def _answer(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        operation = request.get("op")
        if operation == "status":
            await _send(writer, {"url": self._url, "open": self._page is not None})
        elif operation == "file":
            self._pages.brought[request["digest"]] = Path(request["path"])
            await _send(writer, {})
        elif operation == "agent":
            await self._relay(reader, writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relays requests to an agent in the page, until the end of the process, which may come during a request."""
        if (page := self._page) is None:
            await _send(writer, {"lost": "no page is open"})
            return
        agent = next(self._numbers)
        self._agents.add(agent)
        try:
            while request := await _line(reader):
                reply = await _unless_gone(page.ask(agent, request), reader)
                if reply is None:
                    return
                await _send(writer, reply)
        except PageLostError as error:
            await _send(writer, {"lost": str(error)})
        finally:
            self._agents.remove(agent)
            with contextlib.suppress(ConnectionError):
                await page.end_agent(agent)


async def _unless_gone(
    asked: Coroutine[Any, Any, dict[str, Any]], reader: asyncio.StreamReader
) -> dict[str, Any] | None:
    """A reply; `None` if the waiting process ends first, or sends another request before the reply."""
    reply, gone = asyncio.ensure_future(asked), asyncio.ensure_future(reader.read(1))
    await asyncio.wait({reply, gone}, return_when=asyncio.FIRST_COMPLETED)
    answered = reply.done()
    for task in (reply, gone):
        task.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    if not answered:
        await asyncio.gather(reply, return_exceptions=True)
        return None
    return reply.result()


async def _line(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """A JSON object; `None` at the end. Raises `ValueError` for anything else, and for lines that are too long."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError("no object")
    return content


async def _send(writer: asyncio.StreamWriter, content: dict[str, Any]) -> None:
    writer.write(json.dumps(content).encode() + b"\n")
    await writer.drain()


def serve_page(
    *,
    name: str,
    host: str,
    port: int,
    runtime_files: Path | None,
    report: Callable[[str], None],
    started: Callable[[str], None],
) -> None:
    """Serves a page until the process is interrupted or terminated; see `PageServer` and `PageServer.serve`.

    Args:
        runtime_files: Folder with the files of ONNX Runtime Web; default: the page loads them from a public host.
    """
    runtime = local_files(runtime_files) if runtime_files else PUBLIC_FILES
    server = PageServer(name=name, runtime=runtime, report=report)

    async def serve() -> None:
        task = asyncio.current_task()
        if task is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):  # on Windows, Ctrl-C raises KeyboardInterrupt instead
                    asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await server.serve(host=host, port=port, started=started)

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(serve())
