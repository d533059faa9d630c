"""Which rows of a store `adaptare fit` takes, and where it writes what it learned."""

import gc
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.profiler import Measurement, Store, open_model
from adaptare.profiler.store.measurement import Visit

pytestmark = pytest.mark.usefixtures("without_card")
Run = Callable[..., Any]
FIT = ("fit", "--device", "simulated")
SLOWER = ("--device", "simulated:launch_s=1e-5")
OTHER_MODEL = '{"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 64, "num_attention_heads": 4, '
OTHER_MODEL += '"intermediate_size": 96, "vocab_size": 128}'


def profile(run: Run, cache: Path, *words: object, model: object = "tiny-random") -> Any:
    device = () if "--device" in words else ("--device", "simulated")
    usual = ("--space", "sites", "--count", 10, "--seconds", 0.1, "--cache", cache, *device)
    answer = run("profile", model, *usual, *words)
    assert answer.code == 0, answer.err
    return answer


@pytest.fixture(scope="module")
def profiled_once(commands_in: Run, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a campaign of ten adapters in `adaptare.db`."""
    folder = tmp_path_factory.mktemp("profiled")
    with commands_in(folder) as run:
        profile(run, model_cache)
    gc.collect()  # closes the store, which moves its newest rows into the file
    return folder


@pytest.fixture
def profiled(run_in_copy: Run, profiled_once: Path) -> Run:
    """Runs commands where that campaign is."""
    run: Run = run_in_copy(profiled_once)
    return run


@pytest.fixture
def elsewhere(profiled: Run) -> Callable[..., str]:
    """Moves what was measured to a device of the same spelling that is not at hand; returns its hash."""

    def move(store: str, hardware: str) -> str:
        found = Store("adaptare.db").measurements()
        info = replace(found[0].device, hardware=hardware)
        Store(store).append([replace(each, device=info) for each in found])
        return info.hash

    return move


def test_devices_of_one_spelling_are_told_apart_by_their_hash(profiled: Run, elsewhere: Callable[..., str]) -> None:
    first = elsewhere("away.db", "a board")
    only = profiled(*FIT, "--store", "away.db", "--json")
    assert only.json["device"]["hardware"] == "a board"
    second = elsewhere("away.db", "a phone")
    answer = profiled(*FIT, "--store", "away.db")
    assert answer.code == 2
    assert first[:8] in answer.err
    assert second[:8] in answer.err
    found = profiled("fit", "--device", second[:8], "--store", "away.db", "--json", "--replace")
    assert found.json["device"]["hardware"] == "a phone"
    assert "which cannot be reached or has changed since" in found.err


def test_rows_of_the_device_at_hand_come_first(profiled: Run, elsewhere: Callable[..., str]) -> None:
    elsewhere("adaptare.db", "a board")
    assert profiled(*FIT, "--json").json["device"]["hardware"] != "a board"


def test_the_only_device_of_a_store_needs_no_name(profiled: Run) -> None:
    assert profiled("fit", "--json").json["device"]["device"] == "simulated"
    rows = Store("adaptare.db").measurements()
    Store("adaptare.db").append([replace(each, device=replace(each.device, device="board")) for each in rows])
    answer = profiled("fit")
    assert answer.code == 2
    assert "adaptare.db has measurements of several devices: simulated" in answer.err
    assert profiled("fit", "--device", "board", "-o", "other").code == 0


def test_of_two_models_of_the_same_sizes_the_one_that_was_named_is_fitted(profiled: Run, model_cache: Path) -> None:
    config = json.loads(open_model("tiny-random", cache=model_cache).shape.config)
    longer = {**config, "max_position_embeddings": 2 * config["max_position_embeddings"]}
    Path("config.json").write_text(json.dumps(longer))
    profile(profiled, model_cache, model="config.json")
    assert profiled(*FIT).code == 2
    assert profiled(*FIT, "--model", "config.json", "--cache", model_cache).code == 0


def test_models_and_batches_in_one_store_are_told_apart(profiled: Run, model_cache: Path) -> None:
    Path("config.json").write_text(OTHER_MODEL)
    profile(profiled, model_cache, model="config.json")
    answer = profiled(*FIT)
    assert answer.code == 2
    assert "llama of 3 layers, width 64, vocabulary 128" in answer.err
    assert "mode, batch, model" in answer.err
    profile(profiled, model_cache, "--batch", 2)
    tiny = (*FIT, "--model", "tiny-random", "--cache", model_cache)
    assert "mode, batch, model" in profiled(*tiny).err
    assert profiled(*tiny, "--batch", 2).code == 0
    assert "no measurements of batch 3" in profiled(*tiny, "--batch", 3).err


def test_the_next_command_finds_the_rows(profiled: Run, model_cache: Path) -> None:
    said = profile(profiled, model_cache, "-p", 16).out
    words = shlex.split(said.splitlines()[-1].removeprefix("next: adaptare "))
    assert {"-p", "--mode", "--model", "--cut"} < set(words)
    found = profiled(*words, "--cache", model_cache, "--json")
    assert found.code == 0, found.err
    assert (found.json["phase"], found.json["lengths"]) == ("prefill", [16])
    first, second = profiled("store", "--json").json["kinds"]
    assert (first["device"]["device"], first["adapters"], first["rows"]) == ("simulated", 10, 10)
    assert second["workload"].startswith("model prefill 16 swappable float32")
    assert "20 measurements in adaptare.db" in profiled("store").out


def test_too_few_adapters_for_a_fit_are_said(run: Run, model_cache: Path) -> None:
    shown = [profile(run, model_cache, "--count", count).out.splitlines()[-1] for count in (8, 9)]
    assert shown == [
        "next: profile more, such as --count 24; a predictor is fitted to at least 9 adapters",
        "next: adaptare fit --device simulated",
    ]


def test_a_few_rows_of_another_length_do_not_count_unless_named(profiled: Run, model_cache: Path) -> None:
    profile(profiled, model_cache, "-d", 256, "--count", 3)
    assert profiled(*FIT, "--json").json["lengths"] == [64]
    named = profiled(*FIT, "-d", "64,256,512", "--json")
    assert named.json["lengths"] == [64, 256]
    assert "no rows of length 512" in named.err


@pytest.mark.parametrize(
    ("words", "device"),
    [
        (SLOWER, SLOWER),
        (("--space", "lonas", "--rank", "4,8", "--store", "narrow.db"), ("--device", "simulated")),
    ],
    ids=["device", "widths"],
)
def test_no_predictor_of_something_else_is_replaced_by_chance(
    profiled: Run, model_cache: Path, words: tuple[object, ...], device: tuple[object, ...]
) -> None:
    assert profiled(*FIT).code == 0
    before = Path("predictor-decode.json").read_bytes()
    profile(profiled, model_cache, *words)
    store = words[-2:] if "--store" in words else ()
    answer = profiled("fit", *device, *store, "-o", "predictor-decode")
    assert answer.code == 2
    assert "predictor-decode is of model decode 64 swappable" in answer.err
    assert "of lengths 64; name another output file, or replace it" in answer.err
    assert Path("predictor-decode.json").read_bytes() == before


def test_a_predictor_is_replaced_on_request_or_by_a_newer_one_of_its_kind(profiled: Run) -> None:
    Path("predictor-decode.json").write_text('{"schema": 99}')
    answer = profiled(*FIT)
    assert answer.code == 2
    assert "name another output file, or replace it (option --replace)" in answer.err
    assert Path("predictor-decode.json").read_text() == '{"schema": 99}'
    assert profiled(*FIT, "--replace").code == 0
    assert profiled(*FIT).code == 0


def with_noise(rows: list[Measurement]) -> list[Measurement]:
    """The rows, measured once more in a session in which every opening had a speed of its own."""
    rng = np.random.default_rng(0)

    def visits(visits: tuple[Visit, ...]) -> tuple[Visit, ...]:
        factors = np.exp(rng.standard_normal(4))
        pairs = sorted(((number % 4, visit) for number, visit in enumerate(visits)), key=lambda pair: pair[0])
        return tuple(
            replace(visit, opening=opening, samples_s=tuple(factors[opening] * np.array(visit.samples_s)))
            for opening, visit in pairs
        )

    return [replace(each, visits=visits(each.visits), session="noisy") for each in rows]


def test_a_better_predictor_is_not_replaced_unasked_by_one_of_noise(profiled: Run) -> None:
    good = profiled(*FIT, "--json")
    assert "intervals wider than" not in good.err
    before = Path("predictor-decode.json").read_bytes()
    noisy = with_noise(Store("adaptare.db").measurements())
    Store("adaptare.db").append(noisy)
    answer = profiled(*FIT, "-o", "predictor-decode.json")
    assert answer.code == 1
    assert f"has an expected error of {good.json['error_card']['mape']:.2f} % of latency" in answer.err
    assert "10 of 20 rows have 95 % intervals wider than ±10 % of their latency, up to ±" in answer.err
    assert noisy[0].taken_at[:10] in answer.err
    assert Path("predictor-decode.json").read_bytes() == before


def test_narrower_models_are_a_campaign_of_their_own(profiled: Run, model_cache: Path) -> None:
    widths = list(range(56, 128, 8))
    groups = f"{{sites: '*', ranks: [4], tie: all}}, {{widths: {[*widths, 128]}, tie: all}}"
    Path("narrow.yaml").write_text(f"groups: [{groups}]")
    found = profile(profiled, model_cache, "--mode", "merged", "--space", "narrow.yaml", "--count", 12)
    assert f"to measure: {len(widths)}, fewer than 12" in found.err
    answer = profiled("fit")
    assert answer.code == 2
    assert re.search(rf"decode 64 merged float32 \(\w+\), llama of 2 layers, .* \({len(widths)} rows\)", answer.err)
    assert profiled("fit", "--mode", "merged", "--json").json["error_card"]["rows"] == len(widths)


def test_merged_adapters_that_cut_nothing_are_no_campaign(run: Run, model_cache: Path) -> None:
    Path("whole.yaml").write_text("groups: [{sites: '*', ranks: [4], tie: all}, {widths: [128], tie: all}]")
    words = ("--device", "simulated", "--cache", model_cache, "--mode", "merged", "--space", "whole.yaml")
    answer = run("profile", "tiny-random", *words)
    assert answer.code == 2
    assert "a merged adapter costs nothing, and no configuration of the space 'whole.yaml' is narrower" in answer.err
