"""Which rows of a store `adaptare fit` takes, and where it writes what it learned."""

import json
import re
import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.profiler import Measurement, Store, open_model
from adaptare.profiler.store.measurement import Visit

pytestmark = pytest.mark.usefixtures("without_card")
Run = Callable[..., Any]
OTHER_MODEL = '{"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4, '
OTHER_MODEL += '"intermediate_size": 96, "vocab_size": 128}'


def profile(run: Run, cache: Path, *words: object, model: object = "tiny-random") -> Any:
    device = () if "--device" in words else ("--device", "simulated")
    usual = ("--space", "sites", "--count", 10, "--seconds", 0.1, "--cache", cache, *device)
    answer = run("profile", model, *usual, *words)
    assert answer.code == 0, answer.err
    return answer


@pytest.fixture
def elsewhere(run: Run, model_cache: Path) -> Callable[..., str]:
    """Moves what was measured to a device of the same spelling that is not at hand; returns its hash."""
    profile(run, model_cache, "--store", "here.db")

    def move(store: str, hardware: str) -> str:
        found = Store("here.db").measurements()
        info = replace(found[0].device, hardware=hardware)
        Store(store).append([replace(each, device=info) for each in found])
        return info.hash

    return move


def test_rows_of_a_device_that_is_not_at_hand_are_fitted(run: Run, elsewhere: Callable[..., str]) -> None:
    elsewhere("away.db", "a board")
    answer = run("fit", "--device", "simulated", "--store", "away.db", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["device"]["hardware"] == "a board"


def test_two_devices_of_one_spelling_are_told_apart_by_their_hash(run: Run, elsewhere: Callable[..., str]) -> None:
    first, second = (elsewhere("away.db", name) for name in ("a board", "a phone"))
    answer = run("fit", "--device", "simulated", "--store", "away.db")
    assert answer.code == 2
    assert first[:8] in answer.err
    assert second[:8] in answer.err
    found = run("fit", "--device", second[:8], "--store", "away.db", "--json")
    assert found.code == 0, found.err
    assert found.json["device"]["hardware"] == "a phone"
    assert "which cannot be reached or has changed since" in found.err


def test_rows_of_the_device_at_hand_come_first(run: Run, elsewhere: Callable[..., str]) -> None:
    elsewhere("here.db", "a board")
    assert run("fit", "--device", "simulated", "--store", "here.db", "--json").json["device"]["hardware"] != "a board"


def test_a_device_that_is_spelled_wrong_says_why(run: Run, model_cache: Path) -> None:
    profile(run, model_cache)
    answer = run("fit", "--device", "simulated:speed=3")
    assert answer.code == 2
    assert "option 'speed=3' is unknown" in answer.err
    assert "name one of these, or measure first" in answer.err


def test_of_two_models_of_the_same_sizes_the_one_that_was_named_is_fitted(
    run: Run, model_cache: Path, tmp_path: Path
) -> None:
    other = tmp_path / "config.json"
    config = json.loads(open_model("tiny-random", cache=model_cache).shape.config)
    other.write_text(json.dumps({**config, "max_position_embeddings": 2 * config["max_position_embeddings"]}))
    profile(run, model_cache)
    profile(run, model_cache, model=other)
    assert run("fit", "--device", "simulated").code == 2
    assert run("fit", "--device", "simulated", "--model", other, "--cache", model_cache).code == 0


def test_models_and_batches_in_one_store_are_told_apart(run: Run, model_cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "config.json"
    other.write_text(OTHER_MODEL)
    profile(run, model_cache)
    profile(run, model_cache, model=other)
    answer = run("fit", "--device", "simulated")
    assert answer.code == 2
    assert "llama of 3 layers, width 64, vocabulary 128" in answer.err
    assert "mode, batch, model" in answer.err
    found = run("fit", "--device", "simulated", "--model", other, "--cache", model_cache, "-o", "other", "--json")
    assert found.code == 0, found.err
    profile(run, model_cache, "--batch", 2)
    tiny = ("fit", "--device", "simulated", "--model", "tiny-random", "--cache", model_cache)
    assert "mode, batch, model" in run(*tiny).err
    assert run(*tiny, "--batch", 2).code == 0
    assert "no measurements of batch 3" in run(*tiny, "--batch", 3).err


def test_the_next_command_finds_the_rows(run: Run, model_cache: Path) -> None:
    assert profile(run, model_cache).out.endswith("next: adaptare fit --device simulated\n")
    said = profile(run, model_cache, "-p", 16, "--cache", model_cache).out
    words = shlex.split(said.splitlines()[-1].removeprefix("next: adaptare "))
    assert {"-p", "--mode", "--model", "--cut"} < set(words)
    found = run(*words, "--cache", model_cache, "--json")
    assert found.code == 0, found.err
    assert (found.json["phase"], found.json["lengths"]) == ("prefill", [16])


def test_too_few_adapters_for_a_fit_are_said(run: Run, model_cache: Path) -> None:
    shown = [profile(run, model_cache, "--count", count).out.splitlines()[-1] for count in (8, 9)]
    assert shown == [
        "next: profile more, such as --count 24; a predictor is fitted to at least 9 adapters",
        "next: adaptare fit --device simulated",
    ]
    assert run("fit", "--device", "simulated").code == 0


def test_a_campaign_that_goes_on_shows_what_was_there(run: Run, model_cache: Path) -> None:
    first, again = (profile(run, model_cache, "--json").json for _ in range(2))
    assert (first["measured"], again["measured"]) == (10, 0)
    assert {row["workload"] for row in again["rows"]} == {row["workload"] for row in first["rows"]}


def test_no_predictor_of_something_else_is_replaced_by_chance(run: Run, model_cache: Path) -> None:
    profile(run, model_cache)
    slow = ("--device", "simulated:launch_s=1e-5")
    profile(run, model_cache, *slow)
    assert run("fit", "--device", "simulated").code == 0
    before = Path("predictor-decode.json").read_bytes()
    answer = run("fit", *slow)
    assert answer.code == 2
    assert "predictor-decode is of model decode 64" in answer.err
    assert Path("predictor-decode.json").read_bytes() == before
    assert run("fit", "--device", "simulated").code == 0
    assert run("fit", *slow, "-o", "predictor-decode").code == 2
    assert run("fit", *slow, "--replace").code == 0
    Path("folder").mkdir()
    assert run("fit", "--device", "simulated", "-o", "folder").code == 0
    assert run("fit", *slow, "-o", "folder").code == 2


def test_a_predictor_of_widths_is_not_replaced_by_one_of_ranks_alone(run: Run, model_cache: Path) -> None:
    profile(run, model_cache)
    profile(run, model_cache, "--store", "narrow.db", "--space", "lonas", "--rank", "4,8")
    narrow = ("fit", "--device", "simulated", "--store", "narrow.db", "-o", "predictor")
    assert run(*narrow).code == 0
    before = Path("predictor.json").read_bytes()
    refused = run("fit", "--device", "simulated", "-o", "predictor")
    assert refused.code == 2
    assert "of lengths 64, of widths; name another output file, or replace it" in refused.err
    assert Path("predictor.json").read_bytes() == before
    assert run(*narrow).code in {0, 1}  # a newer one of the same kind


def test_what_cannot_be_read_is_not_replaced_by_chance(run: Run, model_cache: Path) -> None:
    profile(run, model_cache)
    Path("predictor-decode.json").write_text('{"schema": 99}')
    answer = run("fit", "--device", "simulated")
    assert answer.code == 2
    assert "name another output file, or replace it (option --replace)" in answer.err
    assert Path("predictor-decode.json").read_text() == '{"schema": 99}'
    assert run("fit", "--device", "simulated", "-o", "predictor-decode").code == 2
    assert run("fit", "--device", "simulated", "--replace").code == 0


@pytest.fixture(scope="module")
def profiled_once(commands_in: Run, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiled")
    with commands_in(folder) as run:
        profile(run, model_cache)
    return folder


@pytest.fixture
def taken_under_noise(run_in_copy: Run, profiled_once: Path) -> Callable[[], list[Measurement]]:
    """The rows of a campaign, measured once more in a session in which every opening had a speed of its own."""
    run_in_copy(profiled_once)
    rng = np.random.default_rng(0)

    def noisy() -> list[Measurement]:
        def visits(visits: tuple[Visit, ...]) -> tuple[Visit, ...]:
            factors = np.exp(rng.standard_normal(4))
            pairs = [(number % 4, visit) for number, visit in enumerate(visits)]
            pairs = sorted(pairs, key=lambda pair: pair[0])
            return tuple(
                replace(visit, opening=opening, samples_s=tuple(factors[opening] * np.array(visit.samples_s)))
                for opening, visit in pairs
            )

        rows = Store("adaptare.db").measurements()
        return [replace(each, visits=visits(each.visits), session="noisy") for each in rows]

    return noisy


def test_a_better_predictor_is_not_replaced_unasked_by_one_of_noise(
    run: Run, taken_under_noise: Callable[[], list[Measurement]]
) -> None:
    good = run("fit", "--device", "simulated", "--json")
    assert "intervals wider than" not in good.err
    before = Path("predictor-decode.json").read_bytes()
    noisy = taken_under_noise()
    Store("adaptare.db").append(noisy)
    answer = run("fit", "--device", "simulated", "-o", "predictor-decode.json")
    assert answer.code == 1
    assert f"has an expected error of {good.json['error_card']['mape']:.2f} % of latency" in answer.err
    assert "10 of 20 rows have 95 % intervals wider than ±10 % of their latency, up to ±" in answer.err
    assert noisy[0].taken_at[:10] in answer.err
    assert Path("predictor-decode.json").read_bytes() == before
    assert run("fit", "--device", "simulated", "--replace").code == 0
    assert Path("predictor-decode.json").read_bytes() != before


def test_a_predictor_of_other_lengths_is_not_replaced_by_chance(run: Run, model_cache: Path) -> None:
    for length in (32, 64):
        profile(run, model_cache, "-d", length)
    assert run("fit", "--device", "simulated").code == 0
    answer = run("fit", "--device", "simulated", "-d", 32, "-o", "predictor-decode")
    assert answer.code == 2
    assert "predictor-decode is of model decode 64" in answer.err
    assert "of lengths 32, 64" in answer.err


def test_a_few_rows_of_another_length_do_not_count_unless_named(run: Run, model_cache: Path) -> None:
    profile(run, model_cache)
    profile(run, model_cache, "-d", 256, "--count", 3)
    assert run("fit", "--device", "simulated", "--json").json["lengths"] == [64]
    named = run("fit", "--device", "simulated", "-d", "64,256,512", "--json")
    assert named.json["lengths"] == [64, 256]
    assert "no rows of length 512" in named.err


def test_a_store_says_what_it_holds(run: Run, model_cache: Path) -> None:
    profile(run, model_cache)
    profile(run, model_cache, "-p", 16)
    answer = run("store", "--json")
    assert answer.code == 0, answer.err
    first, second = answer.json["kinds"]
    assert (first["device"]["device"], first["adapters"]) == ("simulated", 10)
    assert (first["rows"], first["incomplete"]) == (10, 0)
    assert first["workload"].startswith("model decode 64 swappable float32")
    assert second["workload"].startswith("model prefill 16 swappable float32")
    assert "20 measurements in adaptare.db" in run("store").out
    assert run("store", "nothing.db").code == 2


def test_the_only_device_of_a_store_needs_no_name(run_in_copy: Run, profiled_once: Path) -> None:
    run = run_in_copy(profiled_once)
    answer = run("fit", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["device"]["device"] == "simulated"
    with closing(Store("adaptare.db")) as store:
        rows = store.measurements()
        store.append([replace(each, device=replace(each.device, device="board")) for each in rows])
    answer = run("fit")
    assert answer.code == 2
    assert "adaptare.db has measurements of several devices: simulated" in answer.err
    assert "board" in answer.err
    assert run("fit", "--device", "board", "-o", "other").code == 0


def test_narrower_models_are_a_campaign_of_their_own(run: Run, model_cache: Path) -> None:
    widths = list(range(32, 128, 8))
    groups = f"{{sites: '*', ranks: [4], tie: all}}, {{widths: {[*widths, 128]}, tie: all}}"
    Path("narrow.yaml").write_text(f"groups: [{groups}]")
    profile(run, model_cache)
    found = profile(run, model_cache, "--mode", "merged", "--space", "narrow.yaml", "--count", 40)
    assert f"to measure: {len(widths)}, fewer than 40" in found.err
    answer = run("fit")
    assert answer.code == 2
    assert "decode 64 swappable" in answer.err
    assert re.search(rf"decode 64 merged float32 \(\w+\), llama of 2 layers, .* \({len(widths)} rows\)", answer.err)
    assert run("fit", "--mode", "merged", "--json").json["error_card"]["rows"] == len(widths)


def test_merged_adapters_that_cut_nothing_are_no_campaign(run: Run, model_cache: Path) -> None:
    Path("whole.yaml").write_text("groups: [{sites: '*', ranks: [4], tie: all}, {widths: [128], tie: all}]")
    words = ("--device", "simulated", "--cache", model_cache, "--mode", "merged", "--space", "whole.yaml")
    answer = run("profile", "tiny-random", *words)
    assert answer.code == 2
    assert "a merged adapter costs nothing, and no configuration of the space 'whole.yaml' is narrower" in answer.err
