"""Loading CLIP models and SigLIP ones: network, tokenizer and image preprocessing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rewards.networks.clip_pixels import CLIPPixels
from rewards.networks.loading import Dtype, load_config, load_network, load_preprocessing
from rewards.networks.source import Source

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPVisionModelWithProjection, PreTrainedTokenizerBase, SiglipModel

CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""Hub id of the processor of CLIP ViT-H/14, from which PickScore and HPSv2 were trained."""

CLIP, SIGLIP = "clip", "siglip"
"""Model types in configurations. SigLIP 2 of fixed resolution has the type of SigLIP."""


class LoadedCLIP(NamedTuple):
    """A CLIP or SigLIP model ready for use. The tokenizer truncates at the length of the text tower."""

    network: CLIPModel | SiglipModel
    tokenizer: PreTrainedTokenizerBase
    pixels: CLIPPixels


class LoadedCLIPVision(NamedTuple):
    """The image side of a CLIP model."""

    network: CLIPVisionModelWithProjection
    pixels: CLIPPixels


def load_clip(
    model: Source, dtype: Dtype, processor: Source | None = None, allowed: tuple[str, ...] = (CLIP,)
) -> LoadedCLIP:
    """Load both towers.

    Args:
        model: Source of the network.
        dtype: Precision of the network.
        processor: Source of tokenizer and image preprocessing; None for that of the network.
        allowed: The accepted model types, of CLIP and SIGLIP.

    Raises:
        FileNotFoundError: If there is no such model or no preprocessing.
        ValueError: If it is no such model with complete, finite safetensors weights, or the dtype is unknown.
        ModuleNotFoundError: If transformers, or a package that the tokenizer needs, is not installed.
    """
    config = load_config(model, allowed)
    from transformers import AutoModel

    return with_processor(load_network(AutoModel, model, dtype, config), processor or model)


def with_processor(network: CLIPModel | SiglipModel, processor: Source) -> LoadedCLIP:
    """The network with tokenizer and image preprocessing of another source; errors as in :func:`load_clip`."""
    from transformers import AutoTokenizer

    tokenizer = load_preprocessing(AutoTokenizer, processor)
    tokenizer.model_max_length = min(tokenizer.model_max_length, network.config.text_config.max_position_embeddings)
    return LoadedCLIP(network, tokenizer, _pixels(processor, network.config.model_type))


def load_clip_vision(model: Source, dtype: Dtype) -> LoadedCLIPVision:
    """Load only the image tower of a CLIP model and its projection; arguments and errors as in :func:`load_clip`."""
    config = load_config(model, (CLIP, "clip_vision_model"))
    from transformers import CLIPVisionModelWithProjection

    if config.model_type == CLIP:
        config.vision_config.projection_dim = config.projection_dim
        config = config.vision_config
    network = load_network(CLIPVisionModelWithProjection, model, dtype, config)
    return LoadedCLIPVision(network, _pixels(model, CLIP))


def _pixels(source: Source, model_type: str) -> CLIPPixels:
    # Pillow's variants hold the same settings as torchvision's and need no torchvision.
    if model_type == SIGLIP:
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil as Processor
    else:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Processor
    return CLIPPixels.of(load_preprocessing(Processor, source))
