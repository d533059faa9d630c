"""The page and everything it loads, with ONNX Runtime Web from a folder or from a public host."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from adaptare.core import InputError
from adaptare.devices.browser.page_link import PageLink

VERSION = "1.30.0"
PUBLIC = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
# Of the package on npm, as used by the page: entry point, glue and binary of each backend.
HASHES: Mapping[str, str] = {
    "ort.wasm.min.mjs": "sha384-SfFfy/pvthiOsgaw3KX0bV5TfQ6Iq+oY9KutMe4SxIuHH4cl+DCSD4rTsYOoG1tJ",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
    "ort.webgpu.min.mjs": "sha384-FPQBMbud8ICuP0Ii+Gr95KWEX9pKHtUC3lacIp0aPI8WYluKvTsEGQ3AE2Ze3QlL",
    "ort-wasm-simd-threaded.asyncify.mjs": "sha384-qViEcCGzsR/m8nlQwIsbYh7afN4thuraqFYDQY6huvmoLVoZq/eYawQ1wrv8nnhA",
    "ort-wasm-simd-threaded.asyncify.wasm": "sha384-EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
}
TEXTS = {".html": "html", ".css": "css", ".js": "javascript", ".mjs": "javascript"}
TYPES = {suffix: f"text/{kind}; charset=utf-8" for suffix, kind in TEXTS.items()} | {".wasm": "application/wasm"}
FOLDER = Path(__file__).parent / "page"
PAGE = ("index.html", "page.css", "page.js", "agent.js", "feeds.js")
# Outputs and times are small; inputs never come from a page.
LARGEST_MESSAGE_BYTES = 4 * 2**20
HEARTBEAT_S = 10.0
# A page that is closed has this long to agree.
CLOSED_S = 1.0
KEPT = "private, max-age=86400, immutable"
HEADERS = {
    # Both are needed for threads, and for a clock with small steps.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# Characters of what a page says of its hardware.
LONGEST_NAME = 200


@dataclass(frozen=True)
class OpenPage:
    """Facts that an open page tells.

    Args:
        hardware: Name of the hardware; empty if unknown.
        isolated: True if it may have several threads and a clock with small steps.
    """

    hardware: str
    isolated: bool


Joined = Callable[[PageLink, OpenPage], Awaitable[None]]


@dataclass(frozen=True)
class RuntimeFiles:
    """Origin of the library.

    Args:
        folder: URL of its files, relative to that of the page.
        files: Name -> local file to serve; empty if the page loads them from elsewhere.
        integrity: Name -> hash that the browser checks; empty for local files.
    """

    folder: str
    files: Mapping[str, Path] = field(default_factory=dict)
    integrity: Mapping[str, str] = field(default_factory=dict)


PUBLIC_FILES = RuntimeFiles(PUBLIC, integrity=HASHES)


def local_files(folder: Path) -> RuntimeFiles:
    """Files of an unpacked `npm pack onnxruntime-web`, or of its `dist` folder, in any version. Raises `InputError`."""
    places = (folder, folder / "dist", folder / "package" / "dist")
    place = next((place for place in places if all((place / name).is_file() for name in HASHES)), None)
    if place is None:
        raise InputError(
            f"{str(folder)!r} has no files {', '.join(HASHES)}; unpack there: npm pack onnxruntime-web@{VERSION}"
        )
    return RuntimeFiles("runtime/", files={name: place / name for name in HASHES})


class WebPages:
    """Web application of a page, for a server that tells its address to nobody else.

    Args:
        joined: Serves an open page until it is closed; is given what the page tells of its browser.
    """

    def __init__(self, *, name: str, runtime: RuntimeFiles, joined: Joined) -> None:
        self.brought: dict[str, Path] = {}
        self._about = {"name": name, "folder": runtime.folder, "integrity": dict(runtime.integrity) or None}
        self._joined = joined
        self._policy = content_policy(runtime)
        self._files = {name: FOLDER / (name or PAGE[0]) for name in ("", *PAGE)}
        self._files |= {f"runtime/{name}": file for name, file in runtime.files.items()}
        self.application = web.Application()
        self.application.on_response_prepare.append(self._add_headers)
        self.application.add_routes(
            [
                web.get("/device.json", self._about_device),
                web.get("/socket", self._socket),
                web.get("/files/{digest}", self._brought_file),
                web.get("/{name:.*}", self._file),
            ]
        )

    async def _add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        for name, value in {**HEADERS, "Content-Security-Policy": self._policy}.items():
            response.headers.setdefault(name, value)

    async def _file(self, request: web.Request) -> web.FileResponse:
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        file, kept = self._files[name], {"Cache-Control": KEPT} if "/" in name else {}
        return web.FileResponse(file, headers={"Content-Type": TYPES[file.suffix], **kept})

    async def _about_device(self, request: web.Request) -> web.Response:
        return web.json_response(self._about)

    async def _brought_file(self, request: web.Request) -> web.FileResponse:
        file = self.brought.get(request.match_info["digest"])
        if file is None or not file.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(file, headers={"Content-Type": "application/octet-stream"})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        origin = request.headers.get("Origin", "")
        if urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="only the page itself may connect\n")
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=LARGEST_MESSAGE_BYTES, timeout=CLOSED_S)
        await socket.prepare(request)
        hardware = request.query.get("hardware", "")[:LONGEST_NAME]
        await self._joined(PageLink(socket), OpenPage(hardware, request.query.get("isolated") == "true"))
        return socket


def content_policy(runtime: RuntimeFiles) -> str:
    """Content security policy: everything from the server itself, and the library from its public host, if used.

    What comes from elsewhere is checked by hash and then given to the browser as `blob:`.
    """
    blob, host = "", ""
    if runtime.integrity:
        parts = urlsplit(runtime.folder)
        blob, host = " blob:", f" {parts.scheme}://{parts.netloc}"
    rules = {
        "default-src": "'none'",
        "script-src": f"'self' 'wasm-unsafe-eval'{blob}",
        "worker-src": f"'self'{blob}",
        "connect-src": f"'self'{blob}{host}",
        "style-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
