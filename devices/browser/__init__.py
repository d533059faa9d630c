"""Devices that are browsers: a page runs programs with ONNX Runtime Web, and a small server connects it with this host.

`PageServer` serves the page and relays requests to it; `BrowserTransport` is how other processes of this user reach it.
"""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from adaptare.devices.browser.server import PageServer, page_server

__all__ = ["PageServer", "page_server"]

__getattr__ = lazy_names(__name__)
