"""View of `adaptare demo`."""

from collections.abc import Iterator

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Section
from adaptare.views import verify
from adaptare.workflows.demonstration import RANKS, DemoReport
from adaptare.workflows.verification import met


def exit_code(report: DemoReport) -> ExitCode:
    """That of the verification."""
    return verify.exit_code(report.verification)


def sections(report: DemoReport) -> Iterator[Section]:
    """The verification, the written files, and what to run next."""
    yield from verify.verdicts(report.verification)
    largest = max(report.export_differences)
    yield f"Stock PEFT loads every winner; its logits differ by at most {largest:.0e} from the super-adapter's."
    yield f"Adapters: {', '.join(str(folder) for folder in report.exports)}"
    if report.onnx_export:
        folder, difference = report.onnx_export
        agreement = f"its logits differ by at most {difference:.0e} of the largest from torch's"
        yield f"For ONNX Runtime, a model and the adapter that it swaps in: {folder}; {agreement}"
    winner = next(iter(met(report.verification)), 1)
    rank = f"{report.model} --rank {RANKS[-1]} --device {report.device}"
    yield f"All of it took {report.elapsed_s / 60:.1f} minutes. What to run next:"
    yield f"  adaptare overhead {rank}        what an adapter costs, in prefill and decode"
    yield f"  adaptare verify {report.front}        measure the winners once more"
    merged = f"adaptare export {report.front} --winner {winner} --to merged -o FOLDER"
    yield f"  {merged}        a plain model for transformers"
    yield "  adaptare profile --help        your own model, space and device"
