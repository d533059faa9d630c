"""Parts of a live page that change without its results: running campaigns, and the device that a browser may become."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from adaptare.devices.browser import PageServer
from adaptare.views.report.page import templates
from adaptare.workflows.profiling.running import RunningCampaign

# Identifiers of elements of the page, and the names of their templates.
PARTS: Final = ("running", "joining")


def states(campaigns: Sequence[RunningCampaign], device: PageServer) -> Mapping[str, str]:
    """HTML of each part."""
    address = urlsplit(device.url)
    given = {"campaigns": campaigns, "device": device, "qr_code": _qr_code(device.url), "port": address.port}
    return {name: templates().get_template(f"{name}.html").render(given) for name in PARTS}


@cache
def _qr_code(url: str) -> str:
    import segno

    return segno.make(url).svg_inline(scale=4, light="white")
