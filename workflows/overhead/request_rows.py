"""Latency of whole requests, composed from measured parts: prefill of the prompt, then decode of each token."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adaptare.profiler.analysis import Interval, verdict
from adaptare.workflows.overhead.overhead_rows import Row


@dataclass(frozen=True)
class ComposedRequest:
    """A prompt and the tokens generated after it, with an adapter and without.

    Requests are not timed as a whole, but composed from the rows of their parts.

    Args:
        batch: Concurrent requests.
        prompt: Tokens of the prompt.
        generated: Tokens decoded after the first one, which is part of the prefill; each attends to all before.
        first_token_s: Prefill of the prompt, seconds.
        token_s: Mean per decoded token, seconds.
        total: Seconds in all.
        base_s: Seconds in all without adapter.
        tokens_per_s: Throughput: generated tokens of all sequences per second of the total.
        over_base: Ratio of the total to that of the base, minus one.
        within_one_opening: True if the interval of a part does not generalise to the next load of its program.
    """

    placement: str
    rank: int
    mode: str
    batch: int
    prompt: int
    generated: int
    first_token_s: float
    token_s: float
    total: Interval
    base_s: float
    tokens_per_s: float
    over_base: Interval
    verdict: str
    within_one_opening: bool
    phase: str = "request"
    origin: str = "composed"


def requests_of(rows: Sequence[Row], *, prompts: Sequence[int], generated: int, band: float) -> list[ComposedRequest]:
    """One request per prompt, adapter and mode for which every part was measured.

    Decode latency is affine in the cached positions, so the mean over all tokens is that of the first and the last.
    Interval ends are added, as if all errors had the same sign: a conservative bound.
    """
    if not generated:
        return []
    at = {(row.placement, row.rank, row.mode, row.phase, row.length): row for row in rows}
    composed = []
    adapters = dict.fromkeys((row.placement, row.rank, row.mode) for row in rows)
    for prompt, adapter in itertools.product(dict.fromkeys(prompts), adapters):
        places = [("prefill", prompt), *(("decode", past) for past in (prompt, prompt + generated - 1))]
        parts = [at.get((*adapter, *place)) for place in places]
        if all(parts):
            composed.append(_composed([part for part in parts if part], generated, band=band))
    return composed


def _composed(parts: Sequence[Row], generated: int, *, band: float) -> ComposedRequest:
    """Composes a request from prefill, first and last token."""
    prefill = parts[0]
    times = (1.0, generated / 2, generated / 2)

    def total(value: Callable[[Row], float]) -> float:
        return sum(count * value(part) for count, part in zip(times, parts, strict=True))

    base_s = total(lambda part: part.base_s)
    whole = Interval(
        total(lambda part: part.latency.lower),
        total(lambda part: part.latency.middle),
        total(lambda part: part.latency.upper),
    )
    share = Interval(
        total(lambda part: part.base_s * part.over_base.lower) / base_s,
        total(lambda part: part.base_s * part.over_base.middle) / base_s,
        total(lambda part: part.base_s * part.over_base.upper) / base_s,
    )
    return ComposedRequest(
        placement=prefill.placement,
        rank=prefill.rank,
        mode=prefill.mode,
        batch=prefill.batch,
        prompt=prefill.length,
        generated=generated,
        first_token_s=prefill.latency_s,
        token_s=(whole.middle - prefill.latency_s) / generated,
        total=whole,
        base_s=base_s,
        tokens_per_s=prefill.batch * generated / whole.middle,
        over_base=share,
        verdict=verdict(share, band=band),
        within_one_opening=any(part.within_one_opening for part in parts),
    )
