"""Loading CLIP models: network, tokenizer and image preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import nn

from rewards.clip_pixels import CLIPPixels
from rewards.clip_source import Source, quiet_loading

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPVisionModelWithProjection, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16", "float16", "float64"]

CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""The hub id of the processor of CLIP ViT-H/14, of which PickScore and HPSv2 are descendants."""


class LoadedCLIP(NamedTuple):
    """A CLIP model ready for use; the tokenizer truncates at the length that the text tower takes."""

    network: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    pixels: CLIPPixels


class LoadedCLIPVision(NamedTuple):
    """The image side of a CLIP model."""

    network: CLIPVisionModelWithProjection
    pixels: CLIPPixels


def load_clip(model: Source, dtype: Dtype, processor: Source | None = None) -> LoadedCLIP:
    """Load both towers.

    Args:
        model: Where the network is.
        dtype: Precision of the network.
        processor: Where tokenizer and image preprocessing are, if not beside the network.

    Raises:
        FileNotFoundError: If there is no such model or no preprocessing.
        ValueError: If it is no CLIP model with complete, finite safetensors weights, or the dtype is unknown.
        ModuleNotFoundError: If transformers is not installed.
    """
    config = _config(model, ("clip",))
    from transformers import AutoTokenizer, CLIPModel

    network = _network(CLIPModel, model, dtype, config)
    tokenizer = _preprocessing(AutoTokenizer, processor or model)
    tokenizer.model_max_length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
    return LoadedCLIP(network, tokenizer, _pixels(processor or model))


def load_clip_vision(model: Source, dtype: Dtype) -> LoadedCLIPVision:
    """Load the image tower and its projection alone; arguments and errors as in :func:`load_clip`."""
    config = _config(model, ("clip", "clip_vision_model"))
    from transformers import CLIPVisionModelWithProjection

    if config.model_type == "clip":
        config.vision_config.projection_dim = config.projection_dim
        config = config.vision_config
    return LoadedCLIPVision(_network(CLIPVisionModelWithProjection, model, dtype, config), _pixels(model))


def _config(model: Source, allowed: tuple[str, ...]) -> Any:  # noqa: ANN401
    try:
        from transformers import AutoConfig
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError("CLIP's rewards need transformers: pip install transformers") from missing
    if model.folder is not None and not any(model.folder.glob("*.safetensors")):
        raise model.only_pickles()
    try:
        config = model.load(AutoConfig)
    except OSError as error:
        raise model.not_found(error) from None
    if config.model_type not in allowed:
        raise ValueError(f"{model.name} is a {config.model_type} model: give one of type {' or '.join(allowed)}.")
    return config


def _network(kind: Any, model: Source, dtype: Dtype, config: object) -> Any:  # noqa: ANN401
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype is {dtype!r}: choose one of {', '.join(get_args(Dtype))}.")
    options = {"config": config, "dtype": getattr(torch, dtype), "use_safetensors": True, "output_loading_info": True}
    try:
        with quiet_loading():
            network, report = model.load(kind, **options)
    except OSError as error:
        raise (model.only_pickles() if "safetensors" in str(error) else model.not_found(error)) from None
    if report["missing_keys"]:
        raise ValueError(f"{model.name} lacks weights, {min(report['missing_keys'])} among them: export it anew.")
    require_finite(network, model.name)
    return network


def require_finite(network: nn.Module, name: str) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        ValueError: If one is.
    """
    for key, weight in network.named_parameters():
        if not all(bound.isfinite() for bound in weight.detach().aminmax()):
            raise ValueError(
                f"{name} has weights that are NaN or infinite in {str(weight.dtype).removeprefix('torch.')}, {key} "
                "among them: get the file anew, or choose dtype float32 if float16 is too narrow for them."
            )


def _preprocessing(kind: Any, source: Source) -> Any:  # noqa: ANN401
    try:
        return source.load(kind)
    except OSError as error:
        raise source.no_preprocessing(error) from None


def _pixels(source: Source) -> CLIPPixels:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPPixels.of(_preprocessing(CLIPImageProcessorPil, source))
