"""The report in a real browser: its console, its requests, with and without scripts, and for who does not see it."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from headless_page import CHROMIUM, HeadlessPage, headless_page

# An unpacked `npm pack axe-core`, which finds what keeps people out of a page; not part of the project.
AXE = os.environ.get("ADAPTARE_AXE", "")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(not AXE, reason="ADAPTARE_AXE names no folder with axe-core"),
]
LOOKS = [(width, dark) for width in (1280, 390) for dark in (False, True)]
UNFOLD = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
VIOLATIONS = "axe.run().then((found) => found.violations.map((each) => [each.impact, each.id, each.nodes[0].html]))"
# Facts of a page, as expressions.
FACTS = {
    "figures": "document.querySelectorAll('figure').length",
    "drawn": "[...document.querySelectorAll('.plot')].filter((plot) => plot.querySelector('svg.main-svg')).length",
    "tables": "document.querySelectorAll('table').length",
    "shown tables": "[...document.querySelectorAll('table')].filter((table) => table.checkVisibility()).length",
    "too wide": "document.documentElement.scrollWidth > innerWidth",
    "colour": "getComputedStyle(document.body).backgroundColor",
    "button": "document.getElementById('theme').textContent",
}


@dataclass(frozen=True)
class Seen:
    """Findings in a page.

    Args:
        facts: Window, or what else is special -> facts.
        violations: Window -> rules of axe-core that are broken.
        saved: Suffix of each file that buttons of the first figure save -> its content.
    """

    url: str
    facts: dict[Any, dict[str, Any]]
    violations: dict[Any, list[list[str]]]
    saved: dict[str, bytes]
    requests: list[str]
    errors: list[str]


@pytest.fixture(scope="module")
def seen(results: Path, commands_in: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A page with every chapter, looked at in one browser."""
    with commands_in(results) as run:
        answer = run("report", ".", "-o", "everything.html")
    assert answer.code == 0, answer.err
    return asyncio.run(look((results / "everything.html").as_uri(), tmp_path_factory.mktemp("saved")))


async def facts(page: HeadlessPage) -> dict[str, Any]:
    return {name: await page.evaluate(expression) for name, expression in FACTS.items()}


async def save_by_keyboard(page: HeadlessPage, folder: Path) -> dict[str, bytes]:
    """Files that the buttons of the first figure save when Enter is pressed on them."""
    await page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    saved = {}
    for suffix in (".svg", ".png"):
        await page.evaluate(f"document.querySelector('figure button[data-format={suffix[1:]}]').focus()")
        for kind in ("keyDown", "keyUp"):
            await page.call("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")
        for _ in range(300):
            if found := [file for file in folder.iterdir() if file.suffix == suffix]:
                saved[suffix] = found[0].read_bytes()
                break
            await asyncio.sleep(0.1)
    return saved


async def look(url: str, folder: Path) -> Seen:
    axe = (Path(AXE) / "axe.min.js").read_text(encoding="utf-8")
    found: dict[Any, dict[str, Any]] = {}
    violations: dict[Any, list[list[str]]] = {}
    async with headless_page() as page:
        for width, dark in LOOKS:
            await page.look(width=width, dark=dark)
            await page.visit(url)
            found[width, dark] = await facts(page)
            await page.evaluate(UNFOLD)
            await page.evaluate(f"{axe}; undefined")
            violations[width, dark] = await page.evaluate(VIOLATIONS)
        await page.look(width=1280)
        await page.visit(url)
        await page.evaluate("document.getElementById('theme').click()")
        found["pressed"] = await facts(page)
        saved = await save_by_keyboard(page, folder)
        await page.look(width=390, scripts=False)
        await page.visit(url)
        found["no scripts"] = await facts(page)
        return Seen(url, found, violations, saved, page.requests, page.errors)


def test_every_figure_is_drawn_without_an_error_and_without_a_request(seen: Seen) -> None:
    for view in LOOKS:
        assert seen.facts[view]["drawn"] == seen.facts[view]["figures"] > 8
    assert seen.errors == []
    assert {each for each in seen.requests if not each.startswith(("data:", "blob:"))} == {seen.url}


@pytest.mark.parametrize("view", LOOKS, ids=lambda view: f"{view[0]} {'dark' if view[1] else 'light'}")
def test_nobody_is_kept_out(seen: Seen, view: tuple[int, bool]) -> None:
    assert [each for each in seen.violations[view] if each[0] in ("serious", "critical")] == []
    assert not seen.facts[view]["too wide"]


def test_the_colours_are_those_of_the_system_until_a_button_changes_them(seen: Seen) -> None:
    light, dark = seen.facts[1280, False], seen.facts[1280, True]
    assert light["colour"] != dark["colour"] == seen.facts["pressed"]["colour"]
    assert (light["button"], dark["button"]) == ("Dark colours", "Light colours")


def test_buttons_save_a_figure_as_svg_and_as_png_and_keys_press_them(seen: Seen) -> None:
    assert seen.saved[".svg"].startswith(b"<svg")
    assert seen.saved[".png"].startswith(b"\x89PNG\r\n")


def test_without_scripts_all_tables_are_there(seen: Seen) -> None:
    without, scripted = seen.facts["no scripts"], seen.facts[390, False]
    assert without["shown tables"] == without["tables"] > scripted["shown tables"]
    assert without["drawn"] == 0
