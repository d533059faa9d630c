"""Ranks on sites and widths of layers, and whether a base model has them."""

from collections.abc import Callable

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.profiler import RANK, Configuration, Kind, ModelShape, Workload

SHAPE = ModelShape("llama", 12, 16, 4, 2, 4, 24, 40, '{"name":"deep"}')
FUSED = ModelShape("phi3", 2, 16, 4, 2, 4, 24, 40, '{"name":"fused"}')
QUERY = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"


def test_order_and_rank_0_make_no_difference() -> None:
    assert Configuration.of({"b": 1, "a": 2, "c": 0}) == Configuration.of({"a": 2, "b": 1})
    assert Configuration.of({}, widths={3: 8, 1: 16}) == Configuration.of({}, widths={1: 16, 3: 8})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Configuration(((RANK("a"), 1), (RANK("a"), 2))), "a dimension is named twice"),
        (lambda: Configuration(kind="vera"), "kind must be one of lora, dora, not 'vera'"),
        (lambda: Configuration.of({"a": -1}), "rank of a must be a whole number from 0, not -1"),
        (lambda: Configuration.of({"a": 4.7}), "rank of a must be a whole number from 0, not 4.7"),
        (lambda: Configuration.of({"a": float("inf")}), "rank of a must be a whole number from 0, not inf"),
        (lambda: Configuration.of({"a": "4"}), "rank of a must be a whole number from 0, not '4'"),
        (lambda: Configuration.of(widths={0: None}), "width of layer 0 must be a whole number from 1, not None"),
        (lambda: Configuration.of(widths={0: 0}), "width of layer 0 must be a whole number from 1, not 0"),
        (lambda: Configuration.of(widths={"0": 8}), "is of a layer, a whole number from 0, not"),
        (lambda: Configuration.of(widths={True: 8}), "is of a layer, a whole number from 0, not"),
        (lambda: Configuration.uniform(SHAPE, 9), r"rank of .*k_proj must be 0 to 8 in this base model, not 9"),
        (
            lambda: Configuration.of({"h.0.attn": 1}).on(SHAPE),
            r"has no linear 'h\.0\.attn'; its first is 'model",
        ),
        (lambda: Configuration.of(widths={12: 8}).on(SHAPE), "has no layer 12; its layers are 0 to 11"),
        (lambda: Configuration.of(widths={3: 25}).on(SHAPE), "width of layer 3 must be 1 to 24 in this base model"),
        (lambda: Configuration.from_json({"heads": {"0": 2}}), "unknown kind of dimension 'heads'"),
        (lambda: Configuration.from_json({"widths": [3]}), "widths must be a mapping"),
        (lambda: Configuration.from_json({"widths": {"three": 8}}), "widths must name layers by number"),
        (lambda: Configuration.from_json({"left_out": {"1": 0}}), "left_out must be a list"),
    ],
)
def test_what_no_model_has_is_refused(build: Callable[[], Configuration], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_integers_of_numpy_become_plain_ones() -> None:
    found = Configuration.of({"a": np.int64(3)}, widths={0: np.int32(5)})  # type: ignore[dict-item]
    assert [type(number) for pair in (*found.ranks, *found.by_layer.items()) for number in pair] == [str, int, int, int]


def test_a_uniform_adapter_has_its_rank_on_the_chosen_kinds() -> None:
    found = Configuration.uniform(SHAPE, 3, kinds=("q_proj", "down_proj"))
    assert found.by_path == {path.format(layer): 3 for layer in range(12) for path in (QUERY, DOWN)}


def test_the_width_of_the_base_is_left_out() -> None:
    assert Configuration.of({QUERY.format(0): 2}, widths={0: 24, 1: 8}).on(SHAPE) == Configuration.of(
        {QUERY.format(0): 2}, widths={1: 8}
    )


def test_a_rank_beyond_the_narrower_layer_is_refused() -> None:
    fits = Configuration.of({DOWN.format(1): 6, DOWN.format(0): 16}, widths={1: 6})
    assert fits.on(SHAPE) == fits
    with pytest.raises(InputError, match=r"rank of .*1\.mlp\.down_proj must be 0 to 6 in this base model, not 7"):
        Configuration.of({DOWN.format(1): 7}, widths={1: 6}).on(SHAPE)


def test_sites_of_a_narrower_layer_are_narrower() -> None:
    sites = {site.path: site for site in Configuration.of(widths={0: 6}).sites(FUSED)}
    assert sites["model.layers.0.mlp.gate_up_proj"].out_features == 12, "both are narrower"
    sizes = {site.path: (site.in_features, site.out_features) for site in Configuration.of(widths={1: 6}).sites(SHAPE)}
    assert [sizes[f"model.layers.1.mlp.{kind}"] for kind in ("gate_proj", "up_proj", "down_proj")] == [
        (16, 6),
        (16, 6),
        (6, 16),
    ]
    assert {path: size for path, size in sizes.items() if ".1.mlp." not in path} == {
        site.path: (site.in_features, site.out_features) for site in SHAPE.sites if ".1.mlp." not in site.path
    }


def test_an_adapter_on_a_narrower_layer_has_fewer_parameters() -> None:
    ranks = {DOWN.format(0): 2, DOWN.format(1): 3}
    assert Configuration.of(ranks, widths={1: 6}).adapter_parameters(SHAPE) == 2 * (24 + 16) + 3 * (6 + 16)


def test_json_is_read_again() -> None:
    some = Configuration.of({QUERY.format(0): 3}, widths={1: 8}, left_out=(4, 2), kind="dora")
    content = some.to_json()
    assert content == {"ranks": {QUERY.format(0): 3}, "widths": {"1": 8}, "left_out": [2, 4], "kind": "dora"}
    assert Configuration.from_json(content) == some


def test_every_layer_has_its_part() -> None:
    some = Configuration.of({QUERY.format(11): 2, DOWN.format(1): 4}, widths={1: 8, 2: 8}, kind="dora")
    parts = some.of_layers(SHAPE)
    assert parts[1] == Configuration.of({DOWN.format(0): 4}, widths={0: 8}, kind="dora")
    assert parts[2] == Configuration.of({}, widths={0: 8}, kind="dora")
    assert parts[11] == Configuration.of({QUERY.format(0): 2}, kind="dora")
    assert {parts[layer] for layer in (0, *range(3, 11))} == {Configuration(kind="dora")}


def test_a_configuration_is_described_by_kinds_of_linears_and_widths(llama: ModelShape) -> None:
    ranks = {site.path: 4 + 4 * site.layer for site in llama.sites if site.kind == "q_proj"}
    found = Configuration.of(ranks, widths={0: llama.intermediate // 2})
    highest = 4 * llama.layers
    assert found.describe() == f"q 4-{highest} x{llama.layers}, MLP {llama.intermediate // 2} x1"
    assert Configuration().describe() == "base"
    assert repr(Workload(llama, found)).endswith(f": {found.describe()}>")


def test_a_registered_kind_without_parts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Kind("colour", "colours", base=lambda shape: 1)
    monkeypatch.setattr("adaptare.profiler.workloads.kinds.extension", lambda *words, **options: made)
    with pytest.raises(InputError, match="'colours' needs `tensors`: its work and memory follow"):
        Configuration.from_json({"colours": {"0": 2}})
