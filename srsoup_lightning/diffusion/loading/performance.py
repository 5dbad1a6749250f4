"""Options that change speed or memory of a loaded pipeline, and not its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from rewards.checks import first_line

if TYPE_CHECKING:
    from diffusers import ModelMixin


def tune(
    network: ModelMixin,
    vae: ModelMixin,
    *,
    tiling: bool,
    slicing: bool,
    attention: str | None,
    channels_last: bool,
    regional_compile: bool,
) -> None:
    """Set the networks of a pipeline up for speed or memory; see :class:`~srsoup_lightning.Loading`.

    Raises:
        ValueError: An option that these networks or the installed packages do not support.
    """
    for option in [name for name, wanted in (("tiling", tiling), ("slicing", slicing)) if wanted]:
        if not hasattr(vae, f"use_{option}"):  # every autoencoder has the method, and some raise in it
            raise ValueError(f"vae_{option} is on, and a {type(vae).__name__} has none")
        getattr(vae, f"enable_{option}")()
    if attention is not None:
        _set_attention(network, attention)
    if channels_last:
        for each in (network, vae):  # each.to(memory_format=...) fails at the convolutions of a video autoencoder
            convert_conv2d_weight_memory_format(each, torch.channels_last)
    if regional_compile:
        compile_blocks(network)


def _set_attention(network: ModelMixin, backend: str) -> None:
    processors = [getattr(module, "processor", None) for module in network.modules()]
    if backend != "native" and not any(hasattr(processor, "_attention_backend") for processor in processors):
        raise ValueError(f"attention is {backend!r}, and a {type(network).__name__} takes PyTorch's own only, native")
    try:
        network.set_attention_backend(backend)
    except (AttributeError, ImportError, RuntimeError, ValueError) as error:
        raise ValueError(f"attention {backend!r} can't be used: {first_line(error)}") from error


def compile_blocks(network: ModelMixin) -> None:
    """Compile the repeated blocks of a network: as fast as compiling all of it, and each kind is compiled once."""
    if getattr(network, "_repeated_blocks", None):
        network.compile_repeated_blocks()
        return
    for blocks in network.children():  # some transformers do not name their repeated blocks, and keep them in lists
        if isinstance(blocks, nn.ModuleList):
            for block in blocks:
                block.compile()
