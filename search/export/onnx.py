"""Models for ONNX Runtime with an adapter in their weights, as constants, or to be swapped; and adapters to swap in."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.lazy_names import check_installed
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.profiler import Workload, open_model, programs
from adaptare.profiler.programs import (
    GENAI,
    NEEDED,
    OnnxBase,
    OnnxBases,
    adapter_inputs,
    adapter_inputs_of,
    as_inputs,
    check_base,
    rounds,
    write_onnx_adapter,
)
from adaptare.profiler.workloads import Halves, SubAdapter, with_kept_layers
from adaptare.search import super_adapter
from adaptare.search.export.check import Expectation, ExportReader
from adaptare.search.export.kinds import Adapted, ExportKind, ExportOptions
from adaptare.search.export.merged import before_rounding, save_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Bits of the codes that adapters are trained on.
CODES = 4
MODEL_FILE, ADAPTER_FILE = "model.onnx", "adapter.onnx_adapter"
BESIDE = ("config.json", "generation_config.json")
# Of logits, relative to the largest, where activations are not rounded.
TOLERANCE = 1e-3
# From here on the weights are those of another model, however a folder rounds them.
OTHER_BASE = 0.5

# Both compute the last tokens of a prefill, and a decode step with its cache. They run without adaptare: only with
# packages that any user of ONNX Runtime has.
ONNX_RUNTIME: Final = ExportReader(
    "ONNX Runtime",
    """
import json, sys
import numpy, onnxruntime

request = json.load(sys.stdin)
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
if not request["rounded"]:
    options.add_session_config_entry("session.disable_prepacking", "1")
session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
past = {port.name: port.shape for port in session.get_inputs() if port.name.startswith("past_key_values.")}
logits = []
run_options = onnxruntime.RunOptions()
if request["adapter"]:
    adapter = onnxruntime.LoraAdapter()
    adapter.Load(request["adapter"])
    run_options.add_active_adapter(adapter)
cache = {name: numpy.zeros((1, heads, 0, width), numpy.float32) for name, (_, heads, _, width) in past.items()}
seen = 0
for tokens in (request["tokens"][:-1], request["tokens"][-1:]):
    seen += len(tokens)
    inputs = {"input_ids": numpy.array([tokens]), "attention_mask": numpy.ones((1, seen), numpy.int64), **cache}
    found, *present = session.run(None, inputs, run_options)
    cache = dict(zip(cache, present, strict=True))
    logits.append(found.ravel().tolist())
print(json.dumps(logits))
""",
    MODEL_FILE,
)
GENAI_RUNTIME: Final = ExportReader(
    "onnxruntime-genai",
    """
import json, sys
import onnxruntime_genai as og

request = json.load(sys.stdin)
config = og.Config(request["model"])
if not request["rounded"]:
    entry = {"session.disable_prepacking": "1"}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": entry}}}))
model = og.Model(config)
params = og.GeneratorParams(model)
params.set_search_options(max_length=len(request["tokens"]) + 1)
generator = og.Generator(model, params)
if request["adapter"]:
    adapters = og.Adapters(model)
    adapters.load(request["adapter"], "adapter")
    generator.set_active_adapter(adapters, "adapter")
logits = []
for tokens in (request["tokens"][:-1], request["tokens"][-1:]):
    generator.append_tokens(tokens)
    logits.append(generator.get_logits().ravel().tolist())
print(json.dumps(logits))
""",
)


def _write_merged(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    """Merges in floating point and then quantises, or writes the codes of an adapter that was trained on the grid."""
    adapted = super_adapter.original(adapted, "none")
    super_adapter.check_still_sparse(adapted)
    quantisation = options.quantisation
    if _keeps_codes(adapted, options):
        graph = _base(adapted, options)
        names, codes = programs.code_names(graph), super_adapter.int4_codes(adapted)
        weights = {names[path]: programs.pack_int4(each.cpu().numpy()) for path, each in codes.items()}
        quantisation = "none"
    else:
        graph = _base(adapted, replace(options, quantisation="none"))
        merged = super_adapter.merged_weights(adapted)
        weights = {graph.sites[path].weight: weight.T.float().cpu().numpy() for path, weight in merged.items()}
    plain = SubAdapter(adapted.configuration, {}, graph)
    programs.write_model(plain, folder, application="merged", weights=weights, quantisation=quantisation)
    _write_beside(adapted, graph, folder)


def _keeps_codes(adapted: Adapted, options: ExportOptions) -> bool:
    """True if the adapter was trained on the grid of the codes that are written."""
    return adapted.base.layer.on_grid and QUANTISATIONS[options.quantisation].bits == CODES


def _write_swappable(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    _write_adapter(adapted, folder, options)
    every = adapted.configuration.sites(adapted.base.shape) if options.every_site else ()
    nothing = {site.path: Halves.zero(site.in_features, site.out_features) for site in every}
    _write_apart(replace(adapted, halves={**nothing, **adapted.halves}), folder, options, application="optional")


def _write_apart(
    adapted: Adapted, folder: Path, options: ExportOptions, *, application: Literal["static", "optional"]
) -> None:
    super_adapter.check_apart(adapted)
    graph = SubAdapter(adapted.configuration, adapted.halves, _base(adapted, options))
    programs.write_model(graph, folder, application=application)
    _write_beside(adapted, graph.base, folder)


def _write_adapter(adapted: Adapted, folder: Path, options: ExportOptions) -> None:
    """Writes the adapter alone, for a swappable model with these widths and at least these sites."""
    if not adapted.halves:
        raise InputError("an adapter without any site cannot be swapped; export a config with at least one")
    super_adapter.check_apart(adapted)
    if options.adapter_of is not None:
        kept = adapted.configuration.kept(adapted.base.shape.layers)
        check_base(options.adapter_of, adapted.base.shape, layers=len(kept))
        inputs = adapter_inputs_of(options.adapter_of)
        write_onnx_adapter(as_inputs(adapted.halves, inputs, str(options.adapter_of)), folder / ADAPTER_FILE)
        return
    rows = {path: own.of_rows for path, own in adapted.halves.items()}
    named = {name: half for path, pair in rows.items() for name, half in zip(adapter_inputs(path), pair, strict=True)}
    write_onnx_adapter(named, folder / ADAPTER_FILE)


def _base(adapted: Adapted, options: ExportOptions) -> OnnxBase:
    """The base without adapter as ONNX, at the widths and depth of the configuration, from the cache or exported."""
    stored, quantisation = open_model(str(_source(adapted))), options.quantisation
    bases = OnnxBases(options.cache, weights=stored)
    workload = Workload(stored.shape, adapted.configuration.without_adapter, quantisation=quantisation)
    if not bases.folder(workload).is_dir():
        form = "ONNX" if quantisation == "none" else f"ONNX with {quantisation} weights"
        options.note(f"exporting the base to {form}; it is kept for the next time (135M weights take about 20 seconds)")
    return bases.base(workload)


def _source(adapted: Adapted) -> Path:
    """Folder of the base's original weights: those in memory may be rounded."""
    if adapted.base.origin.folder is None:
        raise InputError("a model for ONNX Runtime is made of the original weights; give the folder of the base model")
    return adapted.base.origin.folder


def _write_beside(adapted: Adapted, graph: OnnxBase, folder: Path) -> None:
    """Copies the configs of the base and of onnxruntime-genai, with the layers that are left; saves the tokenizer."""
    config, source = adapted.configuration, _source(adapted)
    settings = json.loads((graph.folder / GENAI).read_text(encoding="utf-8"))
    settings["model"]["decoder"]["num_hidden_layers"] = len(config.kept(adapted.base.shape.layers))
    (folder / GENAI).write_text(json.dumps(settings, indent=4), encoding="utf-8")
    for name in BESIDE:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    if config.left_out:
        whole = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        fewer = with_kept_layers(whole, config.kept(adapted.base.shape.layers))
        (folder / "config.json").write_text(json.dumps(fewer, indent=2), encoding="utf-8")
    save_tokenizer(adapted, folder)


def _merged_first(adapted: Adapted, options: ExportOptions) -> list[Expectation]:
    if _keeps_codes(adapted, options):
        return _rounded_first([""], ONNX_RUNTIME, adapted, options)
    model = super_adapter.dense(super_adapter.original(adapted, "none"))
    super_adapter.round_base(model, options.quantisation)
    return _expected(ONNX_RUNTIME, model, "", options)


def _rounded_first(
    adapters: Sequence[str], library: ExportReader, adapted: Adapted, options: ExportOptions
) -> list[Expectation]:
    """Logits with the first adapter file or the constants, and with the second one, which is none: the base alone."""
    adapted = super_adapter.original(adapted, options.quantisation)
    both = zip(adapters, (adapted, adapted.without_adapter), strict=False)
    every = (_expected(library, super_adapter.dense(each), adapter, options) for adapter, each in both)
    return [each for of_adapter in every for each in of_adapter]


def _of_folder(adapted: Adapted, options: ExportOptions) -> list[Expectation]:
    """Logits of the adapter in the folder that it is written for; of rounded weights they are only near to torch's."""
    folder = options.adapter_of
    if folder is None:
        return []

    def reader(written: Path, tokens: Sequence[int]) -> NDArray[np.float32]:
        return GENAI_RUNTIME(folder, tokens, adapter=str((written / ADAPTER_FILE).absolute()))

    model, tolerance = super_adapter.dense(before_rounding(adapted)), OTHER_BASE if rounds(folder) else TOLERANCE
    return [Expectation(GENAI_RUNTIME.name, reader, model, tolerance)]


def _expected(
    library: ExportReader, model: "PreTrainedModel", adapter: str, options: ExportOptions
) -> list[Expectation]:
    """Logits as a library reads them: torch's without rounded activations, and near to them with these."""
    reader = partial(library, adapter=adapter)
    if not QUANTISATIONS[options.quantisation].rounds_activations:
        return [Expectation(library.name, reader, model, TOLERANCE)]
    return [
        Expectation(library.name, partial(reader, rounded=False), model, TOLERANCE),
        Expectation(library.name, reader, model, OTHER_BASE),
    ]


_GREEDY = """
import numpy as np, onnxruntime, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
session = onnxruntime.InferenceSession("model.onnx")
cache = {x.name: np.zeros((1, x.shape[1], 0, x.shape[3]), "float32") for x in session.get_inputs() if "past" in x.name}
tokens, seen = tokenizer.encode("Once upon a time").ids, 0
for _ in range(32):
    inputs = {"input_ids": np.array([tokens[seen:]]), "attention_mask": np.ones((1, len(tokens)), "int64")}
    logits, *present = session.run(None, inputs | cache)
    cache, seen, tokens = dict(zip(cache, present)), len(tokens), [*tokens, int(logits.argmax())]
print(tokenizer.decode(tokens))
"""
_SWAPPED = _GREEDY.replace(
    "session =",
    """adapter, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
adapter.Load("adapter.onnx_adapter"), options.add_active_adapter(adapter)
session =""",
    1,
).replace("inputs | cache", "inputs | cache, options")
_GENERATOR = """
import onnxruntime_genai as og
model = og.Model(".")
adapters, parameters, tokenizer = og.Adapters(model), og.GeneratorParams(model), og.Tokenizer(model)
adapters.load("adapter.onnx_adapter", "mine")
parameters.set_search_options(max_length=64, do_sample=False)
generator = og.Generator(model, parameters)
generator.set_active_adapter(adapters, "mine")
generator.append_tokens(tokenizer.encode("Once upon a time"))
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)))
"""
_ADVICE: Final = "try another version of onnxruntime, or an export that is not quantised"
ONNX: Final = ExportKind(
    "onnx",
    "model for ONNX Runtime, with the adapter in its weights",
    _GREEDY,
    _write_merged,
    _merged_first,
    options=("quantisation",),
    check_installed=partial(check_installed, *NEEDED),
    advice=_ADVICE,
)
STATIC: Final = replace(
    ONNX,
    name="onnx-static",
    summary="model for ONNX Runtime, with the adapter as constants",
    write=partial(_write_apart, application="static"),
    expectations=partial(_rounded_first, [""], ONNX_RUNTIME),
)
SWAPPABLE: Final = replace(
    ONNX,
    name="onnx-swappable",
    summary="model for ONNX Runtime that takes adapters at run time, and the adapter in a file",
    snippet=_SWAPPED,
    write=_write_swappable,
    expectations=partial(_rounded_first, [ADAPTER_FILE, ""], ONNX_RUNTIME),
    options=("quantisation", "every_site"),
)
GENAI_FOLDER: Final = replace(
    SWAPPABLE,
    name="genai",
    summary="model for onnxruntime-genai that takes adapters at run time, and the adapter in a file",
    snippet=_GENERATOR,
    expectations=partial(_rounded_first, [ADAPTER_FILE, ""], GENAI_RUNTIME),
)
ADAPTER: Final = ExportKind(
    "onnx-adapter",
    "adapter file for an onnx-swappable model, or for a folder of onnxruntime-genai that takes adapters",
    _GENERATOR.replace('"."', '"MODEL"', 1),
    _write_adapter,
    _of_folder,
    options=("base_name", "adapter_of"),
    check_installed=partial(check_installed, *NEEDED),
    advice="the folder may be of another base: name the one that it was built of",
)
