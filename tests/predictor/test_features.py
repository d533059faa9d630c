from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import TorchCpu, ort_cpu
from adaptare.predictor import FeatureSet
from adaptare.predictor.features import dimensions_of
from adaptare.profiler import WIDTH, Configuration, Mode, ModelShape, Workload
from adaptare.profiler.workloads.work import ADAPTER_LAUNCHES

MODES: tuple[Mode, ...] = ("swappable", "static", "padded", "merged", "requantised")


def codes(features: FeatureSet, n: int = 6) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 17, size=(n, len(features.sites))) * (rng.random((n, len(features.sites))) < 0.5)
    return np.vstack([drawn, np.zeros_like(drawn[:1])])


def slow_features(template: Workload, features: FeatureSet, row: NDArray[np.int64]) -> list[float]:
    """The same numbers from what the workload itself counts, with and without the sites of each kind."""
    if template.mode == "padded":
        row = np.where(row > 0, row.max(), 0)
    mode = "swappable" if template.mode == "padded" else template.mode

    def added(kinds: tuple[str, ...]) -> tuple[float, float, float]:
        ranks = {site.path: int(rank) for site, rank in zip(features.sites, row, strict=True) if site.kind in kinds}
        work = replace(template, mode=mode, configuration=Configuration.of(ranks)).work()
        base = template.base.work()
        launches = (work.launches - base.launches) / ADAPTER_LAUNCHES
        return launches, work.moved_bytes - base.moved_bytes, work.flops - base.flops

    by_kind = [added((kind,)) for kind in features.linear_kinds]
    return [*added(features.linear_kinds), *[kind[0] for kind in by_kind], *[kind[1] for kind in by_kind]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{"phase": "prefill", "tokens": 16}, {"phase": "decode", "scope": "block"}])
def test_features_are_what_the_workload_counts(shape: ModelShape, mode: Mode, options: dict[str, Any]) -> None:
    template = Workload(shape, mode=mode, batch=2, dtype="bfloat16", **options)
    features = FeatureSet.of(template, [])
    rows = codes(features)
    expected = [slow_features(template, features, row) for row in rows]
    np.testing.assert_array_equal(features.matrix(rows), expected)


def test_each_feature_has_a_name_and_a_unit(template: Workload) -> None:
    features = FeatureSet.of(template, [])
    said = features.units
    assert len(said) == features.matrix(codes(features)).shape[1]
    assert said["adapter_flops"] == "FLOP"
    assert said["sites:q_proj"] == "sites"
    assert said["bytes:down_proj"] == "bytes"


def test_layers_with_an_adapter_on_q_k_or_v_are_counted_where_graphs_pack_them(template: Workload) -> None:
    linears = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj")
    ranks = [{f"model.layers.{layer}.{linear}": 2 for linear in linears[:layer]} for layer in range(3)]
    configurations = [Configuration.of(each) for each in ({}, *ranks, {**ranks[1], **ranks[2]})]
    configurations.append(Configuration.of({f"model.layers.{layer}.{linears[2]}": 2 for layer in range(3)}))
    features = FeatureSet.of(template, [], options=ort_cpu(threads=1).info().options)
    column = features.names.index("split:qkv_proj")
    counts = features.matrix(features.values(configurations))[:, column]
    assert counts.tolist() == [0, 0, 1, 1, 2, 0]
    assert features.units["split:qkv_proj"] == "layers"
    assert FeatureSet.named(template, features.names) == features
    assert "split:qkv_proj" not in FeatureSet.of(template, [], options=TorchCpu(threads=1).info().options).names


def test_fused_projections_have_features_of_their_own() -> None:
    template = Workload(ModelShape("phi3", 2, 64, 4, 2, 16, 128, 256, "{}"))
    names = FeatureSet.of(template, []).names
    assert "sites:qkv_proj" in names
    assert "sites:q_proj" not in names


def test_the_adapter_of_the_template_is_ignored(template: Workload, shape: ModelShape) -> None:
    other = replace(template, configuration=Configuration.uniform(shape, 4))
    rows = codes(FeatureSet.of(template, []))
    np.testing.assert_array_equal(FeatureSet.of(other, []).matrix(rows), FeatureSet.of(template, []).matrix(rows))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("phase", "family"), [("prefill", "llama"), ("decode", "phi3")])
def test_features_of_widths_are_what_the_workload_counts(mode: str, phase: str, family: str) -> None:
    shape = ModelShape(family, 3, 64, 4, 2, 16, 128, 256, "{}")
    template = Workload(shape, mode=mode, phase=phase, batch=2, tokens=16)  # type: ignore[arg-type]
    features = FeatureSet(template, dimensions_of(template, [WIDTH]))
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 17, size=(6, len(shape.sites))) * (rng.random((6, len(shape.sites))) < 0.5)
    codes = np.hstack([ranks, rng.integers(20, 129, size=(6, 3))])
    found = dict(zip(features.names, features.matrix(codes).T, strict=True))
    for row, code in enumerate(codes):
        here = Configuration(tuple(zip(features.dimensions, code.tolist(), strict=True))).on(shape)
        if mode == "padded":
            largest = {path: int(ranks[row].max()) for path in here.by_path}
            here = Configuration.of(largest, widths=here.by_layer)
        usual = replace(template, mode="swappable" if mode == "padded" else mode)  # type: ignore[arg-type]
        whole, bare, base = (
            replace(usual, configuration=each).work() for each in (here, here.without_adapter, Configuration())
        )
        assert found["sites"][row] == (whole.launches - bare.launches) / ADAPTER_LAUNCHES
        assert found["adapter_bytes"][row] == whole.moved_bytes - bare.moved_bytes
        assert found["flops"][row] == whole.flops - base.flops
        assert found["mlp_bytes"][row] == bare.moved_bytes - base.moved_bytes
        assert found["mlp_flops"][row] == bare.flops - base.flops


def ranks_with(value: int) -> NDArray[np.int64]:
    """No adapters, but for one rank. Shape (3, 42)."""
    rows = np.zeros((3, 42), dtype=np.int64)
    rows[2, 1] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 7), dtype=np.int64), r"shape \(n, 42\), one column per rank, not \(3, 7\)"),
        (np.zeros((3, 42)), "whole numbers, such as ranks, not float64"),
        (ranks_with(-1), r"rank of model.layers.0.self_attn.k_proj must be 0 to 64, not -1"),
        (ranks_with(65), r"rank of model.layers.0.self_attn.k_proj must be 0 to 64, not 65"),
    ],
    ids=["other sites", "no whole numbers", "below 0", "above the layer"],
)
def test_refuses_codes_that_no_configuration_has(template: Workload, rows: NDArray[np.int64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FeatureSet.of(template, []).matrix(rows)
