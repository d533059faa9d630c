"""Programs of a folder of onnxruntime-genai, whose adapters are inputs of its graph."""

from functools import cached_property
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.devices import DeviceInfo, Program, program_file
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.programs.builders import Need, Programs, check_whole, name_of, prompt_feed
from adaptare.profiler.programs.genai_folder import CONFIG, AdapterInputs, adapter_inputs_of, check_base, check_site
from adaptare.profiler.workloads.sub_adapter import random_adapter
from adaptare.profiler.workloads.workload import Mode, Workload

FOLDER = "folder="
# Adapters in the folder; the agent makes those that are timed.
LEFT_OUT = (".onnx_adapter", ".md")


class GenaiPrograms(Programs):
    """One program: the folder that the device names. Bases and adapters of any rank differ in their feeds.

    There is no merged reference, because the weights of the folder are as its maker rounded them: outputs with an
    adapter must differ from those without, and no more is checked.

    Args:
        device: Device that runs the folder.
        cache: Not used; the folder exists.
        weights: Not used; the folder has its own.
    """

    def __init__(
        self, device: DeviceInfo, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        (self._folder,) = (Path(option.removeprefix(FOLDER)) for option in device.options if option.startswith(FOLDER))
        files = (file for file in self._folder.iterdir() if file.is_file() and file.suffix not in LEFT_OUT)
        self._files = tuple(program_file(file, keep=False) for file in sorted(files))

    @cached_property
    def _inputs(self) -> dict[str, AdapterInputs]:
        return adapter_inputs_of(self._folder)

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        return ("swappable",)

    def check(self, workload: Workload) -> None:
        if workload.quantisation != "none" or workload.dtype != "float32":
            raise InputError(f"a folder has the weights that it has; leave {workload.weight_format} out")
        check_whole(workload, "a folder of onnxruntime-genai", self.modes(workload))
        check_base(self._folder, workload.shape, layers=workload.shape.layers)
        for path, rank in workload.configuration.ranks:
            site = workload.shape.site_by_path[path]
            check_site(path, (site.in_features, rank, site.out_features), self._inputs, str(self._folder))

    def need(self, workload: Workload) -> Need:
        self.check(workload)
        return Need(str(self._folder), self._bytes, 2 * workload.cache_bytes + workload.adapter_bytes + 8)

    def disk_bytes(self, base: Workload) -> int:
        return self._bytes

    def program(self, workload: Workload) -> Program:
        self.check(workload)
        feeds = (prompt_feed(workload, {"adapter": self._adapter(workload)}),)
        return Program(name_of(workload), CONFIG, "{}", feeds, self._files, self._bytes)

    @property
    def _bytes(self) -> int:
        return sum(file.path.stat().st_size for file in self._files)

    def _adapter(self, workload: Workload) -> dict[str, Json]:
        """Specifications of random tensors by input; zeros where a site without adapter has no default."""
        ranks, made = workload.configuration.by_path, dict[str, Json]()
        for path, place in self._inputs.items():
            rank = ranks.get(path, 0)
            if not rank and place.optional:
                continue
            halves = random_adapter(path, rank, place.width_in, place.width_out)
            full = place.rank or rank
            shapes = (place.width_in, full), (full, place.width_out)
            for name, half, shape in zip(place.names, halves, shapes, strict=True):
                made[name] = half.spec(place.dtype.name, padded_to=shape)
        return made
