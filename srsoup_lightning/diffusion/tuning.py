"""What changes a loaded pipeline's speed, memory or style, and not what its parts are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin


def add_loras(pipeline: DiffusionPipeline, loras: Mapping[str, float]) -> None:
    """Merge LoRAs into a pipeline's networks: from then on they cost nothing.

    Args:
        pipeline: A diffusers pipeline.
        loras: Folder, file or hub id of each LoRA, in safetensors, to its weight.

    Raises:
        FileNotFoundError: No such LoRA.
        ValueError: A pipeline that takes none, or a LoRA of another model.
    """
    if not loras:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"loras are given, and a {type(pipeline).__name__} takes none")
    names = {source: f"lora_{number}" for number, source in enumerate(loras)}
    for source, name in names.items():
        try:
            pipeline.load_lora_weights(source, adapter_name=name, use_safetensors=True)
        except OSError as error:
            raise FileNotFoundError(f"no LoRA {source!r}: give a folder or hub id with safetensors") from error
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"LoRA {source!r} doesn't fit a {type(pipeline).__name__}: {reason}") from error
    loaded = {name for adapters in pipeline.get_list_adapters().values() for name in adapters}
    strange = [source for source, name in names.items() if name not in loaded]
    if strange:
        raise ValueError(f"LoRA {strange[0]!r} has no weights for any part of a {type(pipeline).__name__}")
    pipeline.set_adapters(list(names.values()), list(loras.values()))
    pipeline.fuse_lora(components=[part for part in pipeline._lora_loadable_modules if getattr(pipeline, part, None)])
    pipeline.unload_lora_weights()


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
    """Set a pipeline's networks up for speed or memory; see :class:`~srsoup_lightning.diffusion.loading.Loading`.

    Raises:
        ValueError: Something that these networks, or the packages installed, don't have.
    """
    for option in [name for name, wanted in (("tiling", tiling), ("slicing", slicing)) if wanted]:
        if not hasattr(vae, f"enable_{option}"):
            raise ValueError(f"vae_{option} is on, and a {type(vae).__name__} has none")
        getattr(vae, f"enable_{option}")()
    if attention is not None:
        _set_attention(network, attention)
    if channels_last:
        for part in (network, vae):  # not part.to, which fails at the convolutions of a video autoencoder
            convert_conv2d_weight_memory_format(part, torch.channels_last)
    if regional_compile:
        compile_blocks(network)


def _set_attention(network: ModelMixin, backend: str) -> None:
    try:
        network.set_attention_backend(backend)
    except (AttributeError, ImportError, RuntimeError, ValueError) as error:
        raise ValueError(f"attention {backend!r} can't be used: {str(error).splitlines()[0]}") from error


def compile_blocks(network: ModelMixin) -> None:
    """Compile the blocks that a network repeats: as fast as the whole, and compiled once for all of them."""
    if getattr(network, "_repeated_blocks", None):
        network.compile_repeated_blocks()
        return
    for blocks in network.children():  # some transformers don't say which blocks repeat; they keep them in lists
        if isinstance(blocks, nn.ModuleList):
            for block in blocks:
                block.compile()
