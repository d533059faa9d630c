"""Server of a report that is read again whenever its inputs change, and of the page that makes a browser a device."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web

from adaptare.core import AdaptareError, InputError
from adaptare.core.lazy_names import missing_package
from adaptare.devices.browser import PageServer

if TYPE_CHECKING:
    from adaptare.views.report.page import InputChapters

HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (refused)
# Parts that change without the results: identifiers of their elements, and names of their templates.
PARTS: Final = ("running", "joining")
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Reading:
    """Chapters of the inputs at one time.

    Args:
        content: Their HTML.
        version: Changes with the content.
    """

    stamp: Stamp
    parts: Sequence["InputChapters"]
    content: str
    version: str

    @classmethod
    def of(cls, inputs: Sequence[str], stamp: Stamp) -> "Reading":
        """Reads all inputs that are there. Raises `InputError`."""
        from adaptare.views.report.page import content, parts_of
        from adaptare.workflows.reporting.inputs import read_source

        parts = parts_of([read_source(place) for place in inputs if _is_there(place)])
        text = content(parts)
        return cls(stamp, parts, text, hashlib.sha256(text.encode()).hexdigest())


class LivePage:
    """Page of some inputs, and under it that of a device, for browsers that know their token.

    Args:
        inputs: See `read_source`; those that do not exist yet are left out.
        device: Server of the device's page.
    """

    def __init__(self, inputs: Sequence[str], device: PageServer) -> None:
        self._inputs, self._device = inputs, device
        self._token = secrets.token_urlsafe(24)
        self._last = Reading((), (), "", "")
        self._lock = asyncio.Lock()
        self.application = web.Application(middlewares=[self._guard])
        self.application.on_response_prepare.append(_add_headers)
        answers = {"": self._whole, "content": self._content, "now": self._now}
        self.application.add_routes([web.get(f"{self.path}{name}", answer) for name, answer in answers.items()])
        self.application.add_subapp(f"{self.path}device", device.application)

    @property
    def path(self) -> str:
        """Path of the page."""
        return f"/{self._token}/"

    async def serve(self, *, host: str, port: int, started: Callable[[str], None]) -> None:
        """Serves until it is cancelled. Raises `InputError` if the address or the port cannot be used.

        Args:
            host: Address of this machine for browsers.
            port: 0: any free one.
            started: Receives the address of the page; the device then knows its own.
        """
        if host in EVERYWHERE:
            raise InputError(f"the host {host!r} is every address; name the one that the device reaches")
        runner = web.AppRunner(self.application, access_log=None)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                reason = error.strerror or error
                raise InputError(f"cannot serve on {host}, port {port}: {reason}; choose another") from error
            url = f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}{self.path}"
            async with self._device.reachable(f"{url}device/"):
                started(url)
                await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not hmac.compare_digest(request.path.split("/")[1].encode(), self._token.encode()):
            raise web.HTTPForbidden(text="open the address that the server has printed\n")
        try:
            return await handler(request)
        except (AdaptareError, ImportError) as error:
            raise web.HTTPServiceUnavailable(text=f"{missing_package(error) or error}\n") from error

    async def _whole(self, request: web.Request) -> web.Response:
        reading = await self._reading()
        # The reading has imported these, which takes seconds.
        from adaptare.views.report.page import page
        from adaptare.workflows.profiling.running import store_name

        names = [store_name(place) if "://" in place else place for place in self._inputs]
        title = f"adaptare, live: {', '.join(names)}"
        live = {"version": reading.version, "states": await self._states()}
        text = await asyncio.to_thread(page, reading.parts, title=title, live=live)
        return web.Response(text=text, content_type="text/html")

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(text=(await self._reading()).content, content_type="text/html")

    async def _now(self, request: web.Request) -> web.Response:
        return web.json_response({"version": (await self._reading()).version, "states": await self._states()})

    async def _states(self) -> Mapping[str, str]:
        """HTML of the parts that change without the results."""
        from adaptare.views.report.page import templates
        from adaptare.workflows.profiling.running import running_campaigns, store_name

        stores, url = [store_name(place) for place in self._inputs], self._device.url
        campaigns = await asyncio.to_thread(running_campaigns, stores)
        given = {"campaigns": campaigns, "device": self._device, "qr_code": _qr_code(url), "port": urlsplit(url).port}
        return {name: templates().get_template(f"{name}.html").render(given) for name in PARTS}

    async def _reading(self) -> "Reading":
        """The inputs as they are now; read once for all who ask meanwhile."""
        async with self._lock:
            stamp = _stamp(self._inputs)
            if not self._last.version or stamp != self._last.stamp or any("://" in place for place in self._inputs):
                self._last = await asyncio.to_thread(Reading.of, self._inputs, stamp)
            return self._last


def serve_live(
    inputs: Sequence[str], device: PageServer, *, host: str, port: int, started: Callable[[str], None]
) -> None:
    """Serves until the process is interrupted or terminated; see `LivePage` and `LivePage.serve`."""

    async def serve() -> None:
        task = asyncio.current_task()
        if task is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):  # on Windows, Ctrl-C raises KeyboardInterrupt instead
                    asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await LivePage(inputs, device).serve(host=host, port=port, started=started)

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(serve())


async def _add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _is_there(place: str) -> bool:
    return "://" in place or Path(place).exists()


@cache
def _qr_code(url: str) -> str:
    import segno

    return segno.make(url).svg_inline(scale=4, light="white")


def _stamp(inputs: Sequence[str]) -> Stamp:
    """Sizes and times of all files of the inputs; a database elsewhere has none."""
    files = [file for place in inputs if "://" not in place for file in _files(Path(place))]
    states = ((file, _state(file)) for file in files)
    return tuple((str(file), found.st_size, found.st_mtime_ns) for file, found in states if found)


def _state(file: Path) -> os.stat_result | None:
    """`None` for a file that is not there, or not there any more: a store removes the one of its newest rows."""
    try:
        return file.stat()
    except OSError:
        return None


def _files(place: Path) -> list[Path]:
    """Files of an input; a store in use has one more, of the newest rows."""
    inside = [file for file in sorted(place.iterdir()) if file.is_file()] if place.is_dir() else [place]
    return [*inside, *(file.with_name(f"{file.name}-wal") for file in inside)]
