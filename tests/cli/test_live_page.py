"""`adaptare serve`: the page of a report, for one browser, as its inputs change, and of a device under it."""

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from adaptare.devices.browser import page_server
from adaptare.live_page import LivePage
from adaptare.profiler import Store
from adaptare.workflows.profiling.running import RunningCampaign, announced

Ask = Callable[[str], Awaitable[tuple[int, str]]]


def live_page(inputs: list[str]) -> LivePage:
    return LivePage(inputs, page_server(name="unpublished", runtime_files=None, report=lambda text: None))


def asked(inputs: list[str], questions: Callable[[LivePage, Ask], Awaitable[Any]]) -> Any:
    """Result of a function that asks a server for paths."""

    async def ask_all() -> Any:
        live = live_page(inputs)
        async with TestServer(live.application) as server, ClientSession() as session:

            async def ask(path: str) -> tuple[int, str]:
                async with session.get(server.make_url(path)) as answer:
                    return answer.status, await answer.text()

            return await questions(live, ask)

    return asyncio.run(ask_all())


@pytest.mark.slow
def test_the_page_asks_its_own_server_for_news_and_nobody_else(results: Path) -> None:
    async def look(live: LivePage, ask: Ask) -> list[tuple[int, str]]:
        return [await ask(path) for path in (live.path, "/", f"{live.path[:-2]}/content", f"{live.path}other")]

    (status, page), *others = asked([str(results / "adaptare.db")], look)
    assert status == 200
    assert "connect-src &#39;self&#39;" in page
    assert 'data-live="' in page
    assert 'role="status"' in page
    assert [status for status, _ in others] == [403, 403, 404]


def test_running_campaigns_of_the_inputs_are_shown_without_reading_the_inputs_again(results: Path) -> None:
    state = RunningCampaign(str(results / "adaptare.db"), "board", "measuring decode", 24, 0.0, half_widths=(0.2, 0.1))

    async def look(live: LivePage, ask: Ask) -> list[dict[str, Any]]:
        found = [await ask(f"{live.path}now")]
        with announced(state) as announcement:
            announcement.change(measured=8, share=0.4, doing="opening 5, round <3>")
            found.append(await ask(f"{live.path}now"))
        return [json.loads(text) for _, text in found]

    before, during = asked([str(results)], look)
    assert before["version"] == during["version"]
    assert "No campaign of this machine measures into these inputs" in before["states"]["running"]
    for words in ("40&nbsp;%", "8 of 24 configurations", "round &lt;3&gt;", "±20.0&nbsp;%, ±10.0&nbsp;%"):
        assert words in during["states"]["running"]


def test_a_store_may_be_made_later_and_its_measurements_change_the_content(results: Path, tmp_path: Path) -> None:
    place = tmp_path / "adaptare.db"

    async def look(live: LivePage, ask: Ask) -> list[tuple[int, str]]:
        paths = (live.path, f"{live.path}now", f"{live.path}content")
        before = [await ask(path) for path in paths]
        Store(place).append(Store(results / "adaptare.db").measurements())
        return [*before, *[await ask(path) for path in paths[1:]]]

    whole, now, content, later_now, later_content = asked([str(place)], look)
    assert [status for status, _ in (whole, now, later_now, later_content)] == [200] * 4
    assert json.loads(now[1])["version"] != json.loads(later_now[1])["version"]
    assert content[1] != later_content[1]
    assert "24 measurements in" in later_content[1]


def test_an_input_that_cannot_be_read_just_now_is_said_and_no_end(tmp_path: Path) -> None:
    place = tmp_path / "adaptare.db"
    place.touch()

    async def look(live: LivePage, ask: Ask) -> list[tuple[int, str]]:
        before = await ask(f"{live.path}content")
        place.unlink()
        Store(place).close()
        return [before, await ask(f"{live.path}content")]

    (status, words), (later, _) = asked([str(place)], look)
    assert (status, later) == (503, 200)
    assert "is an empty file and no store" in words


def test_each_page_has_the_rules_of_its_own(results: Path) -> None:
    async def look() -> list[Mapping[str, str]]:
        live = live_page([str(results / "adaptare.db")])
        async with TestServer(live.application) as server, ClientSession() as session:
            answers = [await session.get(server.make_url(f"{live.path}{name}")) for name in ("now", "device/")]
            return [answer.headers for answer in answers]

    report, device = asyncio.run(look())
    assert {each["Cache-Control"] for each in (report, device)} == {"no-store"}
    assert "Cross-Origin-Opener-Policy" not in report
    assert device["Cross-Origin-Opener-Policy"] == "same-origin"


def test_bad_input_is_refused_before_anything_is_served(run: Callable[..., Any]) -> None:
    answer = run("serve", "nothing.db")
    assert answer.code == 2
    assert "there is no file 'nothing.db'" in answer.err
    Store("empty.db").close()
    answer = run("serve", "empty.db", "--host", "203.0.113.1")
    assert answer.code == 2
    assert "cannot serve on 203.0.113.1, port 0" in answer.err


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(results: Path) -> None:
    command = [sys.executable, "-m", "adaptare", "serve", str(results / "adaptare.db"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        url = told["url"]
        assert url.startswith("http://127.0.0.1:")
        assert (told["device"], told["device_url"]) == ("browser:page", f"{url}device/")
        with urllib.request.urlopen(url) as answer:
            assert b"Plotly" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
