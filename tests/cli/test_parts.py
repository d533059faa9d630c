"""`adaptare parts`: blocks and head beside the whole."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptare.core.chart import Panel
from adaptare.profiler.analysis import Interval
from adaptare.views.calls import part_charts
from adaptare.workflows.profiling.calls import PartRow, PartsAt, PartsResult

LAYERS = 2
NARROW = Interval(1e-3, 1e-3, 1e-3)


@pytest.fixture
def parts(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(*options: object) -> Any:
        words = ("parts", "tiny-random", "--seconds", 0.3, "--openings", 1, "--cache", model_cache)
        phase = () if "-p" in options or "-d" in options else ("-d", 4)
        return run(*words, *phase, *options)

    return call


def seconds(part: dict[str, Any]) -> float:
    return float(part["latency"]["middle"])


@pytest.mark.slow
@pytest.mark.parametrize("device", ["torch-cpu:threads=1", "ort-cpu:int4,threads=1"])
def test_parts_of_the_base_are_timed_cold_and_hot(parts: Callable[..., Any], device: str) -> None:
    found = parts("--device", device, "--json").json
    assert (found["mode"], found["sites"], found["phase"]) == ("merged", 0, "decode")
    for caches in ("cold", "hot"):
        own = found["parts"][caches]
        (block,) = own["blocks"]
        assert block["layers"] == LAYERS
        # Calls of a real runtime: how long they take is the machine's.
        assert min(seconds(part) for part in (block, own["head"], own["together"])) > 0
        assert own["over_whole"]["middle"] == pytest.approx(seconds(own["together"]) / found["whole_s"])
        assert block["ranks"] == {}


def test_the_json_is_reported_with_a_figure(run: Callable[..., Any], parts: Callable[..., Any], tmp_path: Path) -> None:
    answer = parts("--device", "simulated", "--rank", 4, "--json")
    (tmp_path / "parts.json").write_text(answer.out, encoding="utf-8")
    done = run("report", tmp_path / "parts.json", "-o", tmp_path / "page.html", "--json")
    assert done.code == 0, done.err
    assert done.json["chapters"] == {str(tmp_path / "parts.json"): ["Parts of the model", "How to reproduce"]}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for words in ("Blocks and head beside the whole model", "block x 2", "hot caches", "differs from the whole by"):
        assert words in page


def test_blocks_of_one_name_have_bars_of_their_own() -> None:
    blocks = [PartRow(Interval(1e-3, 2e-3, 3e-3), 0, 3, {"q": 4, "v": 8}), PartRow(NARROW, 0, 1, {"q": 8, "v": 4})]
    blocks.append(replace(blocks[0], ranks={"q": 8, "v": 8}))
    at = PartsAt(blocks, PartRow(NARROW, 0, 1), PartRow(NARROW, 0), NARROW)
    result = PartsResult(
        "tiny", "simulated", "none", "float32", "decode", 4, 6, "static", 9e-3, {"cold": at, "hot": at}
    )
    ((panel,),) = (chart.panels for chart in part_charts(result))
    assert isinstance(panel, Panel)
    assert all(len(set(series.x)) == len(series.x) == 4 for series in panel.series)
    # All three layers.
    assert (panel.series[0].lower[0], panel.series[0].y[0], panel.series[0].upper[0]) == pytest.approx((3.0, 6.0, 9.0))


def test_blocks_that_differ_are_told_apart(run: Callable[..., Any], tmp_path: Path, model_cache: Path) -> None:
    ranks = {"model.layers.0.self_attn.q_proj": 4, "model.layers.1.self_attn.q_proj": 8}
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": list(ranks)}
    config["rank_pattern"] = {"model.layers.1.self_attn.q_proj": 8}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    settings = tmp_path / "adapter" / "adapter_config.json"
    words = (
        "parts",
        "tiny-random",
        settings,
        "-d",
        0,
        "--device",
        "simulated",
        "--openings",
        1,
        "--cache",
        model_cache,
    )
    blocks = run(*words, "--json").json["parts"]["cold"]["blocks"]
    assert [(block["layers"], list(block["ranks"].values())) for block in blocks] == [(1, [4]), (1, [8])]
    assert "block, 1 sites up to r8" in run(*words).out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-d", -1), "-d must be at least 0, not -1"),
        (("--sites", "q_proj"), "--sites and --mode say where and how an adapter is applied"),
        (("some-folder", "--sites", "q_proj"), "not both"),
        (("some-folder", "--rank", 4), "give it, or --rank and --sites, not both"),
    ],
)
def test_nonsense_is_refused(parts: Callable[..., Any], options: tuple[object, ...], message: str) -> None:
    refused = parts("--device", "simulated", *options)
    assert refused.code == 2
    assert message in refused.err
