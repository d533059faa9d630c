"""`adaptare overhead`: one adapter, or a grid of ranks and placements."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulated_noise import Jitter
from transformers import LlamaConfig

from adaptare.console import Console
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, profile
from adaptare.views.overhead import price_words
from adaptare.workflows.overhead.overhead_rows import price_of_precision

WORDS = ("overhead", "tiny-random", "--openings", 2, "--seconds", 0.3, "-p", 4, "-d", 4)


@pytest.fixture
def overhead(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(*options: object) -> Any:
        return run(*WORDS, "--cache", model_cache, *options)

    return call


def test_a_grid_has_every_rank_swappable_and_the_largest_in_every_way(overhead: Callable[..., Any]) -> None:
    words = ("--device", "simulated", "--openings", 4, "--seconds", 600, "--json")
    answer = overhead(*words, "--rank", "8,1", "--sites", "q_proj,v_proj", "--sites", "all")
    assert answer.code == 0, answer.err
    found = [(row["phase"], row["placement"], row["rank"], row["mode"]) for row in answer.json["rows"]]
    expected = [
        (phase, placement, rank, mode)
        for phase in ("prefill", "decode")
        for placement in ("q_proj,v_proj", "all")
        for rank, mode in ((1, "swappable"), (8, "swappable"), (8, "merged"))
    ]
    assert sorted(found) == sorted(expected)
    for row in answer.json["rows"]:
        assert row["over_base"]["lower"] <= row["over_base"]["middle"] <= row["over_base"]["upper"]
        latency_s = row["latency"]["middle"]
        assert row["p90_s"] >= 0.99 * latency_s
        assert row["tokens_per_s"] == pytest.approx((4 if row["phase"] == "prefill" else 1) / latency_s)
        assert row["verdict"] == ("same" if row["mode"] == "merged" else "slower")


def test_slopes_are_seconds_of_a_rank_and_of_a_site(overhead: Callable[..., Any]) -> None:
    found = overhead("--device", "simulated", "--rank", "1,9", "--sites", "q_proj", "-p", 0, "--json").json
    low, high = (row for row in found["rows"] if row["mode"] == "swappable")
    slopes = {slope["per"]: slope for slope in found["slopes"]}
    low_s, high_s = low["latency"]["middle"], high["latency"]["middle"]
    assert slopes["rank"]["seconds"]["middle"] == pytest.approx((high_s - low_s) / 8, rel=1e-6)
    assert slopes["site"]["seconds"]["middle"] == pytest.approx((low_s - low["base_s"]) / low["sites"], rel=1e-6)
    assert all(
        slope["seconds"]["lower"] <= slope["seconds"]["middle"] <= slope["seconds"]["upper"]
        for slope in slopes.values()
    )


def test_the_figure_is_a_picture(overhead: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    answer = overhead("--device", "simulated", "--rank", "1,8", "-p", 0, "--figure", tmp_path / "curve.png")
    assert answer.code == 0, answer.err
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_cannot_be_written_costs_no_result(overhead: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "curve.png").mkdir()
    answer = overhead("--device", "simulated", "--figure", tmp_path / "curve.png", "-p", 0, "--json")
    assert answer.code == 2
    assert "cannot be written" in answer.err
    assert answer.json["rows"]


@pytest.mark.usefixtures("swappable_fails")
def test_without_a_row_there_is_no_figure(
    overhead: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "adaptare.profiler.programs.builders.SimulatedPrograms.modes", lambda own, workload: ("swappable",)
    )
    answer = overhead("--device", "simulated", "--figure", tmp_path / "curve.png", "-p", 0, "--json")
    assert answer.code == 3
    assert answer.json["rows"] == []
    (failure,) = answer.json["failures"]
    assert (failure["length"], failure["reason"]) == (4, "out of memory")
    assert not (tmp_path / "curve.png").exists()


@pytest.mark.parametrize("openings", [3, 4])
def test_what_rests_on_too_few_openings_says_so(overhead: Callable[..., Any], openings: int) -> None:
    # So much time that no pause of this machine cuts an opening short, which would then not count.
    words = ("--device", "simulated", "--rank", "1,8", "-p", 2, "-n", 2, "--openings", openings, "--seconds", 600)
    answer = overhead(*words, "--json")
    assert answer.code == 0, answer.err
    parts = [*answer.json["rows"], *answer.json["slopes"], *answer.json["requests"]]
    assert {each["too_few_openings"] for each in parts} == {openings if openings < 4 else 0}
    if openings == 3:
        assert overhead(*words).out.count("too few openings: 3") == len(parts)


def test_the_table_is_shown_from_the_first_opening_on(
    overhead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(Console, "preview", lambda own, sections: shown.append(len(next(iter(sections)).rows)))
    assert overhead("--device", "simulated").code == 0
    assert shown == [2, 2, 4, 4]


def test_the_time_of_a_narrower_interval_follows_from_the_openings_it_needs() -> None:
    shape = ModelShape.from_config(LlamaConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=2))
    workload = Workload(shape, Configuration.uniform(shape, 2)).merged
    device = SimulatedDevice(noise=[Jitter(0.05)])
    (found,) = profile([workload], reference=workload.base, device=device, stop=FixedRounds(8, openings=6), seed=0)
    took, width = replace(found, environment={"elapsed_s": 32.0}), found.ratio.half_width
    wider = replace(took, workload=replace(workload, past=9), environment={"elapsed_s": 16.0})

    def words(measured: list[Measurement], half_width: float) -> str:
        price = price_of_precision(measured, half_width)
        assert price is not None
        return price_words(price)

    assert words([took], width / 2) == f"±{50 * width:.2g} % would take about 2 min: " + (
        f"--half-width {100 * width / 2:g}% --seconds 100"
    )
    assert words([took], 1.2 * width).endswith(f"--half-width {100 * 0.6 * width:g}% --seconds 70")
    assert "70 s for each phase: " in words([took, wider], 1.2 * width)
    assert "is out of reach: openings differ too much" in words([took], width / 1000)
    assert price_of_precision([], 0.01) is None


def test_one_key_leaves_queries_nothing_to_choose_from(overhead: Callable[..., Any]) -> None:
    answer = overhead("--device", "ort-cpu:threads=1", "--sites", "q_proj", "-p", 0, "-d", 0, "--openings", 1)
    assert answer.code == 0, answer.err


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_adapters_are_compared_round_by_round(overhead: Callable[..., Any], saved: Callable[..., Path]) -> None:
    small, large = saved("small", target_modules=["q_proj"]), saved("large")
    answer = overhead(small, large, "--device", "simulated", "--openings", 4, "--seconds", 600, "-p", 0, "--json")
    assert answer.code == 0, answer.err
    rows = {(row["placement"], row["mode"]): row for row in answer.json["rows"]}
    assert {name for name, _ in rows} == {str(small), str(large)}
    [(name, found)] = answer.json["differences"].items()
    assert name == str(large)
    swappable, merged = found
    ratio = rows[str(large), "swappable"]["latency"]["middle"] / rows[str(small), "swappable"]["latency"]["middle"]
    assert swappable["difference"]["middle"] == pytest.approx(ratio - 1, rel=1e-6)
    assert (swappable["verdict"], merged["verdict"]) == ("slower", "same")


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_adapters_that_cost_the_same_by_construction_are_refused(
    overhead: Callable[..., Any], saved: Callable[..., Path]
) -> None:
    answer = overhead(saved("one"), saved("two"), "--device", "simulated")
    assert answer.code == 2
    assert "has the sites and ranks of" in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rank", "1,x"), "--rank must be whole numbers with commas between them, such as 16 or 4,8,64, not '1,x'"),
        (("--rank", "0,4", "--device", "torch-cpu:threads=1"), "torch has no adapters of rank 0"),
        (("--sites", "w_proj"), "down_proj, or all; did you mean 'v_proj'? (option --sites)"),
        (("--figure", "curve.xyz"), "--figure must end in .png, .svg, .pdf, not 'curve.xyz'"),
    ],
)
def test_bad_grids_are_refused(overhead: Callable[..., Any], options: tuple[str, ...], message: str) -> None:
    answer = overhead(*options, *([] if "--device" in options else ["--device", "simulated"]))
    assert answer.code == 2
    assert message in answer.err
    assert not Path("adaptare.db").exists()


def test_what_does_not_fit_is_refused_before_any_phase_is_measured(overhead: Callable[..., Any]) -> None:
    answer = overhead("--device", "simulated", "-p", "64,2048", "-d", -1, "--batch", 100_000)
    assert answer.code == 2
    assert "half of the free memory" in answer.err
    assert "measuring" not in answer.err
    assert not Path("adaptare.db").exists()
