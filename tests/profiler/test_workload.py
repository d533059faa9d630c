"""Workloads: what is refused, what identifies them, and their work against modules that really run."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig

from adaptare.core import InputError
from adaptare.devices import Work
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.workloads.peft_folder import peft_arguments

CONFIG = LlamaConfig(
    num_hidden_layers=2,
    hidden_size=16,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=24,
    vocab_size=40,
)
SHAPE = ModelShape.from_config(CONFIG)
QUERY = "model.layers.1.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"
ADAPTER = Configuration.of({QUERY: 3, DOWN: 5})
PREFILL = Workload(SHAPE, ADAPTER, phase="prefill", tokens=7, batch=2)
DECODE = Workload(SHAPE, ADAPTER, phase="decode", past=11, batch=2)

pytestmark = [
    # PEFT asks transformers under a name that transformers has deprecated since.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    # The name that every supported version of transformers understands.
    pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning"),
]


class KernelCounter(TorchDispatchMode):
    """Counts operators that compute something; views issue no kernel."""

    VIEWS = ("aten.t", "aten.view", "aten._unsafe_view", "aten.detach", "aten.alias", "aten.transpose", "aten.expand")

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).rsplit(".", 1)[0]
        if name not in self.VIEWS:
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))


def model_of(workload: Workload, attention: str) -> nn.Module:
    base = AutoModelForCausalLM.from_config(CONFIG, attn_implementation=attention).eval()
    if not workload.configuration.ranks or workload.mode == "merged":
        return base
    arguments = peft_arguments(workload.configuration, {path: 2.0 for path, _ in workload.configuration.ranks})
    return get_peft_model(base, LoraConfig(**arguments)).eval()


def run(workload: Workload, counter: Any, attention: str = "sdpa") -> DynamicCache:
    """Calls the model of a workload once under a counter. Returns its cache afterwards."""
    model, cache = model_of(workload, attention), DynamicCache(config=CONFIG)
    tokens = 1 if workload.phase == "decode" else workload.tokens
    with torch.no_grad():
        if workload.phase == "decode":
            model(input_ids=torch.zeros(workload.batch, workload.past, dtype=torch.long), past_key_values=cache)
        inputs = torch.zeros(workload.batch, tokens, dtype=torch.long)
        with counter:
            model(input_ids=inputs, past_key_values=cache, logits_to_keep=1)
    return cache


def counted_flops(workload: Workload) -> int:
    """By torch's own counter, without the angles of the position embedding."""
    counter = FlopCounterMode(display=False)
    run(workload, counter, attention="eager")  # whose products torch can count on a processor
    flops = counter.get_flop_counts()
    rotary = next((sum(count.values()) for name, count in flops.items() if name.endswith("rotary_emb")), 0)
    return sum(flops["Global"].values()) - rotary


@pytest.mark.parametrize("mode", ["merged", "swappable"])
@pytest.mark.parametrize("workload", [PREFILL, DECODE], ids=["prefill", "decode"])
def test_flops_are_those_that_torch_counts(workload: Workload, mode: str) -> None:
    assert replace(workload, mode=mode).work().flops == counted_flops(replace(workload, mode=mode))


@pytest.mark.parametrize("workload", [PREFILL, DECODE], ids=["prefill", "decode"])
def test_an_unmerged_adapter_launches_what_torch_launches(workload: Workload) -> None:
    base, adapted = KernelCounter(), KernelCounter()
    run(workload.base, base)
    run(workload, adapted)
    assert adapted.kernels.total() - base.kernels.total() == workload.work().launches - workload.base.work().launches
    assert DECODE.base.work().launches == pytest.approx(base.kernels.total(), rel=0.1)


@pytest.mark.parametrize("workload", [PREFILL.base, DECODE.base], ids=["prefill", "decode"])
def test_moved_bytes_are_those_of_matrices_and_cache(workload: Workload) -> None:
    cache = run(workload, KernelCounter())
    cached = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    matrices = [module for module in model_of(workload, "sdpa").modules() if isinstance(module, nn.Linear)]
    assert workload.work().moved_bytes == cached + sum(module.weight.nbytes for module in matrices)


def test_an_unmerged_adapter_moves_its_matrices_and_thrice_the_output_of_its_linear() -> None:
    named = dict(model_of(PREFILL, "sdpa").named_modules())
    halves = [module for name, module in named.items() if name.endswith((".lora_A.default", ".lora_B.default"))]
    outputs = [module.out_features for name, module in named.items() if name.endswith(".lora_B.default")]
    moved = sum(module.weight.nbytes for module in halves) + 4 * 3 * PREFILL.rows * sum(outputs)
    assert PREFILL.work().moved_bytes - PREFILL.base.work().moved_bytes == moved


def test_a_model_is_its_blocks_and_its_head() -> None:
    model, block = Workload(SHAPE).work(), Workload(SHAPE, scope="block").work()
    head = Work(12, 4 * 40 * 16, 2 * 40 * 16)
    assert model == block * 2 + head


def test_a_folded_adapter_costs_nothing() -> None:
    assert replace(PREFILL, mode="merged").work() == replace(PREFILL, mode="requantised").work() == PREFILL.base.work()


def test_a_padded_adapter_costs_as_if_all_ranks_were_the_largest() -> None:
    padded = replace(PREFILL, mode="padded")
    assert padded.work() == PREFILL.with_configuration(Configuration.of({QUERY: 5, DOWN: 5})).work()


def test_half_the_width_moves_half_the_bytes() -> None:
    assert replace(PREFILL, dtype="float16").work().moved_bytes * 2 == PREFILL.work().moved_bytes


def test_rows_and_length_are_those_of_the_phase() -> None:
    assert (PREFILL.rows, DECODE.rows) == (14, 2)
    assert (PREFILL.length, DECODE.length) == (7, 11)


CHANGES = [
    {"shape": ModelShape.from_config(LlamaConfig(**{**CONFIG.to_dict(), "vocab_size": 41}))},
    {"configuration": Configuration.of({QUERY: 3, DOWN: 4})},
    {"configuration": Configuration.of({QUERY: 3})},
    {"mode": "static"},
    {"phase": "prefill"},
    {"scope": "block"},
    {"batch": 3},
    {"past": 12},
    {"dtype": "bfloat16"},
    {"configuration": Configuration.of({QUERY: 3, DOWN: 5}, kind="dora")},
]


def test_the_hash_changes_with_every_field_and_json_brings_all_back() -> None:
    changed = [DECODE, *(replace(DECODE, **change) for change in CHANGES), replace(PREFILL, tokens=8), PREFILL]
    assert len({workload.hash for workload in changed}) == len(changed)
    for workload in changed:
        assert Workload.from_json(workload.to_json(), workload.shape) == workload


def test_json_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=f"the workload is of shape 0123, not of {SHAPE.hash}"):
        Workload.from_json({**DECODE.to_json(), "shape": "0123"}, SHAPE)


def test_the_base_has_no_adapter_and_is_otherwise_the_same() -> None:
    assert DECODE.base == replace(DECODE, configuration=Configuration(), mode="merged")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "fused"}, "mode must be one of merged, swappable, static, padded, requantised, not 'fused'"),
        ({"phase": "training"}, "phase must be one of prefill, decode, not 'training'"),
        ({"scope": "tail"}, "scope must be one of model, block, head, not 'tail'"),
        ({"dtype": "int4"}, "dtype must be one of float32, bfloat16, float16, not 'int4'"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"phase": "prefill", "tokens": 0}, "tokens must be at least 1, not 0"),
        ({"past": -1}, "past must be at least 0, not -1"),
        ({"configuration": Configuration.of({"h.0": 2})}, r"the base model has no linear 'h\.0'"),
        ({"mode": "static", "graph": "open"}, "use mode swappable, not static"),
    ],
)
def test_what_cannot_run_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Workload(SHAPE, **fields)


def test_a_dora_computes_its_update_and_the_lengths_of_rows_beside_what_a_lora_does() -> None:
    site = SHAPE.site_by_path[QUERY]
    dora = Workload(SHAPE, Configuration.of({QUERY: 2}, kind="dora"))
    lora = Workload(SHAPE, Configuration.of({QUERY: 2}))
    update = 2 * 2 * (site.in_features + site.out_features) * site.in_features
    assert dora.work().flops - lora.work().flops == update + 4 * site.in_features * site.out_features
    assert dora.merged.work() == lora.merged.work()
    assert dora.base == lora.base


def test_sites_stay_open_whatever_adapter_comes() -> None:
    queries = Configuration.uniform(SHAPE, 4, kinds=("q_proj",))
    some = replace(DECODE, configuration=Configuration(), graph="open").with_configuration(queries)
    assert (some.graph, some.configuration) == ("open", queries)
    assert "swappable open" in some.describe()
    assert some.hash != some.merged.hash
    assert {some.base.graph, some.merged.graph, some.folded.graph} == {"cut"}
    assert some.base == DECODE.base


def test_an_adapter_on_every_site_leaves_none_open() -> None:
    everywhere = Configuration.uniform(SHAPE, 2)
    assert Workload(SHAPE, everywhere, graph="open") == Workload(SHAPE, everywhere)


def test_a_narrower_layer_takes_bytes_and_flops_away() -> None:
    narrow = Workload(SHAPE, Configuration.of(widths={0: SHAPE.intermediate - 5}), phase="prefill", tokens=7, batch=2)
    usual, weights = Workload(SHAPE, phase="prefill", tokens=7, batch=2).work(), 3 * 5 * SHAPE.hidden
    assert narrow.work() == Work(usual.launches, usual.moved_bytes - 4 * weights, usual.flops - 2 * 14 * weights)


def test_the_width_of_the_base_makes_no_other_workload_and_no_width_another_base() -> None:
    assert Workload(SHAPE, Configuration.of(widths={0: SHAPE.intermediate})) == Workload(SHAPE)
    assert Workload(SHAPE, Configuration.of(widths={0: 8})).base == Workload(SHAPE).base


def test_the_length_that_is_not_used_makes_no_difference() -> None:
    other = replace(DECODE, tokens=500)
    assert (other, other.hash, hash(other)) == (DECODE, DECODE.hash, hash(DECODE))
    assert Workload.from_json(other.to_json(), SHAPE) == other
    assert (replace(PREFILL, past=8).hash, replace(DECODE, tokens=0).length) == (PREFILL.hash, 11)
