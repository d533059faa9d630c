"""`adaptare parts`: blocks and head beside the whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LAYERS = 2


@pytest.fixture
def parts(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(*options: object) -> Any:
        words = ("parts", "tiny-random", "--length", 4, "--seconds", 1, "--openings", 1, "--cache", model_cache)
        return run(*words, *options)

    return call


@pytest.mark.parametrize("device", ["ort-cpu:threads=1", "torch-cpu:threads=1", "ort-cpu:int4,threads=1"])
def test_parts_of_the_base_are_timed_cold_and_hot(parts: Callable[..., Any], device: str) -> None:
    found = parts("--device", device, "--json").json
    assert (found["mode"], found["sites"], found["phase"]) == ("merged", 0, "decode")
    for caches in ("cold", "hot"):
        own = found["parts"][caches]
        (block,) = own["blocks"]
        assert block["layers"] == LAYERS
        assert own["together"]["seconds"] == pytest.approx(found["whole_s"] * own["over_whole"]["middle"])
        assert block["lower_s"] <= block["seconds"] <= block["upper_s"]


def test_a_table_has_every_part_and_their_sum(parts: Callable[..., Any]) -> None:
    said = parts("--device", "simulated", "--rank", 4, "--phase", "prefill").out
    for word in ("14 adapters, swappable", "block", "head", "together", "the whole", "off the whole"):
        assert word in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--length", 0), "--length must be at least 1, not 0"),
        (("some-folder", "--rank", 4), "give it or --rank, not both"),
        (("--rank", 4, "--sites", "nose"), "the model has no nose"),
    ],
)
def test_nonsense_is_refused(parts: Callable[..., Any], options: tuple[object, ...], message: str) -> None:
    refused = parts("--device", "simulated", *options)
    assert refused.code == 2
    assert message in refused.err
