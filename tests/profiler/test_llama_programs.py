"""GGUF files of bases and adapters: llama.cpp computes with them what torch does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mixed_ranks import TOKENS, mixed_halves, of_family, torch_logits

from adaptare.core import InputError, ProgramError
from adaptare.core.content_hash import canonical_json
from adaptare.devices import DeviceInfo, Worker, program_file
from adaptare.devices.agent.llama_library import Library
from adaptare.devices.agent.llama_runtime import last_logits, write_adapter
from adaptare.devices.agent_worker import AgentWorker
from adaptare.devices.llama_device import llama_cpu
from adaptare.profiler import Configuration, Workload
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.gguf_base import TYPES, base_file
from adaptare.profiler.programs.gguf_names import adapter_tensors, architecture_of
from adaptare.profiler.programs.llama import LlamaPrograms
from adaptare.profiler.workloads import Halves
from adaptare.testing.program_builder import ADAPTER, SHAPE

pytestmark = pytest.mark.llama
# The cache of llama.cpp has 16 bits.
CLOSE = 5e-3


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("qwen2", False), ("qwen3", False)])
def test_a_base_with_an_adapter_of_mixed_ranks_and_scales_computes_what_torch_does(
    family: str, tied: bool, tmp_path: Path
) -> None:
    # llama.cpp has Qwen2 with heads that fill the width only.
    shape = of_family(family, tie_word_embeddings=tied, head_dim=8 if family == "qwen2" else 16)
    model, file = str(base_file(KeptFolders(tmp_path, "gguf"), shape, "F32")), tmp_path / "adapter.gguf"
    halves = mixed_halves(shape)
    write_adapter(file, architecture_of(shape), adapter_tensors(halves, shape))
    base, adapted = (last_logits(model, name, TOKENS) for name in ("", str(file)))
    largest = np.max(np.abs(torch_logits(shape, halves)))
    assert np.max(np.abs(base - torch_logits(shape, {}))) < CLOSE * largest
    assert np.max(np.abs(adapted - torch_logits(shape, halves))) < CLOSE * largest
    assert np.max(np.abs(adapted - base)) > 0.1 * largest


def test_scaled_positions_are_computed_as_in_torch(tmp_path: Path) -> None:
    llama3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    for own in ({"rope_type": "linear"}, {"rope_type": "llama3", **llama3}):
        scaled = {"rope_theta": 100.0, "factor": 8.0, **own}
        shape = of_family("llama", rope_parameters=scaled, initializer_range=0.3)
        right, plain = (torch_logits(each, {}) for each in (shape, of_family("llama", initializer_range=0.3)))
        found = last_logits(str(base_file(KeptFolders(tmp_path, "gguf"), shape, "F32")), "", TOKENS)
        largest = np.max(np.abs(right))
        assert np.max(np.abs(found - right)) < CLOSE * largest < np.max(np.abs(right - plain)) / 4


@pytest.mark.parametrize("kind", TYPES.values())
def test_rounded_bases_are_close_to_exact_ones(kind: str, tmp_path: Path) -> None:
    shape = of_family("llama", hidden_size=64, intermediate_size=96)
    exact = torch_logits(shape, {})
    found = last_logits(str(base_file(KeptFolders(tmp_path, "gguf"), shape, kind)), "", TOKENS)
    assert np.max(np.abs(found - exact)) < {"Q4_0": 0.3, "Q8_0": 0.03}.get(kind, 0.01) * np.max(np.abs(exact))


def test_a_library_of_other_symbols_is_refused() -> None:
    import _ctypes

    with pytest.raises(ValueError, match=r"is no llama.cpp of 2025 or later: it lacks llama_adapter_lora_init"):
        Library(_ctypes.__file__)
    with pytest.raises(ValueError, match="there is no library"):
        Library("gone.so")
    with pytest.raises(ValueError, match="cannot be loaded as a library"):
        Library(__file__)


@pytest.fixture
def programs(tmp_path: Path) -> Callable[..., LlamaPrograms]:
    def made(*options: str) -> LlamaPrograms:
        info = DeviceInfo("llama-cpu", "board", "llama_cpp 0.6", 1, options)
        return LlamaPrograms(info, cache=tmp_path)

    return made


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (Workload(SHAPE, ADAPTER, mode="static"), "applies adapters of this base swappable or merged, not static"),
        (Workload(SHAPE, ADAPTER, mode="merged", quantisation="int4"), "swappable or requantised, not merged"),
        (Workload(SHAPE, ADAPTER, scope="block"), "is timed with a whole model, one sequence at a time"),
        (Workload(of_family("gemma"), Configuration()), "models of the family gemma are not written as GGUF"),
        (Workload(of_family("phi3"), Configuration()), "adapters of the family phi3 are not written as GGUF"),
        (
            Workload(of_family("qwen3", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})),
            "models with linear scaling of their positions are not written as GGUF",
        ),
        (Workload(SHAPE, quantisation="int4-weight-only"), "rounds activations beside 4-bit weights"),
    ],
    ids=["static", "merged", "block", "gemma", "phi3", "scaled positions", "weights only"],
)
def test_what_does_not_run_is_refused_before_a_file_is_written(
    programs: Callable[..., LlamaPrograms], tmp_path: Path, workload: Workload, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        programs().program(workload)
    assert not list(tmp_path.iterdir())


def test_a_file_is_timed_as_it_is_and_must_be_of_the_base(
    programs: Callable[..., LlamaPrograms], tmp_path: Path
) -> None:
    file = base_file(KeptFolders(tmp_path, "gguf"), SHAPE, "Q8_0")
    given = programs(f"file={file}")
    assert [brought.path for brought in given.program(Workload(SHAPE, ADAPTER)).files] == [file]
    for workload, message in (
        (Workload(SHAPE, quantisation="int4"), "a GGUF file has the weights that it has; leave int4 out"),
        (Workload(SHAPE, ADAPTER, mode="merged"), "applies adapters of this base swappable, not merged"),
        (Workload(of_family("qwen3")), "is of the architecture llama, and this base is of qwen3"),
        (Workload(of_family("llama", num_hidden_layers=3)), "its block_count is 2, and that of this base is 3"),
    ):
        with pytest.raises(InputError, match=message):
            given.check(workload)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as GGUF"):
        programs(f"file={broken}").check(Workload(SHAPE))


def test_a_cache_that_does_not_fit_is_out_of_memory(tmp_path: Path) -> None:
    shape = of_family("llama", head_dim=64, max_position_embeddings=2**20)
    device = llama_cpu(memory_bytes=400 * 2**20)
    program = LlamaPrograms(device.info(), cache=tmp_path).program(Workload(shape, past=2**20 - 2))
    with device.open() as worker, pytest.raises(ProgramError, match=r"^out of memory: .*insufficient memory"):
        worker.load(program)


def test_adapters_have_the_data_type_of_the_device(programs: Callable[..., LlamaPrograms]) -> None:
    (feed,) = programs("adapter_dtype=float16").program(Workload(SHAPE, ADAPTER)).feeds
    assert {spec["dtype"] for spec in json.loads(feed.arguments)["adapter"].values()} == {"float16"}


def test_merged_files_of_the_same_ranks_elsewhere_are_two_programs(programs: Callable[..., LlamaPrograms]) -> None:
    first, second = [site.path for site in SHAPE.sites if site.path.endswith("q_proj")]
    ranks = ({first: 4, second: 8}, {first: 8, second: 4})
    merged = [Workload(SHAPE, Configuration.of(each), mode="merged") for each in ranks]
    assert len({programs().need(each).program for each in merged}) == 2


def test_a_merged_file_computes_what_torch_does(tmp_path: Path) -> None:
    halves = {site.path: Halves.random(site.path, 8, site.in_features, site.out_features) for site in SHAPE.sites}
    file = base_file(KeptFolders(tmp_path, "gguf"), SHAPE, "F32", merged=dict.fromkeys(halves, 8))
    right, plain = torch_logits(SHAPE, halves), torch_logits(SHAPE, {})
    largest = np.max(np.abs(right))
    found = last_logits(str(file), "", TOKENS)
    assert np.max(np.abs(found - right)) < CLOSE * largest < np.max(np.abs(plain - right)) / 4


def test_tasks_have_the_outputs_of_their_files(programs: Callable[..., LlamaPrograms], tmp_path: Path) -> None:
    """The first task has the random adapter of the workload, the second one twice its A and B."""
    workload = Workload(SHAPE, ADAPTER, past=8)
    with llama_cpu().open() as worker:
        (own,) = worker.load(programs().program(workload)).outputs.values()
        first, second = worker.load(programs().of_tasks(workload, 2, tmp_path)).outputs.values()
    assert first == own != second


def test_a_feed_keeps_its_cache_while_others_run(programs: Callable[..., LlamaPrograms]) -> None:
    workloads = [Workload(SHAPE, ADAPTER, past=8), Workload(SHAPE, past=8), Workload(SHAPE, ADAPTER, past=12)]
    made = [programs().program(each) for each in workloads]
    together = replace(made[0], feeds=tuple(feed for each in (*made, *made[:1]) for feed in each.feeds))
    alone: list[tuple[float, ...]] = []
    with llama_cpu().open() as worker:
        alone = [output for each in made for output in worker.load(each).outputs.values()]
        assert list(worker.load(together).outputs.values())[:3] == alone


def test_nothing_stays_loaded_with_an_adapter_of_another_base(programs: Callable[..., LlamaPrograms]) -> None:
    right = programs().program(Workload(SHAPE, ADAPTER, past=8))
    (feed,) = right.feeds
    made = {"dtype": "float32", "uniform": 1.0, "seed": 1}
    adapter = {f"blk.0.attn_q.weight.lora_{half}": {**made, "shape": [2, 2]} for half in "ab"}
    arguments = canonical_json({**json.loads(feed.arguments), "adapter": adapter})
    with llama_cpu().open() as worker:
        with pytest.raises(ProgramError, match="wrong base model"):
            worker.load(replace(right, feeds=(replace(feed, arguments=arguments),)))
        assert not models_in(worker)
        assert worker.load(right).outputs
        assert models_in(worker)


def models_in(worker: Worker) -> list[str]:
    """GGUF files that are mapped into the memory of a worker."""
    assert isinstance(worker, AgentWorker)
    maps = Path(f"/proc/{worker.process_id}/maps").read_text(encoding="utf-8")
    return [line for line in maps.splitlines() if ".gguf" in line]


def test_nothing_stays_loaded_of_a_file_that_is_no_model(
    programs: Callable[..., LlamaPrograms], tmp_path: Path
) -> None:
    right, broken = programs().program(Workload(SHAPE)), tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and no more")
    with llama_cpu().open() as worker:
        with pytest.raises(ProgramError, match=r"llama.cpp could not load .*broken.gguf': .*this GGUF file is version"):
            worker.load(replace(right, source=broken.name, files=(program_file(broken, keep=False),)))
        assert not models_in(worker)
        assert worker.load(right).outputs
