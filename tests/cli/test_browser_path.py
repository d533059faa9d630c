"""The whole path with a page as the device, and campaigns whose page or server goes away."""

import json
import math
import runpy
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptare.profiler import Store, open_model

BROWSER = runpy.run_path(str(Path(__file__).parents[1] / "contracts" / "browser_device.py"))
pytestmark = BROWSER["MARKS"]
QUICKLY = ("--openings", 2, "--seconds", 0.5)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with BROWSER["opened"]("path", tmp_path_factory.mktemp("browser")):
        yield "browser:path"


def test_ranks_from_0_are_fed_to_one_graph(run: Callable[..., Any], model_cache: Path, page: str) -> None:
    words = ("overhead", "tiny-random", "--rank", "0,8", "-p", 0, "-d", 4, *QUICKLY, "--cache", model_cache, "--json")
    found = run(*words, "--device", page).json
    assert not found["failures"]
    assert {row["rank"] for row in found["rows"]} == {0, 8}


def test_parts_are_timed_in_a_page(run: Callable[..., Any], model_cache: Path, page: str) -> None:
    answer = run("parts", "tiny-random", "--rank", 4, *QUICKLY, "--device", page, "--cache", model_cache, "--json")
    assert answer.code == 0, answer.err
    for caches in ("cold", "hot"):
        parts = answer.json["parts"][caches]
        assert sum(block["layers"] for block in parts["blocks"]) == open_model("tiny-random").shape.layers
        # How long they take is the machine's; that they ran, and the page answered, is this test's.
        assert all(
            0 < each["latency"]["middle"] < math.inf for each in (*parts["blocks"], parts["head"], parts["together"])
        )


def test_a_page_is_among_the_devices(run: Callable[..., Any], page: str) -> None:
    found = {each["name"]: each for each in run("devices", "--json").json["devices"]}
    assert found[page]["info"]["device"] == "browser:path/ort-web:threads=1"
    assert found["ort-web"]["problem"].startswith("ort-web runs in a page: start its server")


def rows(file: Path) -> int:
    """Measurements in a store that a campaign is writing to, or has not made yet."""
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM measurements").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
def test_a_campaign_whose_server_is_killed_goes_on_when_it_is_started_again(tmp_path: Path, model_cache: Path) -> None:
    # Half of what is free holds the base and two adapters, so that there are several groups.
    device = f"browser:killed/ort-web:threads=1,memory_bytes={22 * 2**20}"
    words = ("profile", "tiny-random", "--device", device, "--cache", str(model_cache), "--space", "kinds")
    limits = ("--rank", "0,2,4,8", "--count", "8", "-d", "4", "--openings", "2", "--seconds", "3", "--json")
    command = [sys.executable, "-m", "adaptare", *words, *limits]
    local = ("--runtime-files", BROWSER["RUNTIME"])
    with (
        BROWSER["served"]("killed", *local) as (url, server),
        BROWSER["chromium"](url, tmp_path / "first"),
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as campaign,
    ):
        while not rows(tmp_path / "adaptare.db"):
            assert campaign.poll() is None
            time.sleep(0.05)
        server.kill()
        out, err = campaign.communicate()
    assert campaign.returncode == 3, err
    assert "the server of" in json.loads(out)["error"]
    kept = rows(tmp_path / "adaptare.db")
    with BROWSER["served"]("killed", *local) as (url, _), BROWSER["chromium"](url, tmp_path / "second"):
        again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    store = Store(tmp_path / "adaptare.db", create=False)
    measurements = store.measurements()
    store.close()
    assert 0 < kept < len(measurements) == 8
    assert all(each.complete for each in measurements)
