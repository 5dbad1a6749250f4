"""LoRAs from folders, files and the hub, merged into a pipeline's networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from srsoup_lightning.diffusion.loading.components import first_line, is_hub_id

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

PEFT = "base_model.model"  # what peft puts before a module's name


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
