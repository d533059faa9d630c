"""Pictures of a report for the documentation, in a headless Chromium.

adaptare report RUN -o report.html
adaptare report ONE.json OTHER.json -o devices.html
python benchmarks/report_pictures.py report.html --out docs [--devices devices.html] [--live RUN] [--json]

The live page shows the progress of a campaign that measures into RUN meanwhile.
Prints the errors and requests of the page, which should be none, and the size of each picture.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headless_page import headless_page

# Name -> width and height of the window, dark colours, and the heading at its top.
VIEWS: dict[str, tuple[int, int, bool, str]] = {
    "desktop-light": (1280, 1000, False, ""),
    "desktop-dark": (1280, 1000, True, "Winners under the budget"),
    "phone-light": (390, 844, False, "Where the winners have their ranks"),
    "phone-dark": (390, 844, True, "Overhead"),
}
SCROLL = "[...document.querySelectorAll('h1, h2, h3')].find((each) => each.textContent === {}).scrollIntoView()"


async def take(url: str, folder: Path, views: dict[str, tuple[int, int, bool, str]]) -> dict[str, Any]:
    """Takes every picture, each in a browser of its own."""
    found: dict[str, Any] = {"pictures_bytes": {}, "errors": [], "requests": []}
    for name, (width, height, dark, heading) in views.items():
        async with headless_page() as page:
            await page.look(width=width, height=height, dark=dark)
            await page.visit(url)
            if heading:
                await page.evaluate(SCROLL.format(json.dumps(heading)))
            await page.evaluate("new Promise((done) => setTimeout(done, 1000))")
            file = folder / f"report-{name}.png"
            await page.picture(file)
            found["pictures_bytes"][file.name] = file.stat().st_size
            found["errors"] += page.errors
            found["requests"] += [each for each in page.requests if not each.startswith(("data:", "blob:", url))]
    return found


@contextmanager
def served(place: str) -> Iterator[str]:
    """Address of the live page of a run."""
    command = [sys.executable, "-m", "adaptare", "serve", place, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--devices", type=Path, help="a page of several devices, for a picture of them")
    parser.add_argument("--live", help="a store or a run, for a picture of the live page too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = [asyncio.run(take(arguments.page.resolve().as_uri(), arguments.out, VIEWS))]
    if arguments.devices:
        view = {"devices": (1280, 760, False, "Devices side by side")}
        found.append(asyncio.run(take(arguments.devices.resolve().as_uri(), arguments.out, view)))
    if arguments.live:
        with served(arguments.live) as url:
            found.append(asyncio.run(take(url, arguments.out, {"live": (1280, 900, False, "")})))
    together = {
        "pictures_bytes": {name: size for each in found for name, size in each["pictures_bytes"].items()},
        **{name: [fault for each in found for fault in each[name]] for name in ("errors", "requests")},
    }
    print(json.dumps(together) if arguments.json else json.dumps(together, indent=1))


if __name__ == "__main__":
    main()
