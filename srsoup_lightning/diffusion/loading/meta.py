"""Pipelines without weights: networks on the meta device, made from configs alone, to count what they would take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from srsoup_lightning.diffusion.families import families
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


def meta_network(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """Make a network on the meta device.

    Args:
        kind: Its class in diffusers or transformers.
        config: Options of its config.

    Raises:
        ValueError: Neither library has such a class.
    """
    import diffusers
    import transformers

    own = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        if hasattr(diffusers, kind):
            return getattr(diffusers, kind).from_config(own)
        if hasattr(transformers, kind):
            found = getattr(transformers, kind)
            return found(found.config_class.from_dict(own))
    raise ValueError(f"no network {kind!r}: give a class of diffusers or transformers")


def meta_backbone(
    pipeline: str, networks: Mapping[str, nn.Module], height: int | None = None, width: int | None = None
) -> PipelineBackbone:
    """Make a backbone over networks, without tokenizers or scheduler.

    Args:
        pipeline: Class of the pipeline in diffusers.
        networks: Networks by component.
        height: Height of images in pixels; None takes the model's own.
        width: Width of images in pixels; None takes the model's own.

    Raises:
        ValueError: There is no backbone for this class, or the model can't draw that size.
    """
    import diffusers

    if pipeline not in families():
        raise ValueError(f"a {pipeline} has no backbone: use {', '.join(families())}")
    kind = getattr(diffusers, pipeline)
    needed = [
        name
        for name, each in inspect.signature(kind.__init__).parameters.items()
        if each.default is each.empty and name != "self"
    ]
    return families()[pipeline](kind(**{**dict.fromkeys(needed), **networks}), height=height, width=width)


def parameters(network: nn.Module) -> int:
    """Number of weights, those included that no training changes; one that has two names counts once."""
    return sum(weight.numel() for weight in set(network.state_dict(keep_vars=True).values()))


def largest_layer(network: nn.Module, call: Callable[[], object]) -> int:
    """Largest number of elements that a layer of a network reads and writes in a call.

    Args:
        network: Network, on any device.
        call: Evaluates it.
    """
    largest = 0

    def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        tensors = [each for each in (*inputs, output) if isinstance(each, Tensor)]
        largest = max(largest, sum(each.numel() for each in tensors))

    handles: list[RemovableHandle] = [
        layer.register_forward_hook(note) for layer in network.modules() if not list(layer.children())
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return largest
