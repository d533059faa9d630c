"""`adaptare report`: one page of results, for any input that commands write."""

import html
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptare.core import StorageError
from adaptare.core.chart import Chart, Panel, Series
from adaptare.figures import draw
from adaptare.profiler import Store
from adaptare.views.report.plots import plot

Run = Callable[..., Any]
HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture
def there(results: Path, run_in_copy: Callable[[Path], Run]) -> Run:
    """Runs a command in a copy of the results."""
    return run_in_copy(results)


def headings(page: str, level: int) -> list[str]:
    return [html.unescape(text) for text in re.findall(rf"<h{level}[^>]*>([^<]*)</h{level}>", page)]


def read(file: str = "report.html") -> str:
    return Path(file).read_text(encoding="utf-8")


def test_a_folder_gives_one_page_of_everything_in_it(there: Run) -> None:
    answer = there("report", ".", "--json")
    assert answer.code == 0, answer.err
    page = read()
    assert answer.json["page"] == "report.html"
    for heading in (
        *("Overhead", "Merge or swap", "Memory", "Measurements", "Sessions", "Device and environment"),
        *("Predictor of latency", "Winners under the budget", "Where the winners have their ranks", "How to reproduce"),
    ):
        assert heading in headings(page, 3), heading
    assert headings(page, 2) == ["Devices side by side", "."]
    assert "Overhead of the same adapters on each device" in headings(page, 4)
    assert page.count("<figure") == page.count('class="plot"') == page.count("<figcaption") > 8
    assert "SHA-256" in page


def test_reading_a_store_shows_progress(shares_of: Callable[..., list[int]], there: Run) -> None:
    answer = there("report", "overheads.db")
    assert answer.code == 0, answer.err
    shares = shares_of(answer, "reading")
    assert 0 < shares[0] < 70
    assert 70 in shares  # then overheads and sessions are computed


def test_nothing_is_loaded_from_anywhere_and_plotly_is_there_once(there: Run) -> None:
    assert there("report", "one.json", "other.json").code == 0
    assert len(re.findall(r"\* plotly\.js v", read())) == 1
    body = re.sub(r"<script>.*?</script>", "", read(), flags=re.DOTALL)  # Plotly itself names places
    assert re.findall(r"(?:src|href)=\"([^#\"][^\"]*)\"", body) == ["data:,"]
    assert "default-src 'none'" in html.unescape(body)
    assert "connect-src 'none'" in html.unescape(body)


def test_text_of_results_is_never_html_and_figures_have_finite_numbers(there: Run) -> None:
    assert there("report", "front.json").code == 0
    page = read()
    assert HOSTILE not in page
    assert "<img" not in page
    assert "&lt;/script&gt;&lt;script&gt;" in page
    for data in re.findall(r'<script type="application/json">(.*?)</script>', page):
        assert "<" not in data
        assert json.loads(data)["data"]
        assert "NaN" not in data
        assert "Infinity" not in data


@pytest.mark.parametrize(("losses", "said"), [((1.5, 1.4), True), ((1.5, 1.6), False)])
def test_a_front_below_the_first_winner_is_explained(losses: tuple[float, float], said: bool, there: Run) -> None:
    content = json.loads(Path("front.json").read_text(encoding="utf-8"))
    content["winners"][0]["val_loss"] = 1.5
    content["front"] = [[losses[0], 2e-3], [losses[1], 2.5e-3]]
    Path("front.json").write_text(json.dumps(content), encoding="utf-8")
    assert there("report", "front.json").code == 0
    page = read()
    assert ("evaluated points with a lower loss than winner 1 (1 point of the front)" in page) == said
    assert ("so expected losses decide" in page) == said


def test_a_front_without_measurements_says_so(there: Run) -> None:
    content = json.loads(Path("front.json").read_text(encoding="utf-8"))
    for choice in content["winners"] + content["baselines"]:
        choice.update(measured=None, val_loss=None)
    Path("front.json").write_text(json.dumps({**content, "front": []}), encoding="utf-8")
    assert there("report", "front.json").code == 0
    page = read()
    assert "only a measurement can say that a budget is met" in page
    assert "Predicted and measured, beside the budget" in page
    assert "Loss and cost of winners and baselines" not in page


def test_how_to_reproduce_names_command_seed_and_sessions(there: Run) -> None:
    assert there("report", "one.json").code == 0
    page = html.unescape(read())
    words = "--rank 1,8 -p 0 --tasks 2 --openings 5 --store overheads.db --device simulated"
    assert f"measured by: adaptare overhead tiny-random {words}" in page
    assert re.search(r"adaptare [0-9.a-z]+, simulated; seed 0; sessions [0-9a-f]+ of overheads\.db", page)


def test_how_to_search_again_gives_each_budget_its_predictor(there: Run) -> None:
    content = json.loads(Path("front.json").read_text(encoding="utf-8"))
    content["bf16"] = True
    under = {name: content[name] for name in content if name not in ("further", "front", "schema")}
    content["further"] = [{**under, "budget": "memory=+20%", "predictor": "of memory"}]
    content["predictor"] = "of decode"
    for file in ("front.json", "shrink.json"):
        Path(file).write_text(json.dumps(content), encoding="utf-8")
        assert there("report", file).code == 0
        words = "--predictor 'of decode' --budget decode=3ms --predictor 'of memory' --budget memory=+20% --bf16"
        words += " --algorithm nsga2 -o front.json"
        assert (words in html.unescape(read())) == (file == "front.json"), "the adapter that was shrunk had no training"


def test_what_failed_and_was_measured_later_is_no_failure(there: Run) -> None:
    with closing(Store("adaptare.db")) as store, closing(Store("later.db")) as other:
        measured, lost = store.measurements()[:2]
        failed = [replace(row, visits=(), reference_visits=(), failure="out of memory") for row in (measured, lost)]
        other.append(failed)
        other.append([replace(measured, session="later")])
    assert there("report", "later.db").code == 0
    assert len(re.findall(r">\s*not measured: swappable [^<]*out of memory", read())) == 1, "and not that of a session"


def test_every_figure_is_a_file_on_request(there: Run, tmp_path: Path) -> None:
    answer = there("report", "front.json", "--svg", "figures", "--json")
    assert answer.code == 0, answer.err
    assert there("report", "fit.json", "--png", "figures").code == 0
    files = [Path(file).name for file in answer.json["figures"]]
    assert files == ["01-front.svg", "02-budget.svg", "03-winners.svg"]
    assert all((tmp_path / "figures" / file).stat().st_size > 1000 for file in (*files, "01-parity.png"))


def test_a_figure_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, files_of_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    chart = Chart("curve", "A curve", (Panel("A panel", "x", "y", (Series("a", (1.0, 2.0), (3.0, 4.0)),)),))
    draw(chart, tmp_path / "a.svg")
    earlier = (tmp_path / "a.svg").read_bytes()
    with (
        files_of_at_most(len(earlier) // 2),
        pytest.raises(StorageError, match=r"the figure '.*a.svg' cannot be written: .*File too large"),
    ):
        draw(chart, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes() == earlier
    assert [file.name for file in tmp_path.iterdir()] == ["a.svg"]


def test_a_folder_may_hold_databases_of_other_programs(there: Run) -> None:
    with closing(sqlite3.connect("browser.db")) as other, other:
        other.execute("CREATE TABLE history (url TEXT)")
    Path("Thumbs.db").write_bytes(b"no database")
    answer = there("report", ".", "--json")
    assert answer.code == 0, answer.err
    assert "overheads.db" in read()
    assert "browser.db" not in read()
    alone = there("report", "browser.db")
    assert (alone.code, "is a database of something else" in alone.err) == (2, True)


def test_an_empty_store_has_a_page(run: Run) -> None:
    Store("empty.db").close()
    assert run("report", "empty.db").code == 0
    assert "0 measurements in empty.db" in read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no JSON", "'it.json' cannot be read"),
        ("[1, 2]", "'it.json' holds no result that can be reported; give a store, a front"),
        ('{"error": "no such device"}', "'it.json' holds an error instead of a result: no such device"),
        ('{"devices": [{"name": 1}]}', "'it.json' cannot be reported: devices[0].name is not known"),
    ],
)
def test_a_file_of_something_else_is_refused(run: Run, content: str, message: str) -> None:
    Path("it.json").write_text(content, encoding="utf-8")
    answer = run("report", "it.json")
    assert (answer.code, message in answer.err) == (2, True), answer.err
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.json",), "there is no file 'nothing.json'; give a store, a front"),
        ((".",), "the folder '.' holds nothing to report"),
        (("broken.db",), "is not a store of adaptare"),
        ((".", "-o", "page.pdf"), "a report is a page that ends in .html, not 'page.pdf'"),
        ((".", "-o", "nowhere/page.html"), "there is no folder 'nowhere' for the report"),
    ],
)
def test_bad_input_is_refused_with_advice(run: Run, words: tuple[str, ...], message: str) -> None:
    if "broken.db" in words:
        Path("broken.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    answer = run("report", *words)
    assert answer.code == 2, answer.out
    assert message in answer.err


def test_overhead_ends_by_writing_its_page(run: Run, model_cache: Path) -> None:
    words = ("overhead", "tiny-random", "--device", "simulated", "-p", 0, "--cache", model_cache, "--openings", 2)
    answer = run(*words, "--report", "page.html")
    assert answer.code == 0, answer.err
    assert "report: page.html" in answer.err
    assert {"Overhead", "Sessions", "Device and environment", "How to reproduce"} <= set(headings(read("page.html"), 3))


PROFILE = ("profile", "tiny-random", "--space", "sites", "--count", 10, "--seconds", 0.1)
TWO_DEVICES = ("overhead", "tiny-random", "-p", 0, "--openings", 2, "--device", "simulated:seed=1")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("predict", "predictor", "--rank", 4), ["Predictions"]),
        ((*PROFILE, "--device", "simulated"), ["Profiled configurations"]),
        ((*TWO_DEVICES, "--device", "simulated"), ["Side by side", "Overhead, simulated"]),
        pytest.param(
            ("operators", "tiny-random", "--calls", 2, "--device", "ort-cpu:threads=1"),
            ["Where the time goes"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda words: words[0],
)
def test_what_a_command_prints_as_json_is_reported(
    there: Run, model_cache: Path, words: tuple[object, ...], expected: list[str]
) -> None:
    printed = there(*words, "--cache", model_cache, "--json")
    assert printed.code == 0, printed.err
    Path("printed.json").write_text(printed.out, encoding="utf-8")
    assert there("report", "printed.json").code == 0
    assert set(expected) <= set(headings(read(), 3))


def test_a_verified_front_takes_the_place_of_the_front(there: Run) -> None:
    shutil.copy("front.json", "verified.json")
    assert there("report", ".").code == 0
    assert headings(read(), 3).count("Winners under the budget") == 1


def test_long_names_and_titles_are_lines_that_leave_a_phone_room_for_the_values() -> None:
    name = "k_proj,o_proj,q_proj,v_proj r16, <swappable>"
    panel = Panel("", "adapter", "overhead over the base, %", [Series("simulated", [name, "all r8"], [1.0, 2.0])])
    drawn = plot(panel)
    assert drawn["data"][0]["y"] == ["k_proj,o_proj,q_proj,v_proj<br>r16, &lt;swappable&gt;", "all r8"]
    assert drawn["layout"]["xaxis"]["title"]["text"] == "overhead over the<br>base, %"
