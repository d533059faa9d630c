"""Transport to a page that a server of this user serves."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence

from adaptare.core import AdaptareError, DeviceError, InputError
from adaptare.devices.browser.state import folder, read_state, state_file
from adaptare.devices.program import ProgramFile
from adaptare.devices.transport import Link, Transport, local_environment

RUNTIME = "onnxruntime-web"
# Time for a page to be opened again after it was closed.
WAIT_S = 20.0
WAIT_STEP_S = 0.2


class BrowserTransport(Transport):
    """Reaches the page of the server named NAME, spelled `browser:NAME`.

    Args:
        target: Name of the page.
    """

    usual = "ort-web"

    def __init__(self, target: str) -> None:
        state_file(target)
        self._target = target
        self.name = f"browser:{target}"

    @staticmethod
    def discover() -> Sequence[str]:
        names = []
        for file in sorted(folder().glob("*.json")):
            with contextlib.suppress(AdaptareError):
                if read_state(file.stem).ask("status")["open"]:
                    names.append(f"browser:{file.stem}")
        return names

    @contextlib.contextmanager
    def linked(self, runtime: str) -> Iterator[Link]:
        """Waits a while for a page to be open."""
        if runtime != RUNTIME:
            raise InputError(f"pages run ort-web only; spell the device {self.name}, or {self.name}/{self.usual}")
        state = read_state(self._target)
        deadline = time.monotonic() + WAIT_S
        while not state.ask("status")["open"]:
            if time.monotonic() > deadline:
                raise DeviceError(f"no browser has opened the page {self.name}; its address is {state.url}")
            time.sleep(WAIT_STEP_S)

        def bring(file: ProgramFile) -> None:
            if not file.path.is_file():
                raise FileNotFoundError(f"no file {str(file.path)!r}")
            state.ask("file", digest=file.digest, path=str(file.path.resolve()))

        yield Link([sys.executable, "-m", "adaptare.devices.browser.bridge", self._target], bring, local_environment())
