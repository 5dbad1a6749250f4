"""LoRAs that are trained: added to a network, switched off for a while, saved and restored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from srsoup_lightning.diffusion.preference_input import PREFERENCE_INPUT, PreferenceInput

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from peft import LoraConfig


def add_lora(network: ModelMixin, config: LoraConfig, name: str, seed: int) -> None:
    """Add a LoRA whose weights are float32 and the only ones of the network that require gradients.

    Args:
        network: A denoising network of diffusers.
        config: Rank, alpha and target modules.
        name: Name of the LoRA.
        seed: Seed of its matrix A; its matrix B is 0.

    Raises:
        TypeError: A network that takes no LoRAs.
        ValueError: A name that is taken, dropout, or target modules that the network does not have.
    """
    if not hasattr(network, "add_adapter"):
        raise TypeError(f"a {type(network).__name__} takes no LoRAs: use the pipeline of another model")
    if name in getattr(network, "peft_config", {}):
        raise ValueError(f"there is a LoRA {name!r} already: give the new one another name")
    if config.lora_dropout:
        raise ValueError(
            f"lora_dropout is {config.lora_dropout}: the networks stay in eval mode, which has no dropout; set it to 0"
        )
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators as well
        network.add_adapter(deepcopy(config), name)
    train_lora(network)


def train_lora(network: ModelMixin) -> None:
    """Make the weights of the active LoRA float32 and the only ones of the network that require gradients.

    Those that bring the preference in belong to it.
    """
    network.eval().requires_grad_(False)
    network.set_adapter(_active(network))  # its weights require gradients afterwards
    if hasattr(network, PREFERENCE_INPUT):
        getattr(network, PREFERENCE_INPUT).requires_grad_(True)
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # a small update of a bfloat16 weight would be rounded away


@contextmanager
def without_loras(network: ModelMixin) -> Iterator[None]:
    """Switch all LoRAs of a network off, and afterwards on again. The weights that require gradients stay the same."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer | PreferenceInput)]
    before = [layer.disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer._disable_adapters = (
                True  # peft's own method also changes which weights require gradients, and is slow
            )
        yield
    finally:
        for layer, disabled in zip(layers, before, strict=True):
            layer._disable_adapters = disabled


def lora_state(network: ModelMixin, prefix: str) -> dict[str, Tensor]:
    """Copy of the weights of the active LoRA.

    Args:
        network: A network with a LoRA.
        prefix: Name of the network in its pipeline, "unet" or "transformer", which begins each key.

    Raises:
        ValueError: No LoRA was added.
    """
    return {f"{prefix}.{key}": weight.clone() for key, weight in _weights(network).items()}


def lora_metadata(network: ModelMixin, prefix: str) -> dict[str, str]:
    """Metadata of a safetensors file with the state: rank, alpha and target modules, as diffusers reads them.

    Beside them are the names of the rewards, where the preference is an input.

    Args:
        network: A network with a LoRA.
        prefix: Name of the network in its pipeline.

    Raises:
        ValueError: No LoRA was added.
    """
    config = network.peft_config[_active(network)].to_dict()
    packed = {f"{prefix}.{key}": sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(packed, sort_keys=True)}
    if hasattr(network, PREFERENCE_INPUT):
        part = getattr(network, PREFERENCE_INPUT)
        facts = {"kind": part.kind, "rewards": part.rewards, "quantiles": part.quantiles}
        metadata[PREFERENCE_INPUT] = json.dumps(facts)
    return metadata


def load_lora_state(network: ModelMixin, prefix: str, state: Mapping[str, Tensor]) -> None:
    """Set the weights of the active LoRA.

    Args:
        network: A network with a LoRA.
        prefix: Name of the network in its pipeline.
        state: Weights with the keys and shapes of :func:`lora_state`.

    Raises:
        ValueError: No LoRA was added, or the state has other keys or shapes.
    """
    weights = _matching(network, prefix, state)
    for key, weight in weights.items():
        weight.data.copy_(state[key])  # by `data`, so that a graph from before can still be used afterwards


@contextmanager
def other_lora_state(network: ModelMixin, prefix: str, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the active LoRA other weights, and afterwards its own ones again.

    Args and errors are those of :func:`load_lora_state`.
    """
    own = lora_state(network, prefix)
    load_lora_state(network, prefix, state)
    try:
        yield
    finally:
        load_lora_state(network, prefix, own)


def _matching(network: ModelMixin, prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the active LoRA by the keys of a state, which must have the same keys and shapes."""
    weights = {f"{prefix}.{key}": weight for key, weight in _weights(network).items()}
    if differing := sorted(weights.keys() ^ state.keys()):
        raise ValueError(
            f"the LoRA's state differs from that of the network in {differing[0]}: add the LoRA with the config that "
            "the state was made with"
        )
    for key, weight in weights.items():
        if weight.shape != state[key].shape:
            raise ValueError(
                f"{key} has the shape {tuple(state[key].shape)}, and the network's {tuple(weight.shape)}: add the LoRA "
                "with the config that the state was made with"
            )
    return weights


def _active(network: ModelMixin) -> str:
    if not getattr(network, "peft_config", None):
        raise ValueError(f"the {type(network).__name__} has no LoRA: call add_adapter first")
    return network.active_adapters()[0]


def _weights(network: ModelMixin) -> dict[str, Tensor]:
    """Weights of the active LoRA, detached and not copied, with keys of diffusers and peft.

    Those that bring the preference in are among them, with keys that diffusers refuses.
    """
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(network, adapter_name=_active(network))
    if hasattr(network, PREFERENCE_INPUT):
        part = getattr(network, PREFERENCE_INPUT).state_dict()
        weights = {**weights, **{f"{PREFERENCE_INPUT}.{key}": weight for key, weight in part.items()}}
    return weights
