"""The networks inside ImageReward's file, as transformers' BLIP classes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rewards.networks.linear_head import linear_head
from rewards.networks.loading import network_of
from rewards.networks.weight_file import require_keys

if TYPE_CHECKING:
    from transformers import BlipTextModel, BlipVisionModel

_VISION, _TEXT, _HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp."
_HEAD_WIDTH = 64
"""Channels of an attention head in all of BLIP's networks. It can't be read off the shapes of weights."""

_RENAMED = {
    r"^cls_token$": "embeddings.class_embedding",
    r"^pos_embed$": "embeddings.position_embedding",
    r"^patch_embed\.proj\.": "embeddings.patch_embedding.",
    r"^blocks\.(\d+)\.norm(\d)\.": r"encoder.layers.\1.layer_norm\2.",
    r"^blocks\.(\d+)\.attn\.proj\.": r"encoder.layers.\1.self_attn.projection.",
    r"^blocks\.(\d+)\.attn\.qkv\.": r"encoder.layers.\1.self_attn.qkv.",
    r"^blocks\.(\d+)\.mlp\.": r"encoder.layers.\1.mlp.",
    r"^norm\.": "post_layernorm.",
}
"""Names of the image encoder in the file and in transformers. Those of the text encoder are the same in both."""


class BlipScorer(NamedTuple):
    """The networks of ImageReward, in order of use."""

    vision: BlipVisionModel
    text: BlipTextModel
    head: nn.Module


def blip_scorer(weights: dict[str, Tensor], dtype: torch.dtype, name: str) -> BlipScorer:
    """Build the networks from the file's weights; their sizes are read off the shapes.

    Args:
        weights: The official keys, "blip.visual_encoder.*", "blip.text_encoder.*" and "mlp.layers.*"; others, such as
            the projections of BLIP's training, are ignored.
        dtype: Precision of the encoders; the head is at least float32.
        name: Origin of the weights, for errors.

    Raises:
        ValueError: If weights are missing, of other shapes or not finite.
    """
    from transformers import BlipTextModel, BlipVisionModel

    vision, text, head = (_part(weights, prefix, name) for prefix in (_VISION, _TEXT, _HEAD))
    vision = {_renamed(key): weight for key, weight in vision.items()}
    looking = network_of(BlipVisionModel, _vision_config(vision, name), vision, dtype, name)
    config = _text_config(text, looking.config.hidden_size, name)
    reading = network_of(BlipTextModel, config, text, dtype, name, add_pooling_layer=False)
    layers = linear_head(head, reading.config.hidden_size, name)
    return BlipScorer(looking, reading, layers.to(torch.promote_types(dtype, torch.float32)))


def _part(weights: dict[str, Tensor], prefix: str, name: str) -> dict[str, Tensor]:
    part = {key.removeprefix(prefix): weight for key, weight in weights.items() if key.startswith(prefix)}
    if not part:
        raise ValueError(f"{name} has no keys {prefix}*: give ImageReward's official file, or one with the same keys.")
    return part


def _renamed(key: str) -> str:
    for old, new in _RENAMED.items():
        key = re.sub(old, new, key)
    return key


def _vision_config(weights: dict[str, Tensor], name: str) -> Any:  # noqa: ANN401
    from transformers import BlipVisionConfig

    patches, positions, feed = require_keys(
        weights,
        ("embeddings.patch_embedding.weight", "embeddings.position_embedding", "encoder.layers.0.mlp.fc1.weight"),
        name,
    )
    width, _, _, patch = patches.shape
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(feed),
        num_hidden_layers=_layers(weights, "encoder.layers."),
        num_attention_heads=_heads(width, name),
        image_size=patch * math.isqrt(positions.shape[1] - 1),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def _text_config(weights: dict[str, Tensor], seen: int, name: str) -> Any:  # noqa: ANN401
    from transformers import BlipTextConfig

    words, positions, feed = require_keys(
        weights,
        (
            "embeddings.word_embeddings.weight",
            "embeddings.position_embeddings.weight",
            "encoder.layer.0.intermediate.dense.weight",
        ),
        name,
    )
    tokens, width = words.shape
    return BlipTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        encoder_hidden_size=seen,
        intermediate_size=len(feed),
        num_hidden_layers=_layers(weights, "encoder.layer."),
        num_attention_heads=_heads(width, name),
        max_position_embeddings=len(positions),
        layer_norm_eps=1e-12,
        bos_token_id=None,
        sep_token_id=None,
    )


def _layers(weights: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(key.removeprefix(prefix).split(".")[0]) for key in weights if key.startswith(prefix))


def _heads(width: int, name: str) -> int:
    if width % _HEAD_WIDTH:
        raise ValueError(f"{name} has a network of width {width}: BLIP's attention heads have {_HEAD_WIDTH} each.")
    return width // _HEAD_WIDTH
