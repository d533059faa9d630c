"""Reader for PEFT adapter folders: sites, ranks and kind, or the reason an adapter cannot be measured."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.core.strict_json import read_json
from adaptare.core.units import counted
from adaptare.profiler.workloads.configuration import AdapterKind, Configuration
from adaptare.profiler.workloads.shape import ModelShape, Site

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HALF = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
LENGTHS = re.compile(r"base_model\.model\.(.+)\.lora_magnitude_vector(\.weight)?")
MERGE = "merge it with PEFT's merge_and_unload: then it costs what the base costs"
PROMPT = "it makes the prompt longer and changes no linear; measure the base with so many more tokens"
# PEFT's name of an adapter kind -> reason it is not measured, and what to do.
OTHER_KINDS = {
    "ADALORA": f"its matrices have a vector between them, which is one more product in every call; {MERGE}",
    "IA3": f"it scales activations by vectors and has no rank; {MERGE}",
    "LOHA": f"its update is a product of two low-rank ones, element by element, and has no A and B; {MERGE}",
    "LOKR": f"its update is a Kronecker product and has no A and B; {MERGE}",
    "VERA": f"all its linears share one A and B and scale them by vectors, as no LoRA does; {MERGE}",
    "LN_TUNING": f"it changes norms and no linear; {MERGE}",
    "PROMPT_TUNING": PROMPT,
    "MULTITASK_PROMPT_TUNING": PROMPT,
    "P_TUNING": PROMPT,
    "CPT": PROMPT,
    "PREFIX_TUNING": "it makes the cache longer and changes no linear; measure the base with more positions",
}
# LoRA settings that change the computation besides A and B -> reason they are not measured, and what to do.
OTHER_SETTINGS = {
    "modules_to_save": "whole modules were trained beside the adapter; save those into the base model",
    "trainable_token_indices": "embeddings were trained beside the adapter; save those into the base model",
    "target_parameters": "it adapts parameters that belong to no linear, such as those of experts; adapt linears",
    "layer_replication": "it is of a model with repeated layers; save that as a base model of its own",
    "lora_bias": "its B has a bias, which is one more addition in every call; measure a LoRA without it instead",
    "alora_invocation_tokens": "it is applied from certain tokens on only; measure a plain LoRA of its ranks instead",
    "use_qalora": "it pools the activations before A; measure a plain LoRA of its ranks instead",
    "use_bdlora": "its matrices are block-diagonal; measure a plain LoRA of its ranks instead",
    "arrow_config": "it routes every token through several adapters; measure one of them",
    "kasa_config": f"it changes the base's weights and has a diagonal between A and B; {MERGE}",
    "monteclora_config": "it samples its weights; measure a plain LoRA of its ranks instead",
}


def peft_settings(folder: Path) -> dict[str, Any]:
    """Content of `adapter_config.json` in a folder. Raises `InputError`."""
    file = folder / CONFIG
    try:
        settings = read_json(file)
    except OSError as error:
        raise InputError(f"{folder} is no PEFT folder: {CONFIG} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{file} must be one JSON object; save the adapter again with PEFT")
    return settings


def read_peft(path: str | Path, shape: ModelShape) -> Configuration:
    """Configuration of the adapter in a PEFT folder, or in a config file alone.

    Where there are weights, their shapes must be those of the config. For a config without weights, sites and ranks
    follow from `target_modules`, `exclude_modules`, `layers_to_transform` and `rank_pattern`, as PEFT reads them.
    The scale (`lora_alpha`, `alpha_pattern`, and `use_rslora`, which divides by the root of the rank) is one factor
    that does not affect the cost of a call, but it must be finite, and so must the ranks.

    Args:
        path: A folder with `adapter_config.json` and `adapter_model.safetensors`; or the `adapter_config.json` itself,
            which needs no weights.
        shape: Shape of the base model.

    Raises:
        InputError: The adapter is neither LoRA nor DoRA, belongs to another base model, lacks its weights, or has NaN
            or infinity among them.
    """
    config_only = Path(path).name == CONFIG
    file = Path(path) if config_only else Path(path) / CONFIG
    settings = peft_settings(file.parent)
    kind = _kind(settings, file)
    _check_numbers(settings, file)
    weights = file.with_name(WEIGHTS)
    if not config_only and not weights.exists():
        link = f" (it is a link to {str(weights.readlink())!r}, which is not there)" if weights.is_symlink() else ""
        raise InputError(
            f"{file.parent} has no {WEIGHTS}{link}; save it with PEFT's save_pretrained, or name its {CONFIG} to go by "
            "the sites and ranks that are written there"
        )
    written = _written(settings, file, shape)
    if weights.exists():
        ranks = _ranks_of_weights(weights, shape, kind)
        _check_same(ranks, written, file)
        return Configuration.of(ranks, kind=kind)
    ranks = {path: rank for path, rank in written.items() if rank}
    if not ranks:
        raise InputError(f"{file}: its target modules match no linear of the base model; is it of another model?")
    return Configuration.of(ranks, kind=kind).on(shape)


def _written(settings: Mapping[str, Any], file: Path, shape: ModelShape) -> dict[str, int]:
    """Rank of each linear by the config alone, as PEFT reads it; 0 for a linear that is no target."""
    try:
        for pattern in settings.get("alpha_pattern") or {}:
            re.compile(pattern)
        ranks, default = settings.get("rank_pattern"), settings.get("r", 8)
        return {
            each.path: by_pattern(ranks, each.path, default) if _targets(each, settings) else 0 for each in shape.sites
        }
    except (re.error, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: its target_modules or patterns cannot be understood: {error}") from error


def _check_same(weights: Mapping[str, int], written: Mapping[str, int], file: Path) -> None:
    """Raises `InputError` if PEFT would build other ranks or linears from the config than the weights have."""
    if differ := [path for path, rank in written.items() if rank != weights.get(path, 0)]:
        path = differ[0]
        says, has = (f"rank {ranks[path]}" if ranks.get(path) else "no adapter" for ranks in (written, weights))
        raise InputError(
            f"{file} and {WEIGHTS} disagree on {counted(len(differ), 'linear')} (target_modules, r or rank_pattern): "
            f"{path} has {says} by the config and {has} in the weights; save the adapter again with PEFT, so that "
            "others load what is measured"
        )


def _check_numbers(settings: Mapping[str, Any], file: Path) -> None:
    """Raises `InputError` unless scales are finite, and ranks are whole numbers above 0."""
    largest = sys.float_info.max  # NaN compares as False
    rules: list[tuple[str, str, Callable[[Any], bool], str]] = [
        ("lora_alpha", "alpha_pattern", lambda n: isinstance(n, int | float) and abs(n) <= largest, "finite numbers"),
        ("r", "rank_pattern", lambda n: type(n) is int and n >= 1, "whole numbers above 0"),
    ]
    for usual, pattern, is_right, rule in rules:
        own = settings.get(pattern) or {}
        patterns = list(own.values()) if isinstance(own, Mapping) else [own]
        for name, numbers in {usual: [settings.get(usual, 8)], pattern: patterns}.items():
            if wrong := [number for number in numbers if not is_right(number)]:
                raise InputError(f"{file}: {name} must be {rule}, not {wrong[0]!r:.60}; save it anew with PEFT")


def _kind(settings: Mapping[str, Any], file: Path) -> AdapterKind:
    """Raises `InputError`, with the reason, if anything but A and B (and DoRA's row norms) affects the computation."""
    kind = settings.get("peft_type")
    if kind != "LORA":
        reason = OTHER_KINDS.get(str(kind), f"most others cost nothing once they are merged: {MERGE}")
        raise InputError(f"{file}: peft_type is {kind!r}; only LORA (with rsLoRA and DoRA) is measured: {reason}")
    for name, reason in OTHER_SETTINGS.items():
        if settings.get(name):
            raise InputError(f"{file}: {name} is set: {reason}")
    if settings.get("bias") not in (None, "none"):
        reason = "biases of the base were trained beside the adapter; save those into the base model"
        raise InputError(f"{file}: bias is {settings['bias']!r}: {reason}")
    return "dora" if settings.get("use_dora") else "lora"


def _ranks_of_weights(file: Path, shape: ModelShape, kind: AdapterKind) -> dict[str, int]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as tensors:
            sizes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        unusable = not_finite(file)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} cannot be read, it may be incomplete: {error}") from error
    if name := unusable:
        raise InputError(f"{file}: {name!r} has NaN or infinite values; train it again, or save an earlier checkpoint")
    ranks: dict[str, dict[str, int]] = {}
    halves_of = {name: size for name, size in sizes.items() if kind == "lora" or not LENGTHS.fullmatch(name)}
    for name, size in halves_of.items():
        match = HALF.fullmatch(name)
        if not match or len(size) != 2:
            raise InputError(f"{file}: {name!r} belongs to no low-rank adapter of a linear; only those are measured")
        path, half = match.groups()
        site = shape.site_by_path.get(path)
        rank, width = size if half == "A" else reversed(size)
        expected = site and (site.in_features if half == "A" else site.out_features)
        if width != expected:
            of = f"{expected} wide there" if site else "without such a linear"
            raise InputError(
                f"{file} is an adapter of another base model: {name} is {size[0]} x {size[1]}, this one is {of}"
            )
        ranks.setdefault(path, {})[half] = int(rank)
    _check_complete(ranks, sizes, kind, file)
    return {path: halves["A"] for path, halves in ranks.items()}


def _check_complete(
    ranks: Mapping[str, Mapping[str, int]], names: Iterable[str], kind: AdapterKind, file: Path
) -> None:
    incomplete = [path for path, halves in ranks.items() if len(halves) < 2 or len(set(halves.values())) > 1]
    if incomplete or not ranks:
        raise InputError(
            f"{file} is incomplete: {(incomplete or ['every linear'])[0]} lacks an A and a B of equal rank"
        )
    lengths = {match.group(1) for name in names if (match := LENGTHS.fullmatch(name))}
    if kind == "dora" and lengths != set(ranks):
        raise InputError(f"{file} is incomplete: {min(lengths ^ set(ranks))} lacks a part of its DoRA")


def _targets(site: Site, settings: Mapping[str, Any]) -> bool:
    excluded, targets = settings.get("exclude_modules"), settings.get("target_modules")
    if (excluded and _names(site, excluded)) or not _names(site, targets):
        return False
    layers = settings.get("layers_to_transform")
    # PEFT checks the layer index only for suffix matches, not for a regular expression or a complete path.
    if layers in (None, []) or isinstance(targets, str) or site.path in (targets or ()):
        return True
    return site.layer in ([layers] if isinstance(layers, int) else layers)


def _names(site: Site, modules: Any) -> bool:
    if isinstance(modules, str):
        return modules.lower() == "all-linear" or re.fullmatch(modules, site.path) is not None
    return any(site.path == module or site.path.endswith(f".{module}") for module in modules or ())


def by_pattern(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """Value of the first pattern that PEFT matches with a module path."""
    matches = (value for pattern, value in (patterns or {}).items() if re.match(rf"(.*\.)?({pattern})$", path))
    return next(matches, default)


def peft_arguments(config: Configuration, scales: Mapping[str, float]) -> dict[str, Json]:
    """Keyword arguments of a `peft.LoraConfig` with exactly these sites, ranks and scales, of the same kind.

    PEFT scales an adapter by alpha / rank, so alpha is written as scale x rank for every site; `rank_pattern` and
    `alpha_pattern` hold deviations from the most common value. Their keys are complete module paths, with dots escaped
    because PEFT matches them as regular expressions. `scales` are the factors on B A x by module path. Raises
    `InputError` without any site, which PEFT cannot express.
    """
    if not config.ranks:
        raise InputError("an adapter without any site cannot be written for PEFT; the base model is the result")
    alphas = {path: _plain(scales[path] * rank) for path, rank in config.ranks}
    rank = Counter(config.by_path.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": [path for path, _ in config.ranks],
        "rank_pattern": {re.escape(path): own for path, own in config.ranks if own != rank},
        "alpha_pattern": {re.escape(path): own for path, own in alphas.items() if own != alpha},
        **({"use_dora": True} if config.kind == "dora" else {}),
    }


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


# Format -> unsigned integer of the same width, and the bits that are all set in NaN and infinity alone: the exponent,
# and in F8_E4M3, which has no infinity, the mantissa too.
FORMATS = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
    "F8_E5M2": (np.uint8, 0x7C),
    "F8_E4M3": (np.uint8, 0x7F),
}
PREFIX_BYTES = 8


def not_finite(file: str | Path) -> str | None:
    """Name of the first tensor of a safetensors file with a value that is NaN or infinite; `None` if there is none."""
    with open(file, "rb") as content:
        header_bytes = int.from_bytes(content.read(PREFIX_BYTES), "little")
        tensors = json.loads(content.read(header_bytes))
    tensors.pop("__metadata__", None)
    if Path(file).stat().st_size == PREFIX_BYTES + header_bytes:  # no values, and nothing to map into memory
        return None
    data = np.memmap(file, dtype=np.uint8, mode="r", offset=PREFIX_BYTES + header_bytes)
    for name, tensor in tensors.items():
        if tensor["dtype"] in FORMATS:
            unsigned, bits = FORMATS[tensor["dtype"]]
            values = data[slice(*tensor["data_offsets"])].view(unsigned)
            if np.any(values & unsigned(bits) == bits):
                return str(name)
    return None
