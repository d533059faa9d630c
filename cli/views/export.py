from collections.abc import Iterator

from adaptare.core.table import Note, Section
from adaptare.workflows.exporting import ExportResult

# Values that vLLM takes for --max-lora-rank, from its default on.
VLLM_RANKS = (16, 32, 64, 128, 256, 320, 512)


def sections(result: ExportResult) -> Iterator[Section]:
    """Commands that load the files, and notes."""
    kind, folder, ranks = result.kind, result.folder, result.configuration.by_path.values()
    what = f"{result.name} in {folder}" if result.name else f"{folder}"
    yield f"written: {what}; its README.md has Python that loads it and generates text"
    largest = max(ranks, default=0)
    rank = next((size for size in VLLM_RANKS if size >= largest), largest)
    for program, words in (kind.commands or {}).items():
        yield f"for {program}: {words.format(folder=folder, base=result.base, rank=rank)}"
    if kind.pads_ranks and (padded := [rank for rank in ranks if rank < largest]):
        yield Note(
            f"{len(padded)} of {len(ranks)} sites are padded to rank {largest} and cost what that rank costs; "
            "predicted latencies are of the smaller ranks"
        )
    names_base = "base_name" in kind.options
    if kind.name.startswith("peft") and result.base_name is None:
        yield Note(
            "adapter_config.json names no base, because no hub has these weights; load the base yourself, or give "
            "--base-name"
        )
    if result.prepared and names_base:
        yield Note(f"the adapter fits the base that its recipe prepared, and no other: {result.base}")
    if result.open:
        yield "the model takes adapters on every site; sites without one cost a little."
    if result.difference is not None:
        most = f"{result.difference:.1e} of the largest logit"
        yield f"logits differ by at most {most} from those of torch with these weights."
