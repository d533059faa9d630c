"""The live page in a real browser, while another one joins as a device and a campaign measures on it."""

import asyncio
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from headless_page import PATIENCE_S, HeadlessPage, headless_page

BROWSER = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "browser_device.py"))
AXE = os.environ.get("ADAPTARE_AXE", "")
pytestmark = [
    *BROWSER["MARKS"],
    pytest.mark.slow,
    pytest.mark.skipif(not AXE, reason="ADAPTARE_AXE names no folder with axe-core"),
]
STATES = "document.getElementById('running').innerText + document.getElementById('joining').innerText"
CONTENT = "document.getElementById('content').innerText"
SERIOUS = (
    "axe.run().then((found) => found.violations.filter((each) => ['serious', 'critical'].includes(each.impact))"
    ".map((each) => [each.id, each.nodes[0].html]))"
)


async def told(page: HeadlessPage, *words: str, where: str = STATES) -> str:
    """Text of the page as soon as it has all words."""
    text = ""
    for _ in range(int(10 * PATIENCE_S)):
        text = await page.evaluate(where)
        if all(word in text for word in words):
            return text
        await asyncio.sleep(0.1)
    raise AssertionError(f"the page never said {words}, but: {text}")


async def faults(page: HeadlessPage) -> list[list[str]]:
    """Rules of axe-core that the page breaks."""
    await page.evaluate(f"{(Path(AXE) / 'axe.min.js').read_text(encoding='utf-8')}; undefined")
    found: list[list[str]] = await page.evaluate(SERIOUS)
    return found


def test_the_page_shows_a_browser_that_joins_and_the_campaign_on_it(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half of what is free holds the base and two adapters, so that there are several groups.
    spelled, limit = "browser:live/ort-web:threads=1", f"memory_bytes={22 * 2**20}"
    words = (
        "profile",
        "tiny-random",
        "--device",
        f"{spelled},{limit}",
        "--cache",
        str(model_cache),
        "--space",
        "kinds",
    )
    limits = ("--rank", "0,2,4,8", "--count", "8", "-d", "4", "--seconds", "2")
    command = [sys.executable, "-m", "adaptare", *words, *limits]
    monkeypatch.chdir(tmp_path)  # where there is no store yet

    async def look(device_url: str) -> None:
        async with headless_page() as page:
            await page.look(width=390)
            await page.visit(device_url)
            await told(page, "waiting for a program", where="document.body.innerText")
            live = await page.evaluate("document.querySelector('a').href")
            assert device_url == f"{live}device/"
            assert await faults(page) == []

            await page.visit(live)
            await told(page, "No campaign of this machine", "No browser has joined")
            assert await faults(page) == []
            assert await page.evaluate("document.querySelector('#joining a').href") == device_url
            await page.evaluate("document.querySelector('#joining summary').click()")
            assert await page.evaluate("document.querySelector('#joining svg').checkVisibility()")

            with BROWSER["chromium"](device_url, tmp_path / "profile"):
                await told(page, "A browser is open on", "waits for a program")
                with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as campaign:
                    await told(page, f"Measuring decode on {spelled}", "of 8", "runs programs")
                    assert await faults(page) == []
                    await told(page, spelled, where=CONTENT)
                    campaign.kill()
                await told(page, "No campaign of this machine", "waits for a program")
            await told(page, "No browser has joined")
            assert page.errors == []
            assert [each for each in page.requests if not each.startswith(("data:", "blob:", live))] == []

    with BROWSER["served"]("live", "--runtime-files", BROWSER["RUNTIME"]) as (url, _):
        asyncio.run(look(url))
