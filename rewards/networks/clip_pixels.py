"""The image preprocessing of CLIP and SigLIP, differentiable on tensors. Their own processors take PIL images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

_MODES = {2: "bilinear", 3: "bicubic"}  # the numbers are Pillow's


@dataclass(frozen=True, kw_only=True)
class CLIPPixels:
    """Resize, centre crop (or pad), rescale and normalise.

    Resized pixels differ from the official ones by a few 255ths at most, because those are rounded to 8 bits.
    """

    size: int | tuple[int, int] | None
    """Target of the resize: the shortest edge, or height and width. None keeps the size."""
    mode: str
    """Interpolation of the resize, "bicubic" or "bilinear"; antialiased, as in Pillow."""
    crop: tuple[int, int] | None
    """Height and width of the centre crop, padded with 0 where the image is smaller. None does not crop."""
    scale: float
    """Factor on pixels in [0, 1]."""
    mean: tuple[float, ...]
    """Subtracted from each channel, after the scale."""
    std: tuple[float, ...]
    """Divides each channel."""
    pad: bool = False
    """Whether the complete image is fitted into the crop and padded with black, as in HPSv2; see :meth:`padded`."""

    @classmethod
    def of(cls, processor: CLIPImageProcessorPil | SiglipImageProcessorPil) -> CLIPPixels:
        """Read the values from an official image processor.

        Raises:
            ValueError: If its interpolation is neither bilinear nor bicubic.
        """
        if processor.do_resize and processor.resample not in _MODES:
            raise ValueError(f"image processor has resample={processor.resample}: only 2 and 3 are supported here.")
        size = processor.size
        edges = size.get("shortest_edge") or (size["height"], size["width"])
        return cls(
            size=edges if processor.do_resize else None,
            mode=_MODES.get(processor.resample, "bicubic"),
            crop=(processor.crop_size["height"], processor.crop_size["width"]) if processor.do_center_crop else None,
            scale=255 * processor.rescale_factor if processor.do_rescale else 255.0,
            mean=tuple(processor.image_mean) if processor.do_normalize else (0.0,) * 3,
            std=tuple(processor.image_std) if processor.do_normalize else (1.0,) * 3,
        )

    def padded(self, edge: int) -> CLIPPixels:
        """The preprocessing that fits the complete image into a square: its longest side is resized to ``edge``.

        Black fills the rest, the same on both sides. Square images are framed as before. HPSv2's code resizes floats,
        so nothing is rounded to 8 bits, and overshoots of bicubic interpolation are kept.
        """
        return replace(self, size=edge, crop=(edge, edge), pad=True)

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` in ``[0, 1]`` as the network's ``pixel_values`` ``(B, 3, h, w)``."""
        height, width = images.shape[-2:]
        target = self._resized(height, width)
        if target != (height, width):
            resized = nn.functional.interpolate(images, target, mode=self.mode, antialias=True, align_corners=False)
            images = resized if self.pad else resized.clamp(0, 1)  # bicubic overshoots at edges
        if self.crop is not None:
            images = self._framed(images, *self.crop)
        mean, std = (
            torch.tensor(value, dtype=images.dtype, device=images.device).view(3, 1, 1)
            for value in (self.mean, self.std)
        )
        return (self.scale * images - mean) / std

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        if self.pad:
            scale = self.size / max(height, width)
            return max(1, round(scale * height)), max(1, round(scale * width))
        short = min(height, width)
        # The official processor rounds the long side down.
        return int(self.size * height / short), int(self.size * width / short)

    def _framed(self, images: Tensor, height: int, width: int) -> Tensor:
        """Crop and pad evenly. An odd row or column to add goes to the end in padding and to the start in the crop."""
        rows, columns = height - images.shape[-2], width - images.shape[-1]
        top, left = (rows // 2, columns // 2) if self.pad else (-(-rows // 2), -(-columns // 2))
        return nn.functional.pad(images, (left, columns - left, top, rows - top))
