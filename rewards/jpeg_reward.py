"""What rewards on JPEG files share: the size of the file that libjpeg writes of an image."""

from __future__ import annotations

import abc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.eight_bit import to_eight_bit

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


class JPEGReward(Reward, abc.ABC):
    """A function of the JPEG file's size in kilobytes, 1 kB = 1000 bytes; no gradient reaches the pixels.

    A subclass says the function. Plain grey has 4.7 kB and white noise 308 at 512x512 pixels and the default quality;
    the headers alone take about 0.6 kB.

    Args:
        quality: JPEG quality from 1 to 100.
        subsampling: Chroma subsampling; "4:2:0", as Pillow does by default, halves both sides of the colour planes.
        workers: Number of encoding threads; by default a few more than there are cores.

    Raises:
        ValueError: If an argument is none of those.
    """

    on_cpu: ClassVar[bool] = True

    def __init__(self, quality: int = 95, subsampling: Subsampling = "4:2:0", workers: int | None = None) -> None:
        super().__init__()
        if not 1 <= quality <= 100 or quality != int(quality):
            raise ValueError(f"quality is {quality}: JPEG knows the whole numbers 1 (smallest file) to 100 (largest).")
        if subsampling not in get_args(Subsampling):
            raise ValueError(f"subsampling is {subsampling!r}: choose one of {', '.join(get_args(Subsampling))}.")
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}: give at least 1 thread, or None for as many as suit the machine.")
        self.quality, self.subsampling, self.workers = int(quality), subsampling, workers

    @abc.abstractmethod
    def _judge(self, kilobytes: Tensor) -> Tensor:
        """Scores (B,) of files of these sizes (B,)."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values; pixels are rounded to 8 bits.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        return self._judge(jpeg_kilobytes(images, self.quality, self.subsampling, self.workers))


def jpeg_kilobytes(
    images: Tensor, quality: int = 95, subsampling: Subsampling = "4:2:0", workers: int | None = None
) -> Tensor:
    """Size of each image's JPEG file.

    Args:
        images: ``(B, 3, H, W)`` floats in ``[0, 1]``, rounded to 8 bits.
        quality: As in :class:`JPEGReward`, like the others.
        subsampling: See there.
        workers: See there.

    Returns:
        ``(B,)`` float32 kilobytes on the images' device.
    """
    encoded = partial(_encoded_bytes, quality=quality, subsampling=subsampling)
    # Pillow lets go of the GIL while it encodes. The pool lives for one call, so that rewards can be pickled.
    with ThreadPoolExecutor(workers) as pool:
        return (
            torch.tensor(list(pool.map(encoded, to_eight_bit(images))), dtype=torch.float32, device=images.device)
            / 1000
        )


def _encoded_bytes(pixels: np.ndarray, quality: int, subsampling: Subsampling) -> int:
    """Bytes of the JPEG of ``(H, W, 3)`` 8-bit pixels."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.tell()
