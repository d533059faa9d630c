"""Super-adapter: nested adapters on the sites of a space, trained once, usable at smaller ranks, widths and depths."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape, Space
from adaptare.profiler.programs import set_layers, shared_copy
from adaptare.profiler.workloads import WHOLE, Halves, SubAdapter, rank_space
from adaptare.search.super_adapter.base_model import IN_MEMORY, Base, Origin
from adaptare.search.super_adapter.elastic import ElasticLinear

ALPHA = 32.0


class SuperAdapter:
    """Adds an elastic adapter to every site (linear that may carry an adapter), in place; freezes all other weights.

    Where the space has widths, an active width keeps the first neurons of an MLP, in the frozen weights as in the
    adapters. Where it has depth, the model consists of the layers that are active. The largest ranks, widths and depth
    are active at first. `remove` restores the model.

    With `bf16`, losses and estimates from gradients are computed in bfloat16 where autocast does. A training has a
    setting of its own.

    Args:
        model: A causal language model whose shape has the sites.
        space: Sites and their largest ranks, layers whose width may be smaller, and depth. A site whose only choice is
            0 is not adapted.
        alpha: Scale of each adapter times its largest rank, above 0.
        seed: Seed of the initial A matrices.
        layer: Elastic linear of a site.

    Raises:
        InputError: The model lacks a site, or has another width there, or already has an adapter; the space has widths
            and the layers are not for them; or alpha is no number above 0.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        space: Space,
        *,
        alpha: float = ALPHA,
        seed: int,
        layer: type[ElasticLinear] = ElasticLinear,
    ) -> None:
        if not 0 < alpha < math.inf:
            raise InputError(f"alpha must be a number above 0, not {alpha!r}")
        self.model = model
        self.space = space
        self.alpha = alpha
        self.bf16 = False
        self.shape = ModelShape.from_config(model.config)
        generator = torch.Generator().manual_seed(seed)
        types: Sequence[str] | None = getattr(model.config, "layer_types", None)
        self._whole = (
            (tuple(model.get_submodule("model.layers").children()), types) if space.removal_order else ((), None)
        )
        self._largest: NDArray[np.int64] = space.at(space.highest)
        largest = space.decode(self._largest).by_path
        self.layer = layer if largest else ElasticLinear
        # Linears that may be smaller are wrapped even without an adapter.
        cuts = {each: each.kind.least for each in space.dimensions if each.kind.cuts and not each.kind.presence}
        narrowed = Configuration.of(others=cuts).parts(self.shape)
        self._layers: dict[str, ElasticLinear] = {}
        for site in dict.fromkeys((*space.sites, *(self.shape.site_by_path[path] for path in narrowed))):
            base = _linear(model, site.path, site.in_features, site.out_features)
            if (rank := largest.get(site.path, 0)) or site.path in narrowed:
                kind = self.layer if rank else ElasticLinear
                self._layers[site.path] = kind(base, rank, alpha=alpha, generator=generator)
        if narrowed and not self.layer.separable:
            raise InputError(
                f"the space {space.name!r} cuts linears, which adapters that keep the zeros of a sparse base do not "
                "support; give it ranks only, or take another recipe"
            )
        self._thawed = [weight for weight in model.parameters() if weight.requires_grad]
        model.requires_grad_(False)
        self._put(self._layers)
        self.activate(self._largest)

    @classmethod
    def of(cls, adapted: SubAdapter[Base]) -> "SuperAdapter":
        """A super-adapter on the model of a sub-adapter, with its sites and ranks as the only configuration."""
        shape, ranks = adapted.base.shape, adapted.configuration.by_path
        paths = [site.path for site in shape.sites if site.path in ranks]
        space = rank_space("one adapter", shape, [[path] for path in paths], [[ranks[path]] for path in paths])
        made = cls(adapted.base.model, space, alpha=1.0, seed=0)
        made.put(adapted.halves)
        return made

    @property
    def largest(self) -> NDArray[np.int64]:
        """Codes of the configuration with every rank, width and depth at its largest. Shape (n_columns,)."""
        return self._largest.copy()

    @property
    def active(self) -> NDArray[np.int64]:
        """Codes of the active configuration. Shape (n_columns,)."""
        return self._active.copy()

    @property
    def linears(self) -> Mapping[str, ElasticLinear]:
        """Module path in the whole model -> elastic linear, of layers that are not active too."""
        return self._layers

    def activate(self, configuration: Configuration | NDArray[np.int64]) -> None:
        """Makes the model compute with these ranks, widths and layers, until the next call.

        Args:
            configuration: Configuration, or its codes, shape (n_columns,).

        Raises:
            InputError: A rank is above the super-adapter's largest at a site, a width or depth above that of the base,
                or the shape differs; the active configuration is kept.
        """
        codes = self.codes(configuration)
        active = self.space.decode(codes)
        parts = active.parts(self.shape)
        for path, layer in self._layers.items():
            layer.rank, layer.part = active.by_path.get(path, 0), parts.get(path, WHOLE)
        self._keep_layers(active.kept(self.shape.layers))
        self._active = codes

    @contextmanager
    def activated(self, configuration: Configuration | NDArray[np.int64]) -> Iterator[None]:
        """Activates a configuration within the context, then restores the previous one."""
        before = self.active
        self.activate(configuration)
        try:
            yield
        finally:
            self.activate(before)

    def codes(self, configuration: Configuration | NDArray[np.int64]) -> NDArray[np.int64]:
        """Checked codes of a configuration. Shape (n_columns,)."""
        if isinstance(configuration, Configuration):
            codes = self.space.encode(configuration)
        else:
            codes = np.array(configuration, dtype=np.int64)
        if codes.shape != self._largest.shape:
            raise InputError(f"codes of one configuration have shape {self._largest.shape}, not {codes.shape}")
        self._check(self.space.decode(codes))
        return codes

    def sub_adapter(self, config: Configuration, origin: Origin = IN_MEMORY) -> SubAdapter[Base]:
        """The adapter of a configuration, on the base without adapters, for exports and checks.

        Args:
            config: Ranks, widths and layers of this super-adapter.
            origin: Source of the base, where an export needs it.

        Raises:
            InputError: The config is not of this super-adapter.
        """
        self.codes(config)
        with self.lifted():
            model = shared_copy(self.model)
        return SubAdapter(config, self.halves(config), Base(model, self.layer, origin))

    def halves(self, config: Configuration) -> dict[str, Halves]:
        """Module path -> copies of A and B of a configuration, at its widths."""
        parts = config.parts(self.shape)
        return {path: self._layers[path].halves(rank, parts.get(path, WHOLE)) for path, rank in config.ranks}

    def put(self, halves: Mapping[str, Halves]) -> None:
        """Overwrites the first rows of A and columns of B: module path -> update of at most the largest rank."""
        for path, own in halves.items():
            layer = self._layers[path]
            scale = own.scale / layer.factor
            with torch.no_grad():
                layer.A[: own.rank].copy_(torch.from_numpy(own.A))
                layer.B[:, : own.rank].copy_(torch.from_numpy(own.B) * scale)

    def state(self) -> dict[str, torch.Tensor]:
        """All trainable tensors under the names `<module path>.A` and `<module path>.B`; no copies."""
        return {
            f"{path}.{half}": tensor.detach()
            for path, layer in self._layers.items()
            if layer.largest
            for half, tensor in (("A", layer.A), ("B", layer.B))
        }

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Removes the adapters and their training flags from the model within the context."""
        self.remove()
        try:
            yield
        finally:
            self.model.requires_grad_(False)
            self._put(self._layers)
            self.activate(self._active)

    def remove(self) -> None:
        """Removes the adapters; restores the model's original modules and training flags."""
        self._keep_layers(range(self.shape.layers))
        self._put({path: layer.base for path, layer in self._layers.items()})
        for weight in self._thawed:
            weight.requires_grad_(True)

    def _check(self, configuration: Configuration) -> None:
        """Raises `InputError` for a rank above the largest here, or anything else that the base does not allow."""
        configuration.without_adapter.on(self.shape)
        for path, rank in configuration.ranks:
            if rank > (largest := self._layers[path].largest if path in self._layers else 0):
                raise InputError(f"rank of {path} must be 0 to {largest} in this super-adapter, not {rank}")

    def _keep_layers(self, kept: Sequence[int]) -> None:
        """Makes the model consist of some of its layers, as a model of transformers with so many has them."""
        layers, types = self._whole
        if self.space.removal_order:
            set_layers(self.model, [layers[layer] for layer in kept], types and [types[layer] for layer in kept])

    def _put(self, modules: Mapping[str, nn.Module]) -> None:
        for path, module in modules.items():
            parent, _, name = path.rpartition(".")
            setattr(self.model.get_submodule(parent), name, module)


def _linear(model: PreTrainedModel, path: str, wide_in: int, wide_out: int) -> nn.Linear:
    try:
        module = model.get_submodule(path)
    except AttributeError as error:
        raise InputError(f"the model has no module {path!r}; is the space of another base model?") from error
    if isinstance(module, ElasticLinear):
        raise InputError(f"{path} carries a super-adapter already; call its `remove` first")
    if not isinstance(module, nn.Linear):
        raise InputError(f"{path} is a {type(module).__name__}; a super-adapter needs plain linears")
    if (module.in_features, module.out_features) != (wide_in, wide_out):
        raise InputError(
            f"{path} is {module.in_features} x {module.out_features} in the model and {wide_in} x {wide_out} in the "
            "space; build the space from this model's shape"
        )
    return module
