import shlex
from collections.abc import Iterator

from adaptare.core.table import Note, Section
from adaptare.views.search import ONLY, choices
from adaptare.workflows.search.result import SearchResult
from adaptare.workflows.target import spelled


def sections(result: SearchResult) -> Iterator[Section]:
    """The original, the cut, and simpler cuts."""
    (written,), (original, *others) = result.winners, result.baselines
    yield choices(result, (original, written, *others))
    if original.predicted.upper <= result.limit:
        yield Note("the original is predicted to meet this budget as it is; a smaller one would cut more")
    if written.extrapolates:
        yield Note("the result lies outside the profiled range of the predictor; its interval is not valid there")
    if written.test_loss is None:
        yield Note("no loss was computed, the most energy was kept; --data FILE searches by held-out loss instead")
    place = result.place
    device = spelled(place.device, place.quantisation, place.dtype)
    phase = ("-p", "0", "-d") if place.phase == "decode" else ("-d", "-1", "-p")
    words = ["adaptare", "overhead", place.model, str(result.folder), "--device", device, *phase, str(place.length)]
    yield f"written: {result.folder}; {ONLY}; next: {shlex.join(words)}"
