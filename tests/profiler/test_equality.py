from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adaptare.devices import ProgramError
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.programs.equality import (
    adapted,
    applied_change,
    changes_outputs,
    check_applied,
    check_twin,
    largest_difference,
    needs_twin,
)


@pytest.fixture
def workload(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.uniform(llama, 2))


def test_agreement_with_the_merged_twin_passes(workload: Workload) -> None:
    check_twin(workload, [1.0, 2.0], [1.0, 2.00001])
    check_applied(workload, [1.0, 2.0], [0.0, 0.0])


def test_disagreement_with_the_merged_twin_is_a_failure(workload: Workload) -> None:
    with pytest.raises(ProgramError, match=r"swappable and merged outputs differ by 0.05 \(allowed: 0.0001\)"):
        check_twin(workload, [1.0, 2.1], [1.0, 2.0])


def test_as_much_as_the_base_itself_differs_by_is_allowed_three_times_over(workload: Workload) -> None:
    bases = ([1.0, 2.04], [1.0, 2.0])
    check_twin(workload, [1.0, 2.1], [1.0, 2.0], bases=bases)
    with pytest.raises(ProgramError, match=r"differ by 0.15 \(allowed: 0.06\)"):
        check_twin(workload, [1.0, 2.3], [1.0, 2.0], bases=bases)


def rounded_outputs(
    *, size: float = 1.0, missing: float = 0.0, garbage: float = 0.0
) -> tuple[list[float], list[float], tuple[list[float], list[float]]]:
    """Outputs and merged reference of an adapter on a coarsely quantised base, and those of both bases."""
    rng = np.random.default_rng(0)
    base_twin, effect, other = rng.standard_normal((3, 512))
    kept = np.where(rng.random(512) < missing, 0.0, effect)
    rounded = base_twin + 0.2 * rng.standard_normal(512)
    outputs = rounded + size * kept + 0.3 * rng.standard_normal(512) + garbage * other
    outputs[7] += 4.0
    return outputs.tolist(), (base_twin + effect).tolist(), (rounded.tolist(), base_twin.tolist())


def test_on_a_coarse_base_the_change_by_the_adapter_has_to_be_that_of_the_merged_reference(workload: Workload) -> None:
    outputs, twin, bases = rounded_outputs()
    assert largest_difference(outputs, twin) > 3 * largest_difference(*bases)
    assert applied_change(outputs, twin, *bases) == pytest.approx((1.0, 0.94), abs=0.04)
    check_twin(workload, outputs, twin, bases=bases)


@pytest.mark.parametrize(
    "wrong", [{"size": 0.0}, {"size": 0.5}, {"size": 1.4}, {"size": -1.0}, {"missing": 0.34}, {"garbage": 1.0}]
)
def test_on_a_coarse_base_what_is_applied_wrongly_is_a_failure(workload: Workload, wrong: dict[str, float]) -> None:
    outputs, twin, bases = rounded_outputs(**wrong)
    with pytest.raises(ProgramError, match=r"merged outputs differ .*; the adapter's change is"):
        check_twin(workload, outputs, twin, bases=bases)


def test_on_a_finely_quantised_base_three_times_its_error_is_the_limit(workload: Workload) -> None:
    outputs, twin, (rounded, base_twin) = rounded_outputs()
    fine = (np.asarray(base_twin) + 0.1 * (np.asarray(rounded) - np.asarray(base_twin))).tolist()
    with pytest.raises(ProgramError, match=r"allowed: [0-9.]+\); not timed"):
        check_twin(workload, outputs, twin, bases=(fine, base_twin))


def test_bases_or_outputs_of_unequal_length_allow_nothing(workload: Workload) -> None:
    with pytest.raises(ProgramError, match=r"differ by 0.05 \(allowed: 0.0001\)"):
        check_twin(workload, [1.0, 2.1], [1.0, 2.0], bases=([1.0], [1.0, 2.0]))
    with pytest.raises(ProgramError, match="differ by inf"):
        check_twin(workload, [], [1.0, 2.0])


def test_an_adapter_that_changes_nothing_is_a_failure(workload: Workload) -> None:
    with pytest.raises(ProgramError, match="does not change the output"):
        check_applied(workload, [1.0, 2.0], [1.0, 2.0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_that_changes_little_is_applied_all_the_same(workload: Workload, dtype: str) -> None:
    check_applied(replace(workload, dtype=dtype), [1.0, 2.0], [1.0, 2.0001])


@pytest.mark.parametrize(
    ("kinds", "phase", "seen"),
    [
        (("q_proj", "k_proj"), {"phase": "decode", "past": 0}, False),
        (("q_proj",), {"phase": "prefill", "tokens": 1}, False),
        (("q_proj", "v_proj"), {"phase": "decode", "past": 0}, True),
        (("q_proj",), {"phase": "decode", "past": 1}, True),
    ],
)
def test_with_one_key_queries_and_keys_change_nothing(
    llama: ModelShape, kinds: tuple[str, ...], phase: dict[str, Any], seen: bool
) -> None:
    adapter = Configuration.uniform(llama, 2, kinds=kinds)
    assert changes_outputs(Workload(llama, adapter, **phase)) == seen


def test_not_a_number_never_agrees(workload: Workload) -> None:
    with pytest.raises(ProgramError, match="differ"):
        check_twin(workload, [float("nan"), 2.0], [1.0, 2.0])


def test_what_is_quantised_again_or_has_no_adapter_needs_no_twin(workload: Workload) -> None:
    assert needs_twin(workload)
    assert needs_twin(replace(workload, mode="static"))
    assert needs_twin(workload.merged)
    assert not needs_twin(replace(workload, mode="requantised", quantisation="int4"))
    assert not needs_twin(workload.base)


def test_an_adapter_elsewhere_does_not_count(workload: Workload) -> None:
    elsewhere = workload.with_configuration(Configuration.of({"model.layers.1.mlp.up_proj": 4}))
    assert adapted(elsewhere)
    assert not adapted(replace(elsewhere, scope="block"))


def test_the_difference_is_relative_to_large_values_only() -> None:
    assert largest_difference([0.1], [0.2]) == pytest.approx(0.1)
    assert largest_difference([99.0], [100.0]) == pytest.approx(0.01)
    assert largest_difference([1.0], [1.0, 2.0]) == float("inf")
