"""Server of a page: gives it to a browser, and relays requests of this user's processes to it."""

import asyncio
import contextlib
import hmac
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from adaptare.core import DeviceError, InputError
from adaptare.devices.browser.page_link import PageLink, PageLostError
from adaptare.devices.browser.transport import ServerState, published, read_state
from adaptare.devices.browser.web_pages import PUBLIC_FILES, OpenPage, RuntimeFiles, WebPages, local_files

# Requests carry the specification of every input of a program.
LARGEST_REQUEST_BYTES = 64 * 2**20
# Close code by which a page knows that another one is the device now.
TAKEN = 4001
LOOPBACK = "127.0.0.1"


class PageServer:
    """One page at a time; a page that is opened later takes over, unless agents run in the present one.

    Args:
        name: Name of the device, which is `browser:NAME`.
        report: Callback that receives a line for the user whenever a page comes or goes.

    Raises:
        InputError: A server with this name runs already, or no page can have it.
    """

    def __init__(self, *, name: str, runtime: RuntimeFiles, report: Callable[[str], None]) -> None:
        with contextlib.suppress(DeviceError):
            read_state(name).ask("status")
            raise InputError(
                f"a page named {name!r} is served already; end that server, or choose another name", parameter="name"
            )
        self.name = name
        self._report, self._secret = report, secrets.token_urlsafe(32)
        self._pages = WebPages(name=name, runtime=runtime, joined=self._join)
        # The page and its files, for a server that keeps others away from it.
        self.application = self._pages.application
        self._page: PageLink | None = None
        self.open_page: OpenPage | None = None
        self._agents: set[int] = set()
        self._numbers = itertools.count(1)
        self.url = ""

    @property
    def measures(self) -> bool:
        """True if programs run in the page."""
        return bool(self._agents)

    @contextlib.asynccontextmanager
    async def reachable(self, url: str) -> AsyncIterator[None]:
        """Serves other processes of this user, on loopback, within the context; then closes the page.

        Args:
            url: Address of the page.
        """
        self.url = url
        local = await asyncio.start_server(self._serve_process, LOOPBACK, 0, limit=LARGEST_REQUEST_BYTES)
        state = ServerState(url, local.sockets[0].getsockname()[1], self._secret)
        try:
            with published(self.name, state):
                yield
        finally:
            local.close()
            if self._page:
                await self._page.close(1001)

    async def _join(self, page: PageLink, told: OpenPage) -> None:
        if self._page and self._agents:
            await page.close(TAKEN)
            return
        if self._page:
            await self._page.close(TAKEN)
        self._page, self.open_page = page, told
        alone = "" if told.isolated else "; it is not isolated: one thread, and a coarse clock"
        self._report(f"browser:{self.name} is open{alone}")
        await page.listen()
        if self._page is page:
            self._page = self.open_page = None
            self._report(f"browser:{self.name} was closed")

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
            await _send(writer, {"url": self.url, "open": self._page is not None})
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


def page_server(*, name: str, runtime_files: Path | None, report: Callable[[str], None]) -> PageServer:
    """Server of a page; see `PageServer`.

    Args:
        runtime_files: Folder with the files of ONNX Runtime Web; default: the page loads them from a public host.
    """
    return PageServer(name=name, runtime=local_files(runtime_files) if runtime_files else PUBLIC_FILES, report=report)
