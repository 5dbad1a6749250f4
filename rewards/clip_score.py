"""CLIPScore: how well an image fits its prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn

from rewards.base import Reward, at_least_float32, require_batch
from rewards.clip_loading import load_clip

if TYPE_CHECKING:
    from transformers import CLIPModel

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


class CLIPScore(Reward):
    """100 times the cosine between CLIP's embeddings of an image and of its prompt.

    Hessel et al. 2021, "CLIPScore: a reference-free evaluation metric for image captioning", arXiv:2104.08718, define
    ``2.5 max(cos, 0)``; this is ``100 cos`` without clamp, the unit of torchmetrics' ``CLIPScore``. Values lie in
    ``[-100, 100]``, with OpenAI's networks mostly between 10 and 40. Gradients reach the pixels. Prompts longer than
    the network's text length are cut.

    Args:
        model: Hub id or local folder of a ``CLIPModel`` with safetensors weights, or the name of a shipped checkpoint
            such as "tiny-clip".
        dtype: Precision of the network; autocast around a call doesn't change it. Scores are float32.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If the folder is no CLIP model with complete safetensors weights, or the dtype is none of those.
        ModuleNotFoundError: If transformers is not installed.

    Example:
        >>> clip = CLIPScore("openai/clip-vit-base-patch32")  # doctest: +SKIP
        >>> clip.score(torch.rand(1, 3, 512, 512), ["coloured noise"]).shape  # doctest: +SKIP
        torch.Size([1])
    """

    is_differentiable = True

    def __init__(self, model: str | Path = "openai/clip-vit-large-patch14", dtype: Dtype = "float32") -> None:
        if dtype not in get_args(Dtype):
            raise ValueError(f"dtype is {dtype!r}: choose one of {', '.join(get_args(Dtype))}.")
        loaded = load_clip(str(model), getattr(torch, dtype))
        super().__init__(loaded.network)
        self._tokenizer, self._pixels = loaded.tokenizer, loaded.pixels
        self._texts: dict[str, Tensor] = {}

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` of any size as ``(B,)`` float32 values in ``[-100, 100]``.

        The prompts' embeddings are kept until a call comes with other prompts.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        with torch.autocast(self.device.type, enabled=False):
            seen, read = self._embed_images(images), self._embed_prompts(prompts)
        return (100 * (seen * read).sum(-1)).float().to(images.device)

    @property
    def _clip(self) -> CLIPModel:
        return cast("CLIPModel", self.networks[0])

    def _embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors (B, D) of images (B, 3, H, W)."""
        precise = torch.promote_types(self._clip.dtype, torch.float32)
        pixels = self._pixels(images.to(self.device, precise)).to(self._clip.dtype)
        return _unit(self._clip.get_image_features(pixel_values=pixels))

    @torch.no_grad()
    def _embed_prompts(self, prompts: list[str]) -> Tensor:
        """Unit vectors (B, D) of B prompts."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        texts = dict(self._texts)
        if missing:
            tokens = self._tokenizer(missing, padding=True, truncation=True, return_tensors="pt").to(self.device)
            features = self._clip.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            texts |= dict(zip(missing, _unit(features), strict=True))
        self._texts = {prompt: texts[prompt] for prompt in prompts}
        return torch.stack([texts[prompt] for prompt in prompts]).to(self.device)


def _unit(features: object) -> Tensor:
    # transformers 5 returns an output object here, earlier ones the tensor; neither is normalised.
    tensor = cast("Tensor", getattr(features, "pooler_output", features))
    return nn.functional.normalize(at_least_float32(tensor), dim=-1)
