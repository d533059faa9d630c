"""Programs of OpenVINO: one graph for each base, to which the worker adds adapters."""

import importlib.metadata
import json
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.content_hash import Json, canonical_json, content_hash
from adaptare.core.lazy_names import check_installed
from adaptare.devices import DeviceInfo, Program, program_file
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.models.model_source import ModelSource, stored_weights, weights_identity
from adaptare.profiler.programs.builders import Need, Programs, check_whole, name_of, prompt_feed
from adaptare.profiler.workloads.shape import ModelShape
from adaptare.profiler.workloads.sub_adapter import random_adapter
from adaptare.profiler.workloads.workload import Mode, Workload

LAYOUT = 1
# Names of optimum-intel, which OpenVINO GenAI reads.
GRAPH, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
TYPES = ("float32", "float16")
QUANTISED = ("int8", "int4")


class OpenvinoPrograms(Programs):
    """The graph of the base; adapters differ in the arguments of loading, or, if they are in states, in their feeds.

    Args:
        device: Device that runs them.
        cache: Folder for written graphs; default: the user's cache folder.
        weights: A model whose weights graphs of its shape have; others have random ones.
    """

    def __init__(
        self, device: DeviceInfo, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        check_installed("openvino", "torch")
        self._kept, self._weights = KeptFolders(cache, "openvino"), weights

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        return ("swappable", "static", *(("merged",) if workload.quantisation == "none" else ()))

    def check(self, workload: Workload) -> None:
        check_whole(workload, "OpenVINO", self.modes(workload), open_graphs=True)
        if workload.quantisation not in ("none", *QUANTISED):
            raise InputError(
                f"OpenVINO rounds activations by a property of the device, not of the base: int4 with "
                f"dynamic_quantization_group_size=0, not {workload.quantisation}"
            )
        if workload.quantisation == "none" and workload.dtype not in TYPES:
            raise InputError(f"graphs of OpenVINO are made in {' or '.join(TYPES)}, not {workload.dtype}")

    def need(self, workload: Workload) -> Need:
        """Memory estimate: each loading packs the weights of its base separately."""
        self.check(workload)
        fed, own = workload.mode == "swappable", workload.adapter_bytes
        name = f"{workload.shape.hash} {workload.weight_format} {canonical_json(self._arguments(workload))}"
        # The cache is restored from a copy in 32 bits.
        size = self.disk_bytes(workload.base)
        return Need(name, size + (0 if fed else own), 3 * workload.cache_bytes + (own if fed else 0) + 8)

    def program(self, workload: Workload) -> Program:
        self.check(workload)
        return self._program(workload, self._arguments(workload))

    def merged_reference(self, workload: Workload) -> Program:
        """The adapter in the weights, which are in floating point, and nothing rounded."""
        self.check(workload)
        adapter = self._adapter(workload)
        return self._program(workload, {"exact": True, **({"merged": adapter} if adapter else {})}, feeds_adapter=False)

    def unrounded(self, workload: Workload) -> Program:
        self.check(workload)
        return self._program(workload, {**self._arguments(workload), "exact": True})

    def _program(self, workload: Workload, arguments: dict[str, Json], *, feeds_adapter: bool = True) -> Program:
        files = base_graph(self._kept, workload.shape, workload.weight_format, weights=self._weights)
        feeds = feeds_adapter and workload.mode == "swappable"
        own: dict[str, Json] = {"adapter": self._adapter(workload)} if feeds else {}
        feed = prompt_feed(workload, own)
        brought = tuple(program_file(file) for file in files)
        size = self.need(workload).program_bytes
        return Program(name_of(workload), GRAPH, canonical_json(arguments), (feed,), brought, size)

    def _arguments(self, workload: Workload) -> dict[str, Json]:
        """Arguments of loading."""
        adapter = self._adapter(workload)
        if workload.mode == "swappable":
            sites: list[Json] = list(adapter)
            return {"sites": sites} if sites else {}
        return {workload.mode: adapter} if adapter else {}

    def _adapter(self, workload: Workload) -> dict[str, Json]:
        """Specifications of A and B by site, transposed: those of an open graph have all sites."""
        ranks, made = workload.configuration.by_path, dict[str, Json]()
        for site in workload.shape.sites:
            if site.path not in ranks and workload.graph != "open":
                continue
            halves = random_adapter(site.path, ranks.get(site.path, 0), site.in_features, site.out_features)
            made[site.path] = {half: matrix.spec() for half, matrix in zip("AB", halves, strict=True)}
        return made


def base_graph(kept: KeptFolders, shape: ModelShape, kind: str, *, weights: ModelSource | None = None) -> list[Path]:
    """Graph and weights of a model in the cache, written if necessary.

    Args:
        kept: Folders of all graphs.
        shape: The model.
        kind: Data type of its weights: `float32`, `float16`, or a quantisation.
        weights: A model whose weights a graph of its shape has; others have random ones.
    """
    stored = stored_weights(weights, shape)
    versions = [importlib.metadata.version(name) for name in ("torch", "transformers", "openvino")]
    key = content_hash([LAYOUT, *versions, shape.config, kind, weights_identity(stored)])

    def write(folder: Path) -> None:
        from adaptare.profiler.models.random_model import base_model
        from adaptare.profiler.programs.openvino_graph import write_openvino_graph

        write_openvino_graph(base_model(json.loads(shape.config), stored), folder / GRAPH, kind)

    return kept.files(kept.root / key, (GRAPH, WEIGHTS), write)
