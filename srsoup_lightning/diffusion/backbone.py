"""Interface of a text-to-image model."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from srsoup_lightning.adapters import Adapters, BoundAdapters, InputKind, PreferenceConditioned
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.lora import (
    add_lora,
    load_lora_state,
    lora_metadata,
    lora_state,
    other_lora_state,
    without_loras,
)
from srsoup_lightning.diffusion.preference_input import PREFERENCE_INPUT, add_preference_input
from srsoup_lightning.diffusion.row_inputs import RowInputs, scale_by_row

if TYPE_CHECKING:
    from peft import LoraConfig


SOME = 64  # numbers of a weight


class Backbone(nn.Module, abc.ABC):
    """A text-to-image model.

    Its networks are submodules, so that a Trainer moves them to its device. They stay in eval mode, also under
    ``module.train()``: dropout and batch norm of a pretrained model never train.

    The methods for LoRAs raise a TypeError unless a backbone names its denoising `network`.
    """

    base_steps: int = 0
    """Number of the last denoising steps that the base model makes, with all LoRAs off. A fit needs 0."""

    loras: Mapping[str, float] = MappingProxyType({})
    """Weight of each LoRA that it was loaded with, by folder, file or hub id."""

    adapters: BoundAdapters | None = None
    """Adapters by which its predictions depend on a preference. None where they don't."""

    @abc.abstractmethod
    def bind(
        self, prompt: str, *, num_inference_steps: int, guidance_scale: float, eta: float, negative_prompt: str = ""
    ) -> Denoiser:
        """Denoising process of one prompt.

        Nothing that the denoiser keeps is an inference tensor, also where this is called in inference mode.

        Args:
            prompt: Text to draw. Words beyond the text encoder's length are dropped with a warning.
            num_inference_steps: Number T of denoising steps.
            guidance_scale: Scale of classifier-free guidance; 1 turns it off.
            eta: Share of the noise that is drawn anew in each step, in [0, 1].
            negative_prompt: Text that guidance leads away from; "" is the pipeline's own default.

        Raises:
            ValueError: More steps than the model was trained on.
        """

    def description(self) -> dict[str, object]:
        """Facts that are equal where the model is: its class, and a hash of a few numbers of each frozen weight."""
        digest = hashlib.blake2b(digest_size=16)
        for name, weight in self.named_parameters():
            if not weight.requires_grad:
                some = weight.detach().flatten()[:: max(1, weight.numel() // SOME)].double().cpu()
                digest.update(f"{name}\0{tuple(weight.shape)}\0{weight.dtype}\0".encode() + some.numpy().tobytes())
        return {"class": type(self).__qualname__, "weights": digest.hexdigest(), "loras": dict(self.loras)}

    def train(self, mode: bool = True) -> Self:
        """Keep eval mode, whatever the mode."""
        return super().train(False)

    @property
    def network(self) -> nn.Module:
        """Denoising network, the one that takes LoRAs.

        Raises:
            TypeError: The model has no such network.
        """
        raise TypeError(f"{type(self).__name__} has no network that takes LoRAs: use the backbone of another model")

    @property
    def network_name(self) -> str:
        """Name of the denoising network, which begins the keys of its LoRAs' weights."""
        return "network"

    def add_adapter(self, config: LoraConfig, *, seed: int, name: str = "default") -> None:
        """Add a LoRA (Hu et al. 2021, arXiv:2106.09685) to the denoising network and make it the active one.

        Its matrix B is 0, so predictions stay the same. Its weights are float32. Afterwards they are the only ones
        that require gradients.

        Args:
            config: Rank, alpha and target modules.
            seed: Seed of its matrix A. The global random state stays as it is.
            name: Name of the LoRA.

        Raises:
            TypeError: The network takes no LoRAs.
            ValueError: A name that is taken, dropout, or target modules that the network does not have.
        """
        add_lora(self.network, config, name, seed)

    def condition(self, rewards: Sequence[str], *, kind: InputKind, width: int, seed: int) -> None:
        """Make the preference an input of the active LoRA. Predictions stay the same, while its matrix B is 0.

        Args:
            rewards: Names of the rewards of a preference.
            kind: "ranks" scales the LoRA's ranks by it. "embedding" adds it to the embedding of the denoising time, by
                a small network whose weights belong to the LoRA.
            width: Width of the hidden layer of that network.
            seed: Seed of its first layer.

        Raises:
            TypeError: The network takes no LoRAs, or embeds the time in a way of its own.
            ValueError: The LoRA has fewer ranks than there are rewards.
        """
        network: Any = self.network
        inputs = RowInputs(adapters=1)
        add_preference_input(network, kind, rewards, inputs, width=width, seed=seed)
        self.adapt(PreferenceConditioned("", tuple(rewards)), network.active_adapters(), inputs)

    def aim(self, quantiles: Sequence[Sequence[float]]) -> None:
        """Make scores of the rewards the input of the active LoRA, in place of the preference that is its input now.

        Args:
            quantiles: Quantiles of the scores of each reward, evenly spaced from 0 to 1. They are saved with the LoRA.

        Raises:
            ValueError: The LoRA has no such input, see :meth:`condition`.
        """
        bound = self.adapters
        if bound is None or not bound.policy.conditioned:
            raise ValueError("the LoRA takes no preference as its input: call condition first")
        part = getattr(self.network, PREFERENCE_INPUT)
        part.quantiles = tuple(tuple(each) for each in quantiles)
        self.adapters = bound._replace(policy=bound.policy.knowing(part.rewards, part.quantiles))

    def adapt(self, policy: Adapters, names: Sequence[str], inputs: RowInputs) -> None:
        """Let predictions depend on a preference, by LoRAs that the denoising network has.

        Args:
            policy: Policy of the LoRAs.
            names: Their names, in the order of the policy's sources.
            inputs: Inputs of the rows.
        """
        scale_by_row(self.network, names, inputs)
        self.adapters = BoundAdapters(policy, inputs.given)

    def without_adapters(self) -> AbstractContextManager[None]:
        """Context in which all LoRAs are off, so that the network predicts as the base model does.

        Raises:
            TypeError: The model has no network that takes LoRAs.
        """
        return without_loras(self.network)

    def adapter_state(self) -> dict[str, Tensor]:
        """Copy of the weights of the active LoRA, with the keys of ``pytorch_lora_weights.safetensors``.

        Raises:
            TypeError: The model has no network that takes LoRAs.
            ValueError: No LoRA was added.
        """
        return lora_state(self.network, self.network_name)

    def adapter_metadata(self) -> dict[str, str]:
        """Metadata of ``pytorch_lora_weights.safetensors``; without it, diffusers loads a LoRA with another alpha.

        Raises:
            TypeError: The model has no network that takes LoRAs.
            ValueError: No LoRA was added.
        """
        return lora_metadata(self.network, self.network_name)

    def with_adapter_state(self, state: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Context in which the active LoRA has other weights. Its own ones are untouched and return afterwards.

        Args:
            state: Weights with the keys and shapes of :meth:`adapter_state`.

        Raises:
            TypeError: The model has no network that takes LoRAs.
            ValueError: No LoRA was added, or the state has other keys or shapes.
        """
        return other_lora_state(self.network, self.network_name, state)

    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Set the weights of the active LoRA.

        Args:
            state: Weights with the keys and shapes of :meth:`adapter_state`.

        Raises:
            TypeError: The model has no network that takes LoRAs.
            ValueError: No LoRA was added, or the state has other keys or shapes.
        """
        load_lora_state(self.network, self.network_name, state)


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave inference mode and keep gradients as they are: off in inference mode, otherwise as the caller set them.

    Networks keep some of the tensors that they make, such as rotary embeddings, and hooks move weights between
    devices. If this happens in inference mode, no gradient can pass these tensors later.
    """
    gradients = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):
        yield
