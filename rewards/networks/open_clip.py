"""CLIP networks of open_clip files, the format of HPSv2's authors, as transformers' CLIPModel."""

from __future__ import annotations

import re

from torch import Tensor

from rewards.networks.clip import CLIP, LoadedCLIP, with_processor
from rewards.networks.loading import Dtype, load_config, network_of, torch_dtype
from rewards.networks.source import Source
from rewards.networks.weight_file import read_weights

_RENAMED = {
    r"^visual\.class_embedding$": "vision_model.embeddings.class_embedding",
    r"^visual\.positional_embedding$": "vision_model.embeddings.position_embedding.weight",
    r"^visual\.conv1\.": "vision_model.embeddings.patch_embedding.",
    r"^visual\.ln_pre\.": "vision_model.pre_layrnorm.",
    r"^visual\.ln_post\.": "vision_model.post_layernorm.",
    r"^visual\.proj$": "visual_projection.weight",
    r"^visual\.transformer\.resblocks\.": "vision_model.encoder.layers.",
    r"^token_embedding\.": "text_model.embeddings.token_embedding.",
    r"^positional_embedding$": "text_model.embeddings.position_embedding.weight",
    r"^ln_final\.": "text_model.final_layer_norm.",
    r"^text_projection$": "text_projection.weight",
    r"^transformer\.resblocks\.": "text_model.encoder.layers.",
    r"\.ln_(\d)\.": r".layer_norm\1.",
    r"\.attn\.": ".self_attn.",
    r"\.mlp\.c_fc\.": ".mlp.fc1.",
    r"\.mlp\.c_proj\.": ".mlp.fc2.",
}
"""Names in the file and in transformers."""
_TRANSPOSED = ("visual_projection.weight", "text_projection.weight")
_IN = ".self_attn.in_proj_"


def load_open_clip(file: str, sha256: str | None, revision: str | None, dtype: Dtype, processor: Source) -> LoadedCLIP:
    """Load both towers.

    Args:
        file: Local file, or "organisation/repository/file" on the hub, with open_clip's keys, or with a "state_dict"
            that has them.
        sha256: Its checksum, required for pickles.
        revision: Its revision on the hub.
        dtype: Precision of the network.
        processor: Source of tokenizer, image preprocessing and the network's configuration: those of a CLIPModel of
            the same shape.

    Raises:
        FileNotFoundError: If there is no such file or no such processor.
        ValueError: If the file has no or another checksum, lacks keys, or has other shapes or weights that are not
            finite; if the dtype is unknown.
        ModuleNotFoundError: If transformers is not installed.
    """
    precision = torch_dtype(dtype)
    config = load_config(processor, (CLIP,))
    from transformers import CLIPModel

    weights = _as_transformers(read_weights(file, sha256, revision, within="state_dict"))
    return with_processor(network_of(CLIPModel, config, weights, precision, file), processor)


def _as_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, weight in weights.items():
        for old, new in _RENAMED.items():
            key = re.sub(old, new, key)
        if _IN in key:
            layer, _, kind = key.partition(_IN)
            renamed |= {
                f"{layer}.self_attn.{part}_proj.{kind}": rows
                for part, rows in zip("qkv", weight.tensor_split(3), strict=True)
            }
        else:
            renamed[key] = weight.T if key in _TRANSPOSED else weight
    return renamed
