from dataclasses import replace
from typing import Any

import pytest

from adaptare.core import ProgramError
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.programs.equality import (
    changes_outputs,
    check_against_merged,
    check_applied,
    largest_difference,
    needs_merged_reference,
)


@pytest.fixture
def workload(llama: ModelShape) -> Workload:
    return Workload(llama, Configuration.uniform(llama, 2))


def test_only_agreement_with_the_merged_reference_passes(workload: Workload) -> None:
    check_against_merged(workload, [1.0, 2.0], [1.0, 2.00001])
    with pytest.raises(ProgramError, match=r"swappable and merged outputs differ by 0.05 \(allowed: 0.0001\)"):
        check_against_merged(workload, [1.0, 2.1], [1.0, 2.0])


def test_as_much_as_the_base_itself_differs_by_is_allowed_three_times_over(workload: Workload) -> None:
    bases = ([1.0, 2.04], [1.0, 2.0])
    check_against_merged(workload, [1.0, 2.1], [1.0, 2.0], bases=bases)
    with pytest.raises(ProgramError, match=r"differ by 0.15 \(allowed: 0.06\)"):
        check_against_merged(workload, [1.0, 2.3], [1.0, 2.0], bases=bases)


def test_bases_or_outputs_of_unequal_length_and_nan_allow_nothing(workload: Workload) -> None:
    with pytest.raises(ProgramError, match=r"differ by 0.05 \(allowed: 0.0001\)"):
        check_against_merged(workload, [1.0, 2.1], [1.0, 2.0], bases=([1.0], [1.0, 2.0]))
    with pytest.raises(ProgramError, match="differ by inf"):
        check_against_merged(workload, [], [1.0, 2.0])
    with pytest.raises(ProgramError, match="differ"):
        check_against_merged(workload, [float("nan"), 2.0], [1.0, 2.0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_that_changes_nothing_is_a_failure_and_one_that_changes_little_is_not(
    workload: Workload, dtype: str
) -> None:
    check_applied(replace(workload, dtype=dtype), [1.0, 2.0], [1.0, 2.0001])
    with pytest.raises(ProgramError, match="does not change the output"):
        check_applied(replace(workload, dtype=dtype), [1.0, 2.0], [1.0, 2.0])


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


def test_what_is_quantised_again_or_has_no_adapter_here_needs_no_merged_reference(workload: Workload) -> None:
    assert needs_merged_reference(workload)
    assert needs_merged_reference(workload.merged)
    assert not needs_merged_reference(replace(workload, mode="requantised", quantisation="int4"))
    assert not needs_merged_reference(workload.base)
    elsewhere = workload.with_configuration(Configuration.of({"model.layers.1.mlp.up_proj": 4}))
    assert needs_merged_reference(elsewhere)
    assert not needs_merged_reference(replace(elsewhere, scope="block"))


def test_the_difference_is_relative_to_large_values_only() -> None:
    assert largest_difference([0.1], [0.2]) == pytest.approx(0.1)
    assert largest_difference([99.0], [100.0]) == pytest.approx(0.01)
    assert largest_difference([1.0], [1.0, 2.0]) == float("inf")
