"""Agent process of a page: relays JSON lines between the standard streams and the server of the page."""

import contextlib
import json
import os
import sys
import threading
from io import BufferedRWPair

from adaptare.core import DeviceError
from adaptare.devices.browser.transport import read_state


def main(name: str) -> int:
    """Relays until the page has answered `close`. Returns the exit code: 0 after that answer only."""
    try:
        with read_state(name).connected("agent") as stream:
            threading.Thread(target=_relay_requests, args=(stream,), daemon=True).start()
            for line in stream:
                content = json.loads(line)
                if "lost" in content:
                    return _failed(content["lost"])
                sys.stdout.write(line.decode())
                sys.stdout.flush()
                if content.get("end"):
                    return 0
    except (OSError, DeviceError) as error:
        return _failed(f"the server of the page is out of reach: {error}")
    return _failed("the server of the page ended")


def _relay_requests(stream: BufferedRWPair) -> None:
    """Ends this process with its input, so that the server frees the page."""
    with contextlib.suppress(OSError, ValueError):  # the other direction reports it
        for line in sys.stdin:
            stream.write(line.encode())
            stream.flush()
        os._exit(1)


def _failed(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    sys.stderr.flush()
    return 1


if __name__ == "__main__":
    # The thread that reads requests may be blocked, so the interpreter cannot end it.
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
