"""Finds the way of applying an adapter that reproduces a runtime's logits."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import nan
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from adaptare.core import DeviceError
from adaptare.core.progress import Update
from adaptare.core.quantisation import QUANTISATIONS
from adaptare.core.units import counted
from adaptare.profiler.workloads import SubAdapter
from adaptare.search.checking.finding import Finding, SiteFinding, Verdict
from adaptare.search.checking.hypotheses import (
    Hypothesis,
    Updates,
    by_rules,
    omissions,
    scaled,
    with_factors,
    with_other_rows,
    without,
)
from adaptare.search.checking.runtimes import AdapterRuntime, LoadedFiles, faults
from adaptare.search.export.onnx import OTHER_BASE
from adaptare.search.super_adapter.base_model import Base, original, round_base
from adaptare.search.super_adapter.merging import dense

TOKENS: Final = 25
# Share of the adapter's effect: below the first one nothing else is tried, above the second one rounding hides it.
CLEAN, HIDDEN = 1e-3, 0.5
# Below this share, rounding and factors of single sites cannot be told apart.
ROUNDING: Final = 0.2
# Another explanation must leave less than this share of what the right one leaves.
BETTER: Final = 1 / 3
REASON: Final = "searching for the reason"
UNIFORM: Final = tuple(2.0**exponent for exponent in range(-5, 6) if exponent)
STEPS, MOST_SITES, ZERO = 6, 6, 0.02
# Shares of a check that are done after loading the base, after the runtime's logits and after those of PEFT; then
# after trying what is known to go wrong, and after leaving each site out.
LOADED, RUN, COMPARED, KNOWN, LEFT_OUT = 0.2, 0.5, 0.6, 0.8, 0.9
Logits = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Logits by torch of a base with any updates.

    Args:
        model: The base.
        prompts: Token ids, all of one length.
        last: Number of last tokens whose logits are computed.
    """

    model: PreTrainedModel
    prompts: Sequence[Sequence[int]]
    last: int

    def logits(self, halves: Updates) -> Logits:
        """Shape (prompts * last, vocabulary)."""
        with ExitStack() as hooks, torch.inference_mode():
            for path, own in halves.items():
                hooks.enter_context(self.model.get_submodule(path).register_forward_hook(_adding(own)))
            found = self.model(torch.tensor(self.prompts)).logits[:, -self.last :].double().numpy()
        return np.asarray(found.reshape(-1, found.shape[-1]), dtype=np.float64)


def _adding(own: Any) -> Callable[[Any, Any, torch.Tensor], torch.Tensor]:
    A, B = (torch.from_numpy(half) for half in own.of_rows)
    return lambda module, arguments, output: output + arguments[0] @ A @ B


@dataclass(frozen=True)
class LogitComparison:
    """Logits of a runtime, and those that torch computes with and without the adapter.

    Args:
        found: Of the runtime.
        halves: The adapter.
        reference: Computes others.
        right: With the adapter.
        nothing: Without it.
        tolerance: Largest difference over the largest logit.
    """

    found: Logits
    halves: Updates
    reference: Reference
    right: Logits
    nothing: Logits
    tolerance: float

    def misfit(self, logits: Logits) -> float:
        """Difference from the runtime over the effect of the adapter, root mean square."""
        return float(np.linalg.norm(self.found - logits) / np.linalg.norm(self.right - self.nothing))

    def difference(self, logits: Logits) -> float:
        """Largest difference from the runtime over the largest logit of the adapter if that exceeds 1."""
        return float(np.abs(self.found - logits).max() / max(1.0, np.abs(self.right).max()))

    @property
    def scale(self) -> float:
        """Regression of the runtime's change on that of the adapter."""
        effect = self.right - self.nothing
        return float(((self.found - self.nothing) * effect).sum() / (effect * effect).sum())

    def explained(self, hypotheses: Iterable[Hypothesis]) -> tuple[Hypothesis, Logits] | None:
        """The best of some hypotheses if it reproduces the logits better than the right application."""
        tried = [(each, self.reference.logits(each.halves)) for each in hypotheses]
        best = min(tried, key=lambda each: round(self.misfit(each[1]), 4), default=None)  # the first one of equal ones
        if best is None or self.difference(best[1]) > self.tolerance:
            return None
        return best if self.misfit(best[1]) < BETTER * self.misfit(self.right) else None

    def refined(self, groups: Sequence[Sequence[str]], start: Sequence[float]) -> list[float]:
        """Factors of groups of sites by the method of Gauss and Newton."""
        factors = np.array(start)
        tried = []
        for _ in range(STEPS):
            here = self._at(groups, factors)
            tried.append((float(np.linalg.norm(self.found - here)), factors))
            steps = 1e-2 * np.eye(len(groups))
            columns = [((self._at(groups, factors + step) - here) / 1e-2).ravel() for step in steps]
            change = np.linalg.lstsq(np.stack(columns, axis=1), (self.found - here).ravel(), rcond=None)[0]
            factors = factors + change
        return [float(factor) for factor in min(tried, key=lambda each: each[0])[1]]

    def _at(self, groups: Sequence[Sequence[str]], factors: NDArray[np.float64]) -> Logits:
        by_path = {path: float(factor) for group, factor in zip(groups, factors, strict=True) for path in group}
        return self.reference.logits(scaled(self.halves, by_path))

    def uniform(self) -> Iterator[Hypothesis]:
        """One factor on all sites, from the best of some powers of two."""
        paths = list(self.halves)
        start = min(UNIFORM, key=lambda factor: self.misfit(self._at([paths], np.array([factor]))))
        (factor,) = self.refined([paths], [start])
        yield with_factors(self.halves, dict.fromkeys(paths, factor), "the scale is another one")

    def by_sites(self, update: Update) -> Iterator[Hypothesis]:
        """Factors on few sites, each added where it explains most of what remains."""
        effects: dict[str, Logits] = {}
        for number, path in enumerate(self.halves):
            done = number / len(self.halves)
            update(KNOWN + (LEFT_OUT - KNOWN) * done, f"{REASON}: site {number + 1} of {len(self.halves)}")
            effect = self.right - self.reference.logits(without(self.halves, [path]).halves)
            if effect.any():
                effects[path] = effect
        chosen: list[str] = []
        rest, factors = self.found - self.right, [1.0]
        while effects and len(chosen) < MOST_SITES:
            done = len(chosen) / MOST_SITES
            update(LEFT_OUT + (1 - LEFT_OUT) * done, f"{REASON}: fitting {counted(len(chosen) + 1, 'site')}")
            path = max(effects, key=lambda path: abs((rest * effects[path]).sum()) / np.linalg.norm(effects[path]))
            effect = effects.pop(path)
            guess = 1 + float((rest * effect).sum() / (effect * effect).sum())
            factors = self.refined([[each] for each in [*chosen, path]], [*factors[: len(chosen)], guess])
            chosen.append(path)
            changed = {each: 0.0 if abs(one) < ZERO else one for each, one in zip(chosen, factors, strict=True)}
            found = with_factors(self.halves, {**dict.fromkeys(self.halves, 1.0), **changed})
            rest = self.found - self.reference.logits(found.halves)
            yield found
            if np.linalg.norm(rest) <= CLEAN * np.linalg.norm(self.right - self.nothing):
                return


def finding_of_logits(
    runtime: AdapterRuntime,
    files: LoadedFiles,
    adapted: SubAdapter[Base],
    settings: Mapping[str, Any],
    *,
    note: Callable[[str], None] = lambda text: None,
    update: Update = lambda share, text: None,
) -> Finding:
    """Compares a runtime with PEFT's computation in torch, and finds which other one reproduces it.

    Args:
        runtime: Has `read`.
        files: Given to the runtime.
        adapted: The adapter on its base, rounded as that of the runtime.
        settings: Content of its `adapter_config.json`.
        note: Called with a message before each long step.
        update: Called with the share of a check that is done, loading the base included, and its present step.
    """
    halves = adapted.halves
    notes: dict[str, str] = {}
    vocabulary = adapted.base.model.config.vocab_size
    # More prompts average the rounding.
    rounded = adapted.base.origin.quantisation == "none" and runtime.rounds(files.folder)
    seeds = range(2 if rounded else 1)
    prompts = [np.random.default_rng(seed).integers(0, vocabulary, TOKENS).tolist() for seed in seeds]

    def answer(verdict: Verdict, reason: str, factors: Mapping[str, float] | float = nan, **numbers: float) -> Finding:
        by_path = dict.fromkeys(halves, factors) if isinstance(factors, float) else factors
        sites = [
            SiteFinding(path, own.rank, own.scale, by_path[path], notes.get(path, "")) for path, own in halves.items()
        ]
        return Finding(verdict, reason, tuple(sites), **numbers)

    if not any(own.A.any() and own.B.any() and own.scale for own in halves.values()):
        return answer("not applied", "A, B or the scale of the adapter itself is zero on every site", 0.0)
    try:
        if runtime.tensors and (files.adapter or not runtime.swaps):
            notes = faults(runtime.tensors(files), halves)
        update(LOADED, f"{runtime.name} computes logits")
        found = _read(runtime, files, prompts)
        alone = _read(runtime, replace(files, adapter=None), prompts) if files.adapter else None
    except DeviceError as error:
        return answer("not loaded", ": ".join([*_first(notes), str(error)]))
    told = "".join(_first(notes))
    if found.shape[-1] != vocabulary:
        return answer("another base", f"it has {found.shape[-1]} logits, and the base {vocabulary}")
    update(RUN, "computing those of PEFT")
    reference = Reference(adapted.base.model, prompts, len(found) // len(prompts))
    nothing, right = reference.logits({}), reference.logits(halves)
    if not np.isfinite(right).all():
        return answer("uncertain", "the logits of PEFT itself are NaN or infinite")
    if not np.isfinite(found).all():
        return answer("applied wrongly", told or "the logits are NaN or infinite")
    if (right == nothing).all():
        return answer("uncertain", "the adapter changes no logit of its base, so nothing shows whether it is applied")
    quantisation = adapted.base.origin.quantisation
    tolerance = OTHER_BASE if rounded else runtime.tolerance
    if files.exported.get("kind") == "onnx" and quantisation != "none":
        # Hypotheses round the base alone; the difference of the two ways to round is a constant, to first order.
        found = found - (replace(reference, model=_requantised(adapted)).logits({}) - right)
    if alone is not None:
        own = LogitComparison(alone, halves, reference, right, nothing, tolerance)
        if own.difference(nothing) > tolerance:
            return answer("another base", _other_base(own, adapted, {}), difference=own.difference(nothing))
        found = found - alone + nothing
    compared = LogitComparison(found, halves, reference, right, nothing, tolerance)
    numbers = {"scale": compared.scale, "difference": compared.difference(right), "resolution": compared.misfit(right)}
    if compared.misfit(right) > CLEAN:
        note(f"the logits are not exactly those of PEFT; {REASON}, which takes minutes for many sites")
    if compared.misfit(right) > CLEAN and (best := _explanation(compared, adapted, settings, update)):
        all_off = not any(best.factors.values())
        missing = "no adapter file was given to the model" if all_off and runtime.swaps and not files.adapter else ""
        reason = told or "; ".join(filter(None, (best.reason, missing)))
        return answer("not applied" if all_off else "applied wrongly", reason, best.factors, **numbers)
    if compared.difference(right) > tolerance:
        return answer("another base", _other_base(compared, adapted, halves), **numbers)
    hidden = compared.misfit(right) > HIDDEN
    reason = "rounding of the runtime changes the logits more than half as much as the adapter does" if hidden else ""
    return answer("uncertain" if hidden else "applied", reason, nan if hidden else 1.0, **numbers)


def _first(notes: Mapping[str, str]) -> list[str]:
    return [f"{path}: {words}" for path, words in notes.items()][:1]


def _read(runtime: AdapterRuntime, files: LoadedFiles, prompts: Sequence[Sequence[int]]) -> Logits:
    if runtime.read is None:
        raise ValueError(f"{runtime.name} is known by its rule only and cannot be run; pass a runtime with `read`")
    return np.concatenate([runtime.read(files, tokens) for tokens in prompts]).astype(np.float64)


def _explanation(
    compared: LogitComparison, adapted: SubAdapter[Base], settings: Mapping[str, Any], update: Update
) -> Hypothesis | None:
    halves = compared.halves
    known = [*omissions(halves), *by_rules(settings, halves), *with_other_rows(halves, adapted.base.shape)]

    def tried() -> Iterator[Hypothesis]:
        for number, each in enumerate(known):
            done = number / len(known)
            update(COMPARED + (KNOWN - COMPARED) * done, f"{REASON}: {number + 1} of {len(known)} known ones")
            yield each
        yield from compared.uniform()

    best = compared.explained(tried())
    if best is None and compared.misfit(compared.right) > (ROUNDING if compared.tolerance >= OTHER_BASE else CLEAN):
        best = compared.explained(compared.by_sites(update))
    return best and best[0]


def _other_base(compared: LogitComparison, adapted: SubAdapter[Base], halves: Updates) -> str:
    """Words for the base whose logits with some updates are nearest: one of other rounding, or an unknown one."""
    quantisation = adapted.base.origin.quantisation
    misfits = {}
    distinct = {QUANTISATIONS[name].bits: name for name in (*reversed(list(QUANTISATIONS)), quantisation)}
    for name in distinct.values() if adapted.base.origin.folder else ():
        logits = replace(compared.reference, model=original(adapted, name).base.model).logits(halves)
        if compared.difference(logits) <= compared.tolerance:
            misfits[name] = compared.misfit(logits)
    best = min(misfits, key=lambda name: misfits[name], default=quantisation)
    if best != quantisation:
        words = (
            "weights that are not quantised" if name == "none" else f"{name} weights" for name in (best, quantisation)
        )
        return f"it has {next(words)}, and {next(words)} are expected"
    return (
        f"the logits differ by {compared.difference(compared.nothing):.2g} of the largest from those of the base, and "
        "no application of this adapter explains that"
    )


def _requantised(adapted: SubAdapter[Base]) -> PreTrainedModel:
    """Model with the adapter merged in floating point and then rounded."""
    model = dense(original(adapted, "none"))
    round_base(model, adapted.base.origin.quantisation)
    return model
