"""Server of a report that is read again whenever its inputs change."""

import asyncio
import hmac
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from adaptare.core import AdaptareError, InputError
from adaptare.views.report.page import Part, changing_part, page, parts_of
from adaptare.workflows.reporting.inputs import read_source

HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Reading:
    """Chapters of the inputs at one time, and the HTML of what changes in the page."""

    stamp: Stamp
    parts: Sequence[Part]
    changing: str

    @classmethod
    def of(cls, inputs: Sequence[str], stamp: Stamp) -> "Reading":
        """Reads all inputs. Raises `InputError`."""
        parts = parts_of(list(map(read_source, inputs)))
        return cls(stamp, parts, changing_part(parts))


class LivePage:
    """Page of some inputs, for browsers that know its token.

    Args:
        inputs: See `read_source`.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self._inputs = inputs
        self._token = secrets.token_urlsafe(24)
        self._last = Reading((), (), "")
        self._lock = asyncio.Lock()
        self.application = web.Application(middlewares=[self._guard])
        self.application.add_routes(
            [web.get(f"/{self._token}/", self._whole), web.get(f"/{self._token}/content", self._changing)]
        )

    @property
    def path(self) -> str:
        """Path of the page."""
        return f"/{self._token}/"

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not hmac.compare_digest(request.path.split("/")[1].encode(), self._token.encode()):
            raise web.HTTPForbidden(text="open the address that the server has printed\n")
        try:
            response = await handler(request)
        except AdaptareError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from error
        response.headers.update(HEADERS)
        return response

    async def _whole(self, request: web.Request) -> web.Response:
        title = f"adaptare, live: {', '.join(self._inputs)}"
        text = await asyncio.to_thread(page, (await self._reading()).parts, title=title, live=True)
        return web.Response(text=text, content_type="text/html")

    async def _changing(self, request: web.Request) -> web.Response:
        return web.Response(text=(await self._reading()).changing, content_type="text/html")

    async def _reading(self) -> "Reading":
        """The inputs as they are now; read once for all who ask meanwhile."""
        async with self._lock:
            stamp = _stamp(self._inputs)
            if not stamp or stamp != self._last.stamp:
                self._last = await asyncio.to_thread(Reading.of, self._inputs, stamp)
            return self._last


def serve_live(inputs: Sequence[str], *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serves until the process is interrupted or terminated. Raises `InputError` for inputs and addresses.

    Args:
        inputs: See `read_source`.
        host: Address of this machine.
        port: 0: any free one.
        started: Receives the address of the page.
    """
    for place in inputs:
        read_source(place)
    try:
        listening = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot serve on {host}, port {port}: {error}; choose another") from error

    async def application() -> web.Application:
        live = LivePage(inputs)
        own_port = listening.getsockname()[1]
        started(f"http://{f'[{host}]' if ':' in host else host}:{own_port}{live.path}")
        return live.application

    web.run_app(application(), sock=listening, print=None, access_log=None)


def _stamp(inputs: Sequence[str]) -> Stamp:
    """Sizes and times of all files of the inputs; empty if one is a database elsewhere."""
    if any("://" in place for place in inputs):
        return ()
    files = [file for place in inputs for file in _files(Path(place))]
    known = [(file, file.stat()) for file in files if file.exists()]
    return tuple((str(file), found.st_size, found.st_mtime_ns) for file, found in known)


def _files(place: Path) -> list[Path]:
    """Files of an input; a store in use has one more, of the newest rows."""
    inside = [file for file in sorted(place.iterdir()) if file.is_file()] if place.is_dir() else [place]
    return [*inside, *(file.with_name(f"{file.name}-wal") for file in inside)]
