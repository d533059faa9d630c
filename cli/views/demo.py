from collections.abc import Iterator
from functools import singledispatch

from adaptare.core.table import Section, Table
from adaptare.exit_codes import ExitCode
from adaptare.views import overhead, verify
from adaptare.views.fit import error_sections
from adaptare.workflows.demonstration import RANKS, DemoResult
from adaptare.workflows.fit.fitting import FitResult
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.train.training import TrainResult
from adaptare.workflows.verification import met


def exit_code(result: DemoResult) -> ExitCode:
    """Exit code of the verification."""
    return verify.exit_code(result.verification)


@singledispatch
def sections(result: DemoResult | OverheadReport | FitResult | TrainResult) -> Iterator[Section]:
    """The verification, the written files, and what to run next; or the result of one step."""
    raise TypeError(f"the demo has no {type(result).__name__}")


@sections.register
def _(result: DemoResult) -> Iterator[Section]:
    verified = result.verification
    yield from verify.verdicts(verified)
    peft, onnx = ([each for each in result.exports if (each.kind == "peft") == is_peft] for is_peft in (True, False))
    largest = max(each.difference for each in peft)
    yield f"Stock PEFT loads every winner; its logits differ by at most {largest:.0e} from the super-adapter's."
    yield f"Adapters: {', '.join(str(each.folder) for each in peft)}"
    for each in onnx:
        agreement = f"its logits differ by at most {each.difference:.0e} of the largest from torch's"
        yield f"For ONNX Runtime, a model and the adapter that it swaps in: {each.folder}; {agreement}"
    rank = f"{result.model} --rank {RANKS[-1]} --device {result.device}"
    yield f"All of it took {result.elapsed_s / 60:.1f} minutes. What to run next:"
    yield f"  adaptare overhead {rank}        what an adapter costs, in prefill and decode"
    yield f"  adaptare verify {verified.file}        measure the winners once more"
    merged = f"adaptare export {verified.file} --winner {next(iter(met(verified)), 1)} --to merged -o FOLDER"
    yield f"  {merged}        a plain model for transformers"
    yield "  adaptare profile --help        your own model, space and device"


@sections.register
def _(result: OverheadReport) -> Iterator[Section]:
    yield Table(f"An adapter of rank {RANKS[-1]} on all {result.linears} linears", overhead.ROWS, result.rows)


@sections.register
def _(result: FitResult) -> Iterator[Section]:
    yield from error_sections(result)


@sections.register
def _(result: TrainResult) -> Iterator[Section]:
    yield (
        f"Loss on held-out completions: {result.base_loss:.3f} without adapter, {result.full_loss:.3f} with rank "
        f"{RANKS[-1]} everywhere."
    )
