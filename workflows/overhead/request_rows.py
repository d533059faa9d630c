"""Latency of whole requests, composed from measured parts: prefill of the prompt, then decode of each token."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from adaptare.core import InputError
from adaptare.profiler.analysis.intervals import Interval
from adaptare.profiler.analysis.verdict import verdict
from adaptare.workflows.overhead.overhead_rows import Row


@dataclass(frozen=True)
class Request:
    """A prompt and the tokens generated after it, with an adapter and without.

    Requests are not timed as a whole, but composed from the rows of their parts.

    Args:
        batch: Concurrent requests.
        prompt: Tokens of the prompt.
        generated: Tokens decoded after the first one, which is part of the prefill; each attends to all before.
        first_token_s: Prefill of the prompt, seconds.
        token_s: Mean per decoded token, seconds.
        total_s: Total, seconds, with a 95 % interval from `lower_s` to `upper_s`.
        base_s: Total without adapter, seconds.
        tokens_per_s: Throughput: generated tokens of all sequences per second of the total.
        overhead: Ratio of the total to that of the base, minus one, with a 95 % interval.
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
    total_s: float
    lower_s: float
    upper_s: float
    base_s: float
    tokens_per_s: float
    overhead: float
    overhead_lower: float
    overhead_upper: float
    verdict: str
    within_one_opening: bool
    phase: str = "request"
    origin: str = "composed"


def cached_positions(prompts: Sequence[int], generated: int) -> list[int]:
    """Cache lengths at which decode is measured for requests: first and last token of each.

    Raises:
        InputError: Tokens are to be generated without a prompt.
    """
    if generated and not prompts:
        raise InputError("-n generates tokens after a prompt; give it tokens with -p")
    return [past for prompt in prompts for past in (prompt, prompt + generated - 1)] if generated else []


def requests_of(rows: Sequence[Row], *, prompts: Sequence[int], generated: int, band: float) -> list[Request]:
    """One request per prompt, adapter and mode for which every part was measured.

    Decode latency is affine in the cached positions, so the mean over all tokens is that of the first and the last.
    Interval ends are added, as if all errors had the same sign: a conservative bound.
    """
    if not generated:
        return []
    at = {(row.placement, row.rank, row.mode, row.phase, row.length): row for row in rows}
    composed = []
    adapters = dict.fromkeys((row.placement, row.rank, row.mode) for row in rows)
    for prompt, adapter in itertools.product(prompts, adapters):
        places = [("prefill", prompt), *(("decode", past) for past in (prompt, prompt + generated - 1))]
        parts = [at.get((*adapter, *place)) for place in places]
        if all(parts):
            composed.append(_composed([part for part in parts if part], generated, band=band))
    return composed


def _composed(parts: Sequence[Row], generated: int, *, band: float) -> Request:
    """Composes a request from prefill, first and last token."""
    prefill = parts[0]
    times = (1.0, generated / 2, generated / 2)

    def total(values: Sequence[float]) -> float:
        return sum(count * value for count, value in zip(times, values, strict=True))

    base_s, total_s = total([part.base_s for part in parts]), total([part.latency_s for part in parts])
    share = Interval(
        total([part.base_s * part.overhead_lower for part in parts]) / base_s,
        total([part.base_s * part.overhead for part in parts]) / base_s,
        total([part.base_s * part.overhead_upper for part in parts]) / base_s,
    )
    return Request(
        placement=prefill.placement,
        rank=prefill.rank,
        mode=prefill.mode,
        batch=prefill.batch,
        prompt=prefill.length,
        generated=generated,
        first_token_s=prefill.latency_s,
        token_s=(total_s - prefill.latency_s) / generated,
        total_s=total_s,
        lower_s=total([part.lower_s for part in parts]),
        upper_s=total([part.upper_s for part in parts]),
        base_s=base_s,
        tokens_per_s=prefill.batch * generated / total_s,
        overhead=share.middle,
        overhead_lower=share.lower,
        overhead_upper=share.upper,
        verdict=verdict(share, band=band),
        within_one_opening=any(part.within_one_opening for part in parts),
    )
