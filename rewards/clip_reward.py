"""Base class of rewards on a CLIP or SigLIP network: unit embeddings of images and prompts, and their cosine."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from rewards.base import Reward, at_least_float32, require_batch
from rewards.networks.clip import CLIP, SIGLIP, LoadedCLIP, load_clip
from rewards.networks.clip_pixels import CLIPPixels
from rewards.networks.loading import Dtype
from rewards.networks.source import Source

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPVisionModelWithProjection, PreTrainedModel, SiglipModel


class CLIPReward(Reward, abc.ABC):
    """A constant times the cosine between a network's embeddings of an image and of its prompt.

    A subclass loads the model by :func:`load_clip_from` and writes the constant. Gradients reach the pixels. Prompts
    longer than the network's text length are cut.

    Args:
        loaded: Network, tokenizer and image preprocessing.
    """

    is_differentiable = True

    def __init__(self, loaded: LoadedCLIP) -> None:
        super().__init__(loaded.network)
        self._tokenizer, self._pixels = loaded.tokenizer, loaded.pixels
        self._texts: dict[str, Tensor] = {}

    @abc.abstractmethod
    def _scale(self) -> float | Tensor:
        """The factor on the cosine."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` of any size as ``(B,)`` float32 values, see the class.

        The embeddings of the prompts are kept for the next call.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        with torch.autocast(self.device.type, enabled=False):
            pictures, texts = embed_images(self._clip, self._pixels, images), self._embed_prompts(prompts)
            scores = self._scale() * (pictures * texts).sum(-1)
        return scores.float().to(images.device)

    @property
    def _clip(self) -> CLIPModel | SiglipModel:
        return cast("CLIPModel | SiglipModel", self.networks[0])

    @torch.no_grad()
    def _embed_prompts(self, prompts: list[str]) -> Tensor:
        """Unit vectors (B, D) of B prompts."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        texts = dict(self._texts)
        if missing:
            features = self._clip.get_text_features(**self._tokenize(missing))
            # Some releases return the projected vectors alone.
            texts |= dict(zip(missing, _unit(getattr(features, "pooler_output", features)), strict=True))
        self._texts = {prompt: texts[prompt] for prompt in prompts}
        return torch.stack([texts[prompt] for prompt in prompts]).to(self.device)

    def _tokenize(self, prompts: list[str]) -> dict[str, Tensor]:
        options = {"truncation": True, "return_tensors": "pt"}
        if self._clip.config.model_type == SIGLIP:
            # SigLIP was trained on lower-case texts of one length, with attention to the padding. Gemma's tokenizer,
            # which SigLIP 2 may come with, does not lower the case.
            lower = [prompt.lower() for prompt in prompts]
            return {"input_ids": self._tokenizer(lower, padding="max_length", **options)["input_ids"].to(self.device)}
        tokens = self._tokenizer(prompts, padding=True, **options).to(self.device)
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}


def load_clip_from(
    model: str | Path,
    dtype: Dtype,
    revision: str | None,
    processor: str | Path | None,
    processor_revision: str | None,
    official: str | None = None,
    allowed: tuple[str, ...] = (CLIP,),
) -> LoadedCLIP:
    """Load a model as the arguments of a reward name it.

    Args:
        model: Hub id, local folder or builtin name.
        dtype: Precision of the network.
        revision: Revision of the model.
        processor: Hub id, local folder or builtin name of tokenizer and image preprocessing.
        processor_revision: Revision of the processor.
        official: The processor of models from the hub if none is named; None for the model's own.
        allowed: The accepted model types, see :func:`rewards.networks.clip.load_clip`.

    Raises:
        FileNotFoundError, ValueError, ModuleNotFoundError: See :func:`rewards.networks.clip.load_clip`.
    """
    network = Source(str(model), revision)
    name = processor or (official if network.folder is None else None)
    if name is None and processor_revision is not None:
        raise ValueError(f"processor_revision is {processor_revision!r} without a processor: name that as well.")
    return load_clip(network, dtype, None if name is None else Source(str(name), processor_revision), allowed)


def embed_images(
    network: CLIPModel | CLIPVisionModelWithProjection | SiglipModel, pixels: CLIPPixels, images: Tensor
) -> Tensor:
    """Unit vectors (B, D) of images (B, 3, H, W), in at least float32, on the network's device."""
    pooled = network.vision_model(pixel_values=pixel_values(network, pixels, images)).pooler_output
    # SigLIP compares the pooled image without a projection.
    return _unit(pooled if network.config.model_type == SIGLIP else network.visual_projection(pooled))


def pixel_values(network: PreTrainedModel, pixels: CLIPPixels, images: Tensor) -> Tensor:
    """The network's input for images (B, 3, H, W): preprocessed in at least float32, in its dtype, on its device."""
    precise = torch.promote_types(network.dtype, torch.float32)
    return pixels(images.to(network.device, precise)).to(network.dtype)


def _unit(features: Tensor) -> Tensor:
    return nn.functional.normalize(at_least_float32(features), dim=-1)
