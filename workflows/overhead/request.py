"""Request of overheads: the adapters, the device, the phases, and the limits of the measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.core import InputError
from adaptare.devices import Device
from adaptare.profiler import Programs, precise_within
from adaptare.profiler.analysis import EQUIVALENCE_BAND
from adaptare.profiler.measuring import PreciseWithin


@dataclass(frozen=True)
class OverheadRequest:
    """Measures adapters and their base, in every mode that the runtime has, and keeps all samples in a store.

    Args:
        model: A folder, a hub id, a `config.json`, a GGUF file, `smollm2-135m` or `tiny-random`.
        adapters: PEFT folders, or adapter files of ONNX Runtime; the first is compared with the others.
        device: A `Device`, or its spelling, such as `ort-cpu:int4,threads=1`.
        programs: Builder of the device's programs; by default the one that is registered for its runtime.
        ranks: Without adapters: the same rank on every linear of each placement.
        placements: Without adapters: kinds of linears with commas (`q_proj,v_proj`); none for all linears.
        prompts: Tokens of prefill; none for no prefill.
        depths: Cached positions of decode; none for no decode.
        generated: Tokens after the first one of each prompt, for the latency of whole requests.
        tasks: Adapters to serve, for a comparison of merging and swapping.
        energy: True to count joules, where the device can.
        batch: Sequences at once.
        half_width: Measuring ends when every interval is this narrow; 0.01 is 1 %.
        seconds: Time limit of each phase and group of programs, including loading.
        openings: Maximum number of fresh loads of every program.
        band: Equivalence band; smaller differences are `same`.
        recalibrate: True to scale latencies to the present speed of the base, even if it changed little.
        stubs: True to compose whole models from models of fewer layers.
        resume: True to take phases that the store has complete, instead of measuring them again.
        store: File or database URL.
        cache: Folder for converted models; the user's cache folder if `None`.
        seed: Seed of every random choice.
    """

    model: str
    adapters: str | Path | Sequence[str | Path] = ()
    device: str | Device = "torch-cpu:threads=1"
    programs: Programs | None = None
    ranks: Sequence[int] = (16,)
    placements: Sequence[str] = ()
    prompts: Sequence[int] = (64,)
    depths: Sequence[int] = (64,)
    generated: int = 0
    tasks: int = 0
    energy: bool = False
    batch: int = 1
    half_width: float = 0.01
    seconds: float = 60.0
    openings: int | None = None
    band: float = EQUIVALENCE_BAND
    recalibrate: bool = False
    stubs: bool = False
    resume: bool = False
    store: str | Path = "adaptare.db"
    cache: str | Path | None = None
    seed: int = 0

    @property
    def stop(self) -> PreciseWithin:
        """Stopping rule of each group of programs."""
        return precise_within(self.half_width, self.seconds, self.openings)

    @property
    def folders(self) -> list[Path]:
        """Folders of the adapters."""
        given = [self.adapters] if isinstance(self.adapters, str | Path) else self.adapters
        return [Path(folder) for folder in given]

    @property
    def pasts(self) -> list[int]:
        """Cache lengths at which decode is measured, also for the first and last token after each prompt."""
        ends = [past for prompt in self.prompts for past in (prompt, prompt + self.generated - 1)]
        return list(dict.fromkeys([*self.depths, *(ends if self.generated else [])]))

    def check(self) -> None:
        """Raises `InputError` if nothing is left to measure, or parameters exclude each other or are out of range."""
        if not self.prompts and not self.depths:
            raise InputError("nothing is left to measure; give lengths of prefill or decode", parameter="prompts")
        if self.stubs and (self.tasks or self.energy):
            whole = "a comparison for several tasks" if self.tasks else "counting energy"
            raise InputError(f"{whole} loads whole models, and stubs replace them; choose one", parameter="stubs")
        for name, count in (("generated", self.generated), ("tasks", self.tasks)):
            if count < 0:
                raise InputError(f"{name} must be at least 0, not {count}")
        if self.generated and not self.prompts:
            raise InputError("generated tokens follow a prompt; give its number of tokens", parameter="prompts")
        if self.folders and self.placements:
            raise InputError("an adapter has sites of its own; give it without placements", parameter="placements")
        precise_within(self.half_width, self.seconds, self.openings)
