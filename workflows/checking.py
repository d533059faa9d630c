"""Check of an adapter in a runtime: is it applied, on every site and at the right scale?"""

from dataclasses import dataclass
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.core.quantisation import check_quantisation
from adaptare.profiler import Quantisation, open_model, read_peft
from adaptare.profiler.workloads import CONFIG, WEIGHTS, peft_settings
from adaptare.search import Origin
from adaptare.search.checking import AdapterRuntime, Finding, finding_by_rule, finding_of_logits
from adaptare.search.export import check_plain, import_peft
from adaptare.search.super_adapter import load_rounded
from adaptare.workflows.adapter_files import base_named_in


@dataclass(frozen=True)
class CheckRequest:
    """Adapter, and the runtime that applies it.

    Args:
        adapter: PEFT folder.
        runtime: See `adapter_runtime`.
        base: Base model; default: the one that the adapter names.
        file: Files of the runtime, a folder or a file in it; default: the adapter.
        adapter_file: Adapter that the model of the runtime is given; default: the one in its folder, if there is one.
        quantisation: Quantisation of the runtime's weights; default: as its export says, else none.
        cache: Folder for converted models; default: the user's cache folder.
    """

    adapter: Path
    runtime: AdapterRuntime
    base: str | None = None
    file: Path | None = None
    adapter_file: Path | None = None
    quantisation: Quantisation | None = None
    cache: Path | None = None


@dataclass(frozen=True)
class CheckResult:
    """Answer of a check.

    Args:
        adapter: PEFT folder.
        runtime: Runtime that was asked.
        file: Files that it loaded.
        quantisation: Expected quantisation of its weights.
        finding: The answer.
    """

    adapter: Path
    runtime: AdapterRuntime
    file: Path
    quantisation: Quantisation
    finding: Finding


def check_adapter(request: CheckRequest, *, feedback: Feedback = SILENT) -> CheckResult:
    """Compares a runtime with PEFT on a few prompts, or its rule with that of PEFT.

    Args:
        request: Adapter and runtime.
        feedback: Receives progress, and a note before each long step.

    Raises:
        InputError: The adapter, its base or the files of the runtime cannot be read.
        MissingPackageError: A package is not installed.
    """
    runtime, adapter = request.runtime, request.adapter
    settings = peft_settings(adapter)
    name = request.base or base_named_in(adapter)
    source = open_model(name, cache=request.cache)
    if runtime.read is None:
        if given := [str(each) for each in (request.file, request.adapter_file, request.quantisation) if each]:
            raise InputError(f"{runtime.name} is checked by its rule and loads no files; leave {given[0]!r} out")
        config = read_peft(adapter if (adapter / WEIGHTS).exists() else adapter / CONFIG, source.shape)
        check_plain(adapter, config)
        return CheckResult(adapter, runtime, adapter, "none", finding_by_rule(runtime, settings, config.by_path))
    if request.file is None and runtime.holds != CONFIG:
        raise InputError(f"name the files that {runtime.name} loads, a folder with {runtime.holds}")
    folder = source.weights_folder().resolve()
    files = runtime.files(request.file or adapter, request.adapter_file, folder)
    quantisation = request.quantisation or str(files.exported.get("quantisation", "none"))
    check_quantisation(quantisation)
    with feedback.progress("checking") as update:
        update(0.0, "loading the base")
        model, tokenizer = load_rounded(folder, quantisation)
        adapted = import_peft(adapter, model, Origin(folder, tokenizer=tokenizer, quantisation=quantisation))
        finding = finding_of_logits(runtime, files, adapted, settings, note=feedback.note, update=update)
    return CheckResult(adapter, runtime, files.folder, quantisation, finding)
