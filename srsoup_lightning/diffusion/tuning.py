"""What changes a loaded pipeline's speed, memory or style, and not what its parts are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, ModelMixin

PEFT = "base_model.model"  # what peft puts before a module's name


def is_hub_id(source: str) -> bool:
    """Whether it has the form of one, user/name."""
    return source.count("/") == 1 and not source.startswith((".", "~", "/"))


def first_line(error: Exception) -> str:
    """What another library's error says at first."""
    return next(iter(str(error).splitlines()), type(error).__name__)


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
            _load_lora(pipeline, source, name)
        except (OSError, IndexError) as error:  # of no files, diffusers takes the first
            raise FileNotFoundError(f"no LoRA {source!r}: give a folder, file or hub id with safetensors") from error
        except Exception as error:  # by what it is written in, and how it differs, one of many kinds
            kind = type(pipeline).__name__
            raise ValueError(f"LoRA {source!r} can't be loaded into a {kind}: {first_line(error)}") from error
    loaded = {name for adapters in pipeline.get_list_adapters().values() for name in adapters}
    strange = [source for source, name in names.items() if name not in loaded]
    if strange:
        raise ValueError(f"LoRA {strange[0]!r} has no weights for any part of a {type(pipeline).__name__}")
    pipeline.set_adapters(list(names.values()), list(loras.values()))
    pipeline.fuse_lora(components=[part for part in pipeline._lora_loadable_modules if getattr(pipeline, part, None)])
    pipeline.unload_lora_weights()


def _load_lora(pipeline: DiffusionPipeline, source: str, name: str) -> None:
    """Load a LoRA in diffusers' format, or in peft's, whose config lies in a file beside the weights."""
    from safetensors.torch import load_file

    if not Path(source).exists() and not is_hub_id(source):
        raise FileNotFoundError(source)
    try:
        config = json.loads(_fetch(source, "adapter_config.json").read_text())
    except OSError:
        pipeline.load_lora_weights(source, adapter_name=name, use_safetensors=True)
        return
    network = getattr(pipeline, "transformer", None) or pipeline.unet
    network.load_lora_adapter(
        load_file(_fetch(source, "adapter_model.safetensors")),
        prefix=PEFT,
        adapter_name=name,
        metadata={f"{PEFT}.{key}": value for key, value in config.items()},
    )


def _fetch(source: str, file: str) -> Path:
    """Where a file of a folder lies, or one of a hub id after its download."""
    from huggingface_hub import hf_hub_download

    return Path(source) / file if Path(source).exists() else Path(hf_hub_download(source, file))


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
        if not hasattr(vae, f"use_{option}"):  # all have a method for it, which may raise
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
    processors = [getattr(module, "processor", None) for module in network.modules()]
    if backend != "native" and not any(hasattr(processor, "_attention_backend") for processor in processors):
        raise ValueError(f"attention is {backend!r}, and a {type(network).__name__} takes PyTorch's own only, native")
    try:
        network.set_attention_backend(backend)
    except (AttributeError, ImportError, RuntimeError, ValueError) as error:
        raise ValueError(f"attention {backend!r} can't be used: {first_line(error)}") from error


def compile_blocks(network: ModelMixin) -> None:
    """Compile the blocks that a network repeats: as fast as the whole, and compiled once for all of them."""
    if getattr(network, "_repeated_blocks", None):
        network.compile_repeated_blocks()
        return
    for blocks in network.children():  # some transformers don't say which blocks repeat; they keep them in lists
        if isinstance(blocks, nn.ModuleList):
            for block in blocks:
                block.compile()
