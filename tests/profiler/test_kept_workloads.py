"""Workloads as earlier versions wrote them: their JSON and hashes stay, so that stores and predictors do."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.workloads.workload import partly_open

SHAPE = ModelShape("llama", 3, 32, 4, 2, 8, 48, 64, '{"name":"tiny"}')
QUERY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
PLAIN: Mapping[str, Any] = {
    "shape": "28cd9fc04d67db53",
    "adapter": {},
    "mode": "swappable",
    "phase": "decode",
    "scope": "model",
    "site": "",
    "batch": 1,
    "length": 64,
    "dtype": "float32",
}
BLOCK = {"mode": "static", "scope": "block", "quantisation": "int4", "caches": "cold", "adapter_kind": "dora"}
OPEN = Workload(SHAPE, graph="open")
NOTHING = {site.path: 0 for site in SHAPE.sites}
KEPT: Mapping[str, tuple[Workload, Mapping[str, Any], str]] = {
    "no adapter": (Workload(SHAPE), {}, "f5115e935beb07ad"),
    "base": (Workload(SHAPE).base, {"mode": "merged"}, "efce6149ab27e5e3"),
    "prefill": (
        Workload(SHAPE, Configuration.of({QUERY: 3, DOWN: 5}), phase="prefill", tokens=32),
        {"adapter": {QUERY: 3, DOWN: 5}, "phase": "prefill", "length": 32},
        "a7974f0e6d8b25d6",
    ),
    "block": (
        Workload(SHAPE, Configuration.of({QUERY: 3}, kind="dora"), mode="static", scope="block", quantisation="int4"),
        {"adapter": {QUERY: 3}, **BLOCK},
        "26995539ee05dac3",
    ),
    "open without adapter": (OPEN, {"adapter": NOTHING}, "685d027fd2040c71"),
    "open with one site": (
        OPEN.with_configuration(Configuration.of({QUERY: 3})),
        {"adapter": {**NOTHING, QUERY: 3}},
        "da28adfe0aa1ecb2",
    ),
    "an adapter on every site": (
        OPEN.with_configuration(Configuration.uniform(SHAPE, 2)),
        {"adapter": dict.fromkeys(NOTHING, 2)},
        "e024ebf98a4692c9",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_workload_of_the_version_before_has_the_same_json_and_hash(name: str) -> None:
    workload, differs, known = KEPT[name]
    assert workload.to_json() == {**PLAIN, **differs}
    assert workload.hash == known

    assert Workload.from_json(json.loads(json.dumps({**PLAIN, **differs})), SHAPE) == workload


def test_measurements_of_graphs_that_are_open_in_part_are_known() -> None:
    shapes = {SHAPE.hash: SHAPE}
    assert partly_open({**PLAIN, "adapter": {QUERY: 3, DOWN: 0}}, shapes)
    assert not partly_open({**PLAIN, "adapter": {QUERY: 3}}, shapes)
    assert not partly_open(OPEN.to_json(), shapes)
    assert not partly_open(replace(OPEN, scope="block").to_json(), shapes)


def test_an_open_block_is_written_with_every_site_of_the_block() -> None:
    block = replace(OPEN, scope="block")
    assert len(block.to_json()["adapter"]) == 7
    assert Workload.from_json(block.to_json(), SHAPE) == block


def test_widths_are_written_beside_the_ranks_and_read_in_open_graphs_too() -> None:
    narrow = Workload(SHAPE, Configuration.of({QUERY: 3}, widths={2: 24, 0: 40}))
    assert narrow.to_json() == {**PLAIN, "adapter": {QUERY: 3}, "widths": {"0": 40, "2": 24}}
    assert Workload.from_json(json.loads(json.dumps(narrow.to_json())), SHAPE) == narrow
    assert narrow.hash != Workload(SHAPE, Configuration.of({QUERY: 3})).hash

    narrow = OPEN.with_configuration(Configuration.of({QUERY: 3}, widths={1: 8}))
    read = Workload.from_json(json.loads(json.dumps(narrow.to_json())), SHAPE)
    assert (read, read.graph) == (narrow, "open")
