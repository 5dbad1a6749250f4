"""Preference as an input of a LoRA: it scales the LoRA's ranks, or it is added to the embedding of the time."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from rewards.checks import require_choice
from srsoup_lightning.adapters import InputKind
from srsoup_lightning.diffusion.row_inputs import RowInputs

if TYPE_CHECKING:
    from diffusers import ModelMixin

PREFERENCE_INPUT = "preference_input"  # name of the submodule, and part of the keys of its weights


class PreferenceInput(nn.Module, abc.ABC):
    """Part of a LoRA that brings the preference in. Its weights are saved with the LoRA.

    Args:
        rewards: Names of the M rewards of a preference, in the order of its numbers.
        inputs: Inputs of the rows.
    """

    kind: ClassVar[InputKind]

    def __init__(self, rewards: Sequence[str], inputs: RowInputs) -> None:
        super().__init__()
        self.rewards, self.inputs, self._disable_adapters = tuple(rewards), inputs, False
        self.quantiles: tuple[tuple[float, ...], ...] | None = None  # of the scores that a preference aims at

    @property
    def disable_adapters(self) -> bool:
        """Whether it is off, as the adapter that it belongs to; the name is that of peft's layers."""
        return self._disable_adapters


class PreferenceRanks(PreferenceInput):
    """Share of a LoRA's ranks for each reward, which the reward's weight scales.

    The update of a layer is ``sum_m w_m gain_m B_m A_m``, where A_m and B_m are the factors of the ranks of reward m.
    So it is a rewarded soup (arXiv:2306.04488) of M LoRAs that are trained together, for every mixture of them. No
    rank serves all preferences. Otherwise these would learn what is easy for one reward, and show it to all. Panacea
    (arXiv:2402.02030) also scales ranks by a preference, beside others that it does not scale.

    Args:
        rewards: See :class:`PreferenceInput`.
        inputs: See :class:`PreferenceInput`.
    """

    kind: ClassVar[InputKind] = "ranks"

    def __init__(self, rewards: Sequence[str], inputs: RowInputs) -> None:
        super().__init__(rewards, inputs)
        self.gain = nn.Parameter(torch.ones(len(rewards), dtype=torch.float32))

    def forward(self, found: Tensor, dimension: int) -> Tensor:
        """Return the numbers that each rank of a layer found in a batch, scaled.

        Args:
            found: Numbers (B, ...).
            dimension: Dimension of the R ranks. Reward m has those from ``m R / M`` on.
        """
        count, rewards = found.shape[dimension], len(self.rewards)
        owner = torch.arange(count, device=found.device) * rewards // count
        weights = self.inputs.preference(found).float() * self.gain
        shape = [len(found), *[1] * (found.ndim - 1)]
        shape[dimension] = count
        return found * weights[:, owner].view(shape).to(found.dtype)


class PreferenceEmbedding(PreferenceInput):
    """Small network from a preference to what is added to the embedding of the denoising time.

    ``Linear, SiLU, Linear``, as in ParetoSlider (arXiv:2604.20816). The last layer begins at 0, so that an adapter
    begins at the base model.

    Args:
        rewards: See :class:`PreferenceInput`.
        inputs: See :class:`PreferenceInput`. The scale of the first adapter is that of the embedding too.
        width: Width of the hidden layer, at least 1.
        features: Size of the time's embedding.
    """

    kind: ClassVar[InputKind] = "embedding"

    def __init__(self, rewards: Sequence[str], inputs: RowInputs, width: int, features: int) -> None:
        super().__init__(rewards, inputs)
        self.first = nn.Linear(len(rewards), width, dtype=torch.float32)
        self.last = nn.Linear(width, features, dtype=torch.float32)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, time: Tensor) -> Tensor:
        """Return embeddings of times (B, D), with that of the preference added."""
        if self.disable_adapters:
            return time
        preference = self.inputs.preference(time).float()
        update = self.last(nn.functional.silu(self.first(preference)))
        return time + self.inputs.column(0, time) * update.to(time.dtype)


def add_preference_input(
    network: ModelMixin, kind: InputKind, rewards: Sequence[str], inputs: RowInputs, *, width: int, seed: int
) -> PreferenceInput:
    """Make a preference an input of the LoRA of a network.

    Args:
        network: A denoising network with one LoRA.
        kind: "ranks" is :class:`PreferenceRanks`, and "embedding" :class:`PreferenceEmbedding`.
        rewards: Names of the M rewards of a preference.
        inputs: Inputs of the rows.
        width: Width of the hidden layer of an embedding.
        seed: Seed of its first layer. The global random state stays as it is.

    Raises:
        TypeError: An embedding, and the network has no embedding of the time that is known.
        ValueError: The kind is unknown, or the LoRA has fewer ranks than there are rewards.
    """
    require_choice("kind", kind, InputKind)
    add = _scale_ranks if kind == "ranks" else _embed
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        part = add(network, rewards, inputs, width).to(network.device)
    network.add_module(PREFERENCE_INPUT, part)
    return part


def _scale_ranks(network: ModelMixin, rewards: Sequence[str], inputs: RowInputs, width: int) -> PreferenceInput:
    from peft.tuners.tuners_utils import BaseTunerLayer

    part = PreferenceRanks(rewards, inputs)
    layers: list[Any] = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        (name,) = layer.lora_A
        if layer.r[name] < len(rewards):
            raise ValueError(
                f"the LoRA has rank {layer.r[name]}, and {len(rewards)} rewards share its ranks: give lora.rank at "
                f"least {len(rewards)}, or conditioning.kind: embedding"
            )
        first: nn.Module = layer.lora_A[name]
        dimension = 1 if hasattr(first, "kernel_size") else -1  # of a convolution, whose channels come first
        first.register_forward_hook(lambda module, given, found, dimension=dimension: part(found, dimension))
    return part


def _embed(network: ModelMixin, rewards: Sequence[str], inputs: RowInputs, width: int) -> PreferenceInput:
    time = time_embedding(network)
    part = PreferenceEmbedding(rewards, inputs, width, time.linear_2.out_features)
    time.register_forward_hook(lambda module, given, output: part(output))
    return part


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
        "it: give conditioning.kind: ranks"
    )
