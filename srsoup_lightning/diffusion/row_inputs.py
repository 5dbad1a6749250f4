"""Adapters whose strength, and whose knowledge of a preference, differ from row to row of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import ModelMixin

EMBEDDING = "preference_embedding"  # name of the submodule, and part of the keys of its weights


class RowInputs:
    """Inputs of the adapters for the rows of the batch under way.

    Args:
        adapters: Number K of adapters, whose scales are the first columns. Further columns are the preference.
    """

    def __init__(self, adapters: int) -> None:
        self.adapters = adapters
        self._values: Tensor | None = None

    @contextmanager
    def given(self, values: Tensor) -> Iterator[None]:
        """Give inputs (R, K + M) for the batches of R rows in the block, and of multiples of it under guidance."""
        before, self._values = self._values, values
        try:
            yield
        finally:
            self._values = before

    def column(self, adapter: int, like: Tensor) -> Tensor:
        """Return the scales (B, 1, ...) of an adapter for the rows of `like` (B, ...).

        Raises:
            RuntimeError: No inputs are given.
        """
        return self._rows(like)[:, adapter].view(-1, *[1] * (like.ndim - 1))

    def preference(self, like: Tensor) -> Tensor:
        """Return the preferences (B, M) for the rows of `like` (B, ...); errors are those of :meth:`column`."""
        return self._rows(like)[:, self.adapters :]

    def _rows(self, like: Tensor) -> Tensor:
        if self._values is None:
            raise RuntimeError("the adapters have no inputs: call the network through a Problem that has preferences")
        return self._values.to(like).repeat(len(like) // len(self._values), 1)


class RowScale:
    """Scale of an adapter in one layer: peft multiplies the layer's update by it.

    Args:
        inputs: Inputs of the rows.
        adapter: Index of the adapter.
        scaling: Scale that the adapter was trained with, alpha / rank.
    """

    def __init__(self, inputs: RowInputs, adapter: int, scaling: float) -> None:
        self.inputs, self.adapter, self.scaling = inputs, adapter, scaling

    def __rmul__(self, update: Tensor) -> Tensor:
        return update * (self.scaling * self.inputs.column(self.adapter, update))


class PreferenceEmbedding(nn.Module):
    """Small network from a preference to what is added to the embedding of the denoising time.

    ``Linear, SiLU, Linear``, as in ParetoSlider (arXiv:2604.20816). The last layer begins at 0, so that an adapter
    begins at the base model.

    Args:
        rewards: Names of the M rewards of a preference, in the order of its numbers.
        width: Width of the hidden layer, at least 1.
        features: Size of the time's embedding.
        inputs: Inputs of the rows. The scale of the first adapter is that of the embedding too.
    """

    def __init__(self, rewards: Sequence[str], width: int, features: int, inputs: RowInputs) -> None:
        super().__init__()
        self.rewards, self.inputs, self._disable_adapters = tuple(rewards), inputs, False
        self.quantiles: tuple[tuple[float, ...], ...] | None = None  # of the scores that a preference aims at
        self.first = nn.Linear(len(rewards), width, dtype=torch.float32)
        self.last = nn.Linear(width, features, dtype=torch.float32)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def disable_adapters(self) -> bool:
        """Whether it is off, as the adapter that it belongs to; the name is that of peft's layers."""
        return self._disable_adapters

    def forward(self, time: Tensor) -> Tensor:
        """Return embeddings of times (B, D), with that of the preference added."""
        if self.disable_adapters:
            return time
        preference = self.inputs.preference(time).float()
        update = self.last(nn.functional.silu(self.first(preference)))
        return time + self.inputs.column(0, time) * update.to(time.dtype)


def scale_by_row(network: nn.Module, names: Sequence[str], inputs: RowInputs) -> None:
    """Let each row of a batch have its own scale of each LoRA of a network.

    Args:
        network: A denoising network with these LoRAs, all of them active.
        names: Names of the LoRAs, in the order of the columns of the inputs.
        inputs: Inputs of the rows.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        for adapter, name in enumerate(names):
            if name in layer.scaling:
                layer.scaling[name] = RowScale(inputs, adapter, layer.scaling[name])


def embed_preference(network: ModelMixin, rewards: Sequence[str], width: int, seed: int, inputs: RowInputs) -> None:
    """Add the embedding of a preference to that of the denoising time.

    Args:
        network: A denoising network.
        rewards: Names of the M rewards of a preference.
        width: Width of the embedding's hidden layer.
        seed: Seed of its first layer. The global random state stays as it is.
        inputs: Inputs of the rows.

    Raises:
        TypeError: The network has no embedding of the time that is known.
    """
    time = time_embedding(network)
    features = time.linear_2.out_features
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        embedding = PreferenceEmbedding(rewards, width, features, inputs).to(network.device)
    network.add_module(EMBEDDING, embedding)
    time.register_forward_hook(lambda module, given, output: embedding(output))


def time_embedding(network: ModelMixin) -> Any:  # noqa: ANN401 - a TimestepEmbedding of diffusers
    """Return the module of a network that embeds the denoising time.

    Raises:
        TypeError: The network has none of diffusers' own.
    """
    from diffusers.models.embeddings import TimestepEmbedding

    for module in network.modules():  # the first one; later ones embed sizes and guidance
        if isinstance(module, TimestepEmbedding):
            return module
    raise TypeError(
        f"a {type(network).__name__} embeds the denoising time in a way of its own, so no preference can be added to "
        "it: train one adapter for each reward"
    )
