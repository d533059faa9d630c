"""Selection of the measurements of a store to which a predictor is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adaptare.core import AdaptareError, InputError
from adaptare.core.progress import Feedback
from adaptare.devices import DeviceInfo, connect
from adaptare.predictor import LatencyPredictor, at_length
from adaptare.profiler import Configuration, Measurement, ModelShape, Store, Workload
from adaptare.profiler.analysis import too_few
from adaptare.profiler.store import LATENCY, P90
from adaptare.workflows.comparison import named, of_device
from adaptare.workflows.reading import read_store
from adaptare.workflows.target import Target, target_of

# Half width of a row's interval, over its latency: equal to the cost of adapters on all linears at usual ranks.
NOISY = 0.1


@dataclass(frozen=True)
class RowFilter:
    """User's filter on the workloads; None = any value, if all rows of the store agree in it.

    Args:
        phase: Prefill or decode.
        mode: Application mode of the adapters.
        lengths: Numbers of tokens or cached positions; empty = any.
        open: True for graphs in which every site (linear that may carry an adapter) takes one.
        model: Base model.
    """

    phase: str | None = None
    mode: str | None = None
    lengths: tuple[int, ...] = ()
    open: bool | None = None
    batch: int | None = None
    model: ModelShape | None = None

    def matches(self, workload: Workload) -> bool:
        """True if the workload passes the filter."""
        graph = None if self.open is None else "open" if self.open else "cut"
        values = {"phase": self.phase, "mode": self.mode, "graph": graph, "batch": self.batch}
        same = all(value in (None, getattr(workload, name)) for name, value in values.items())
        of_length = not self.lengths or workload.length in self.lengths
        return same and of_length and (self.model is None or self.model.sizes == workload.shape.sizes)

    def describe(self) -> str:
        """Text for messages, to follow the word `measurements`."""
        words = [f" in {self.phase}"] * (self.phase is not None) + [f" in mode {self.mode}"] * (self.mode is not None)
        words += [f" of length {' or '.join(map(str, self.lengths))}"] * bool(self.lengths)
        words += [" with every site open" if self.open else " of cut graphs"] * (self.open is not None)
        words += [f" of batch {self.batch}"] * (self.batch is not None)
        return "".join([*words, *([f" of a {self.model.describe()}"] if self.model else [])])


def rows_to_fit(
    place: str, device: str | None, wanted: RowFilter, feedback: Feedback, *, quantity: str = LATENCY
) -> list[Measurement]:
    """Complete measurements of LoRA on one device, of one base, phase and mode, at one or several lengths.

    A length that the user did not name counts if enough adapters for a predictor were measured there, or at no length.

    Args:
        place: The store.
        device: As on the command line: the reachable device in its current state, if measured; else the one stored
            under this spelling or hash. `None`: the only device of the store, with any weights.
        wanted: Filter on the workloads.
        feedback: Receives progress, and a note if the rows are not of the device in its current state.
        quantity: Quantity that was measured in these rows.

    Raises:
        InputError: There are none, or they are of several kinds.
    """
    target = target_of(device) if device else None
    store = Store(place, create=False)
    stored, place = read_store(store, feedback), store.location
    spellings = {row.device.device for row in stored}
    spelling = str(target.place) if target else next(iter(spellings)) if len(spellings) == 1 else None
    info, why = _connected(spelling) if spelling else (None, "")
    measured = [row for row in stored if row.device == info]
    if not measured:
        try:
            measured = of_device(stored, spelling, place)
        except InputError as error:
            raise InputError(f"{error}{why}") from error
    if measured[0].device != info:
        feedback.note(f"these rows are of {named(measured[0].device)}, which cannot be reached or has changed since")
    kinds = {
        (bare, reference): rows
        for (bare, reference), rows in _kinds(measured, quantity).items()
        if wanted.matches(bare)
        and (not target or (bare.quantisation, bare.dtype) == (target.quantisation, target.dtype))
    }
    if wanted.model:  # of two models that differ only in fields without effect on latency, the one that was named
        kinds = {key: rows for key, rows in kinds.items() if key[0].shape.hash == wanted.model.hash} or kinds
    # A merged adapter runs like its base, unless that is cut; such rows among others are a check, not a campaign.
    unlike_base = {
        key: rows
        for key, rows in kinds.items()
        if any(row.workload.configuration.cuts_base or not row.workload.in_weights for row in rows)
    }
    kinds = unlike_base or kinds
    if not kinds:
        where, lacking = device or measured[0].device.device, "" if quantity == LATENCY else f" of {quantity}"
        raise InputError(
            f"{place} has no measurements{lacking}{wanted.describe()} on {where}; of this device it has "
            f"{_held(measured, quantity, target)}"
        )
    campaigns = {(bare, reference): rows for (bare, reference), rows in kinds.items() if _is_campaign(bare, rows)}
    found = _at_all_lengths(kinds if wanted.lengths else campaigns)
    found = found if len(found) == 1 else _at_all_lengths(kinds)
    if len(found) > 1:
        names = "; ".join(
            f"{rows[0].workload.describe()}, {rows[0].workload.shape.describe()} ({len(rows)} rows)" for rows in found
        )
        raise InputError(
            f"{place} has several kinds of measurements: {names}; choose one by phase and length, "
            "mode, batch, model, open or cut graphs, or weights as in ort-cpu:int4, or name another store"
        )
    (rows,) = found
    missing = sorted(set(wanted.lengths) - {row.workload.length for row in rows})
    if missing:
        feedback.note(f"no rows of length {' or '.join(map(str, missing))}")
    if noise := noise_of(rows, quantity):
        feedback.note(noise)
    return rows


def noise_of(rows: Sequence[Measurement], quantity: str = LATENCY) -> str:
    """Warning about rows whose intervals are wider than the usual cost of adapters; empty if there are none."""
    widths = {
        id(row): row.ratio_to_reference(quantity).half_width for row in rows if not too_few(row.opening_count(quantity))
    }
    noisy = [row for row in rows if widths.get(id(row), 0.0) > NOISY]
    if not noisy:
        return ""
    days = sorted({row.taken_at[:10] for row in noisy})
    widest = 100 * max(widths.values())
    return (
        f"{len(noisy)} of {len(rows)} rows have 95 % intervals wider than ±{100 * NOISY:.0f} % of their {quantity}, up "
        f"to ±{widest:.0f} %, measured on {', '.join(days)}; a fit weighs them like the others, so measure into "
        "another store on a quiet machine if the error is too large"
    )


def _connected(device: str) -> tuple[DeviceInfo | None, str]:
    """Current identity of the device, or the reason why it cannot be reached."""
    try:
        return connect(device).info(), ""
    except AdaptareError as error:
        return None, f" ({error})"


def _held(measured: Sequence[Measurement], quantity: str, target: Target | None) -> str:
    """Measurements of a device that has none of those that are wanted, and what to do."""
    if not any(row.has(quantity) for row in measured):
        names = sorted({LATENCY, P90, *(name for row in measured for name in row.quantities)})
        return f"{', '.join(names)}; choose one of these, or measure {quantity} first"
    kinds = _kinds(measured, quantity)
    held = "; ".join(rows[0].workload.describe() for rows in kinds.values())
    weights = {(bare.quantisation, bare.dtype) for bare, _ in kinds}
    if target and weights and (target.quantisation, target.dtype) not in weights:
        return f"{held}; name the weights with the device, as in ort-cpu:int4, or measure first"
    return f"{held or 'none that is complete'}; choose one of these, or measure first"


def _kinds(measured: Sequence[Measurement], quantity: str) -> dict[tuple[Workload, Workload], list[Measurement]]:
    """Measurements grouped by workload without its adapter and by reference."""
    kinds: dict[tuple[Workload, Workload], list[Measurement]] = {}
    for row in measured:
        if row.complete and row.has(quantity) and row.workload.configuration.kind == "lora":
            kinds.setdefault((row.workload.with_configuration(Configuration()), row.reference), []).append(row)
    for (bare, reference), rows in kinds.items():
        if bare.graph == "open":  # with an adapter on every site, a cut graph equals an open one
            cut = kinds.get((replace(bare, graph="cut"), reference), [])
            every = len(bare.scope_sites)
            rows.extend(row for row in cut if len(row.workload.configuration.ranks) == every)
    return kinds


def _at_all_lengths(kinds: Mapping[tuple[Workload, Workload], Sequence[Measurement]]) -> list[list[Measurement]]:
    """Measurements of kinds that differ only in their length, together."""
    joined: dict[tuple[Workload, Workload], list[Measurement]] = {}
    for (bare, reference), rows in kinds.items():
        joined.setdefault((at_length(bare, 1), at_length(reference, 1)), []).extend(rows)
    return list(joined.values())


def _is_campaign(bare: Workload, rows: Sequence[Measurement]) -> bool:
    """True unless these are the few rows of another kind that a comparison of a few adapters leaves in a store."""
    enough = len({row.workload.hash for row in rows}) >= LatencyPredictor().fewest_adapters
    return enough and 2 * sum(row.workload.graph == bare.graph for row in rows) > len(rows)
