"""A page in a headless Chromium, by the DevTools protocol: for tests of pages, and for pictures of them."""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--remote-debugging-port=0", "about:blank"),
]
# A page that is slower than this hangs.
PATIENCE_S = 60.0


@dataclass
class HeadlessPage:
    """An open page.

    Args:
        requests: Addresses of everything that it has asked for.
        errors: What it wrote to its console as an error or a warning, and exceptions.
    """

    link: ClientWebSocketResponse
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _last: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Result of a command of the protocol; events that come before it are recorded."""
        self._last += 1
        await self.link.send_json({"id": self._last, "method": method, "params": parameters})
        while (message := await self._message()).get("id") != self._last:
            self._record(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    async def visit(self, url: str) -> None:
        """Opens an address and waits until it is loaded and its figures are drawn."""
        await self.call("Page.navigate", url=url)
        while (message := await self._message()).get("method") != "Page.loadEventFired":
            self._record(message)

    async def look(self, *, width: int, height: int = 900, dark: bool = False, scripts: bool = True) -> None:
        """Sets the size of the window, the preferred colours, and whether scripts run."""
        phone = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        colours = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=colours)
        await self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    async def evaluate(self, script: str) -> Any:
        """Value of an expression in the page, or of its promise."""
        done = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(str(done["exceptionDetails"]))
        return done["result"].get("value")

    async def picture(self, file: Path) -> None:
        """Writes what the window shows."""
        taken = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(taken["data"]))

    async def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads((await self.link.receive(timeout=PATIENCE_S)).data)
        return message

    def _record(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(parameters["entry"]))


@contextlib.asynccontextmanager
async def headless_page() -> AsyncIterator[HeadlessPage]:
    """A new browser with an empty page; it ends with the context."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM or "chromium", *FLAGS[:-1], f"--user-data-dir={profile}", FLAGS[-1]]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = await _port(Path(profile) / "DevToolsActivePort")
            async with ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    (tab,) = [each for each in await answer.json() if each["type"] == "page"]
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as link:
                    page = HeadlessPage(link)
                    for domain in ("Page", "Runtime", "Log", "Network"):
                        await page.call(f"{domain}.enable")
                    yield page
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)


async def _port(file: Path) -> str:
    """Port of the protocol, which a browser writes when it has started."""
    for _ in range(int(10 * PATIENCE_S)):
        if file.exists() and (lines := file.read_text().split()):
            return lines[0]
        await asyncio.sleep(0.1)
    raise TimeoutError("the browser does not start")
