"""Adapters for llama.cpp: written, run, and checked."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mixed_ranks import MIXED

from adaptare.devices.agent.llama_runtime import last_logits, write_adapter
from adaptare.profiler import ModelShape, open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs import gguf_site
from adaptare.profiler.programs.gguf_base import base_file
from adaptare.profiler.programs.gguf_names import adapter_names

pytestmark = pytest.mark.llama
Run = Callable[..., Any]
Tensors = dict[str, "np.typing.NDArray[np.float32]"]
Change = Callable[[Tensors], object]


@pytest.fixture(scope="module")
def shape(model_cache: Path) -> ModelShape:
    return open_model("tiny-random", cache=model_cache).shape


@pytest.fixture(scope="module")
def models(model_cache: Path, shape: ModelShape) -> Callable[[str], Path]:
    source = open_model("tiny-random", cache=model_cache)
    return lambda kind: base_file(KeptFolders(model_cache, "gguf"), shape, kind, weights=source)


@pytest.fixture(scope="module")
def made(
    commands_in: Callable[..., Any],
    save_adapter: Callable[..., Path],
    model_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder with an adapter of mixed ranks and scales that PEFT saved, `mine`, and its export, `out`."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(1)
    save_adapter(folder / "mine", **MIXED)
    words = ("export", "mine", "--base", "tiny-random", "--to", "gguf", "-o", "out", "--cache", model_cache)
    with commands_in(folder) as run:
        answer = run(*words)
    assert answer.code == 0, answer.err
    return folder


@pytest.fixture
def exported(made: Path) -> Path:
    return made / "out" / "adapter.gguf"


@pytest.fixture
def check(run: Run, made: Path, model_cache: Path) -> Run:
    fixed = ("check", made / "mine", "--base", "tiny-random", "--runtime", "llama", "--cache", model_cache)
    return lambda *words: run(*fixed, *words)


def test_llama_cpp_generates_the_tokens_of_peft(
    exported: Path, made: Path, models: Callable[[str], Path], model_cache: Path
) -> None:
    from peft import PeftModel

    from adaptare.search import load_base

    base, _ = load_base(open_model("tiny-random", cache=model_cache).weights_folder())
    tokens = [72, 40, 90, 33]
    with torch.inference_mode():
        peft = PeftModel.from_pretrained(base, made / "mine").eval()
        expected = peft.generate(torch.tensor([tokens]), max_new_tokens=32, do_sample=False, eos_token_id=None)
    for _ in range(32):
        tokens.append(int(np.argmax(last_logits(str(models("F32")), str(exported), tokens)[-1])))
    assert tokens == expected[0].tolist()


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_an_export_is_applied(check: Run, exported: Path, models: Callable[[str], Path], kind: str) -> None:
    answer = check("--file", models(kind), "--adapter-file", exported, "--json")
    assert answer.code == 0, answer.out + answer.err
    assert answer.json["finding"]["scale"] == pytest.approx(1.0, abs=0.05)


def changed(file: Path, change: Change, architecture: str = "llama") -> Path:
    import gguf

    tensors = {each.name: each.data.copy() for each in gguf.GGUFReader(file).tensors}
    change(tensors)
    write_adapter(Path("other.gguf"), architecture, tensors)
    return Path("other.gguf")


def as_in_peft(tensors: Tensors) -> None:
    """Rows of q and k in the order of transformers."""
    for name, B in tensors.items():
        if name.endswith("lora_b") and (heads := 4 * ("attn_q" in name) or 2 * ("attn_k" in name)):
            tensors[name] = B.reshape(heads, -1, 2, B.shape[1]).swapaxes(1, 2).reshape(B.shape)


def times(**factors: float) -> Change:
    """Other scales of all sites, by their names in GGUF."""

    def change(tensors: Tensors) -> None:
        for name, B in tensors.items():
            if name.endswith("lora_b"):
                B *= factors.get(name.split(".")[2], 1.0)

    return change


def of_site(path: str, change: Callable[[Tensors, str, str], object]) -> Change:
    return lambda tensors: change(tensors, *adapter_names(path))


Q, K = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj"
# The scales are 2 of q, 0.5 of k, and 8 of down, whose rank is 2 instead of 4.
WRONG: dict[str, tuple[Change, str]] = {
    "rows": (as_in_peft, "rows of B of q_proj and k_proj are not in the order of the base of llama.cpp"),
    "alpha": (times(attn_q=1 / 2, attn_k=2, ffn_down=1 / 8), "on 6 of 6 sites: no alpha is read"),
    "NaN": (of_site(Q, lambda tensors, A, B: tensors[B].fill(np.nan)), f"{Q}: the file has NaN or infinite values"),
    "site": (of_site(Q, lambda tensors, A, B: (tensors.pop(A), tensors.pop(B))), f"{Q}: the file has no A and B"),
}


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("name", WRONG)
def test_a_fault_is_named(check: Run, exported: Path, models: Callable[[str], Path], name: str) -> None:
    change, words = WRONG[name]
    answer = check("--file", models("F32"), "--adapter-file", changed(exported, change))
    assert answer.code == 1, answer.out
    assert words in " ".join(answer.out.split())


def test_other_weights_of_the_base_are_named(check: Run, exported: Path, shape: ModelShape, tmp_path: Path) -> None:
    other = base_file(KeptFolders(tmp_path, "gguf"), shape, "F32", merged={Q: 16, "model.layers.1.mlp.up_proj": 16})
    answer = check("--file", other, "--adapter-file", exported)
    assert answer.code == 1, answer.out
    assert "another base: the logits differ by" in answer.out


def test_files_that_do_not_fit_each_have_a_message(
    check: Run, exported: Path, models: Callable[[str], Path], shape: ModelShape
) -> None:
    model = models("F32")
    wide = changed(
        exported,
        lambda tensors: tensors.update(
            {name: np.zeros((4, 65), np.float32) for name in tensors if name.endswith("q.weight.lora_a")}
        ),
    )
    shutil.move(wide, "wide.gguf")
    other = changed(exported, lambda tensors: None, architecture="qwen3")
    Path("broken.gguf").write_bytes(b"GGUF and no more")
    for words, code, message in (
        (("--file", exported.parent), 2, "/out' is no file for llama; name one such as *.gguf"),
        (("--file", "broken.gguf"), 2, "broken.gguf' cannot be read as GGUF"),
        (("--file", model, "--adapter-file", "wide.gguf"), 1, "the file has a linear of 65 x 64, the adapter one of"),
        (("--file", model, "--adapter-file", other), 1, "model arch and LoRA arch mismatch"),
        (("--file", model), 1, "no adapter file was given to the model"),
    ):
        answer = check(*words)
        assert answer.code == code, answer.out + answer.err
        assert message in " ".join((answer.out + answer.err).split())


@pytest.mark.slow
@pytest.mark.demo_model
def test_the_python_of_the_card_generates_text_with_the_file_of_the_demo(run: Run, model_cache: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from adaptare.profiler.models.model_cache import smollm2_file
    from adaptare.search import load_base

    base, _ = load_base(open_model("smollm2-135m", cache=model_cache).weights_folder())
    torch.manual_seed(3)
    peft = get_peft_model(base, LoraConfig(**{**MIXED, "alpha_pattern": {}, "init_lora_weights": False}))
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            weight.data.mul_(0.2)
    peft.save_pretrained("mine")
    answer = run("export", "mine", "--base", "smollm2-135m", "--to", "gguf", "-o", "out", "--cache", model_cache)
    assert answer.code == 0, answer.err
    snippet = Path("out/README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    snippet = "import sys; sys.modules['adaptare'] = None\n" + snippet.replace("MODEL", str(smollm2_file()))
    texts = []
    for source in (snippet, "\n".join(line for line in snippet.splitlines() if "lora_adapters" not in line)):
        command = [sys.executable, "-I", "-"]
        done = subprocess.run(command, input=source, cwd="out", capture_output=True, text=True, check=True)
        texts.append(done.stdout)
    assert all(text.startswith("Once upon a time") and len(text) > 48 for text in texts)
    assert texts[0] != texts[1]


def test_names_of_tensors_are_those_of_their_linears(shape: ModelShape) -> None:
    for site in shape.sites:
        assert [gguf_site(name) for name in adapter_names(site.path)] == [site.path] * 2
    assert gguf_site("output.weight.lora_a") == ""
