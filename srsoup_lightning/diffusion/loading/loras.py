"""LoRAs from folders, files and the hub: merged into the networks of a pipeline, kept apart, or trained further."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING
from warnings import catch_warnings, filterwarnings

from rewards.checks import first_line
from rewards.networks.hub import not_downloaded
from srsoup_lightning.diffusion.backbone import Backbone
from srsoup_lightning.diffusion.loading.hub import PEFT_CONFIG, PEFT_WEIGHTS, lora_path
from srsoup_lightning.diffusion.loading.integrity import read_json
from srsoup_lightning.diffusion.loading.lora_files import (
    header_of,
    metadata_of,
    require_one_weight_file,
    require_simple_patterns,
)
from srsoup_lightning.diffusion.loading.silence import collected_warnings
from srsoup_lightning.diffusion.lora import train_lora
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.preference_input import PREFERENCE_INPUT

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

logger = logging.getLogger(__name__)
PEFT = "base_model.model"  # prefix of module names in files of peft
HARMLESS = "safe to ignore"  # what diffusers says itself of a LoRA without weights for a text encoder


def add_loras(pipeline: DiffusionPipeline, loras: Mapping[str, float], *, merge: bool = True) -> None:
    """Add LoRAs to the networks of a pipeline.

    Args:
        pipeline: A diffusers pipeline.
        loras: Weight of each LoRA, by its folder, file or hub id; safetensors only.
        merge: Merge them into the networks, so that they cost no time in use. Otherwise, they can be switched off.

    Raises:
        FileNotFoundError: No such LoRA.
        ValueError: A pipeline that takes no LoRAs, a LoRA of another model, or one to be switched off that adapts a
            text encoder.
    """
    if not loras:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ValueError(f"loras are given, and a {type(pipeline).__name__} takes none")
    names = {source: f"lora_{number}" for number, source in enumerate(loras)}
    for source, name in names.items():
        read_lora(pipeline, source, name)
    adapted = pipeline.get_list_adapters()
    loaded = {name for adapters in adapted.values() for name in adapters}
    unused = [source for source, name in names.items() if name not in loaded]
    if unused:
        raise ValueError(f"LoRA {unused[0]!r} has no weights for any component of a {type(pipeline).__name__}")
    pipeline.set_adapters(list(names.values()), list(loras.values()))
    if not merge:
        _require_no_text_encoder(names, adapted)
        return
    pipeline.fuse_lora(components=[name for name in pipeline._lora_loadable_modules if getattr(pipeline, name, None)])
    pipeline.unload_lora_weights()


def start_from_lora(backbone: Backbone, source: str, name: str = "default") -> None:
    """Add a LoRA that exists to the denoising network, and make its weights the only ones that require gradients.

    Args:
        backbone: Model.
        source: Folder, file or hub id of the LoRA; safetensors only.
        name: Name of the LoRA.

    Raises:
        FileNotFoundError: There is no such LoRA.
        TypeError: The backbone is over no pipeline.
        ValueError: The LoRA is of another model, adapts another network too, or has weights that are not finite.
    """
    if not isinstance(backbone, PipelineBackbone):
        raise TypeError(f"a {type(backbone).__name__} has no pipeline that could read {source!r}: start from no LoRA")
    read_lora(backbone.pipeline, source, name)
    require_network_alone(backbone, source, name)
    train_lora(backbone.network)


def require_network_alone(backbone: PipelineBackbone, source: str, name: str) -> None:
    """Check that a LoRA that was loaded adapts the denoising network, and nothing else.

    Raises:
        ValueError: It adapts another network.
    """
    adapted = [network for network, names in backbone.pipeline.get_list_adapters().items() if name in names]
    if adapted != [backbone.network_name]:
        raise ValueError(
            f"LoRA {source!r} adapts {' and '.join(adapted) or 'nothing'}, and the {backbone.network_name} alone may "
            "be adapted here: give a LoRA of that network"
        )


def _require_no_text_encoder(names: Mapping[str, str], adapted: Mapping[str, Sequence[str]]) -> None:
    for source, name in names.items():
        encoders = [part for part, loaded in adapted.items() if part.startswith("text_encoder") and name in loaded]
        if encoders:
            raise ValueError(
                f"base_steps is given, and LoRA {source!r} adapts the {encoders[0]}, which encodes a prompt once for "
                "all steps: take a LoRA of the denoising network alone, or leave base_steps out"
            )


def read_lora(
    pipeline: DiffusionPipeline, source: str, name: str, load: Callable[[str, str], None] | None = None
) -> None:
    """Load a LoRA into the networks of a pipeline.

    Args:
        pipeline: A diffusers pipeline.
        source: Folder, file or hub id of the LoRA.
        name: Name that the LoRA gets.
        load: Loads a LoRA of another format, by source and name. None takes those of diffusers and peft.

    Raises:
        FileNotFoundError: There is no such LoRA.
        ValueError: The LoRA is of another model, or has weights that are not finite.
    """
    try:
        with collected_warnings() as warnings, catch_warnings():
            filterwarnings("ignore", "Already found a `peft_config`")  # several LoRAs are what is wanted
            (load or partial(_load_lora, pipeline))(source, name)
    except (OSError, IndexError) as error:  # IndexError: diffusers takes the first of no files
        raise not_downloaded(f"LoRA {source!r}", None, error) or FileNotFoundError(
            f"no LoRA {source!r}: give a folder, file or hub id with safetensors"
        ) from error
    except Exception as error:  # of many types, which depend on the format and the difference
        kind = type(pipeline).__name__
        raise ValueError(f"LoRA {source!r} can't be loaded into a {kind}: {first_line(error)}") from error
    for warning in warnings:
        if HARMLESS not in warning:
            logger.warning("LoRA %r: %s", source, first_line(warning))
    for component, names in pipeline.get_list_adapters().items():
        if name in names:
            _require_finite(getattr(pipeline, component), name, source)


def _require_finite(network: nn.Module, name: str, source: str) -> None:
    for key, weight in network.named_parameters():
        if f".{name}." in key and not weight.isfinite().all():
            raise ValueError(f"LoRA {source!r} has weights in {key} that are not finite: take another one")


def _load_lora(pipeline: DiffusionPipeline, source: str, name: str) -> None:
    """Load a LoRA in the format of diffusers, or in that of peft, which has its config in a file beside the weights."""
    from safetensors.torch import load_file

    path = lora_path(source)
    require_one_weight_file(path)
    require_simple_patterns(metadata_of(path))
    if PREFERENCE_INPUT in header_of(path):
        raise ValueError("it takes a preference as its input: give it as model.adapters, a PreferenceConditioned")
    if not (path / PEFT_CONFIG).is_file():
        pipeline.load_lora_weights(str(path), adapter_name=name, use_safetensors=True)
        return
    config = read_json(path / PEFT_CONFIG)
    require_simple_patterns(config)
    network = getattr(pipeline, "transformer", None) or pipeline.unet
    network.load_lora_adapter(
        load_file(path / PEFT_WEIGHTS),
        prefix=PEFT,
        adapter_name=name,
        metadata={f"{PEFT}.{key}": value for key, value in config.items()},
    )
