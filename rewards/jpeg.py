"""JPEG compressibility: how few bytes an image needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.eight_bit import eight_bit

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


class JPEGCompressibility(Reward):
    """Minus the size in kilobytes of the JPEG file that libjpeg writes of an image.

    The "compressibility" reward of Black et al. 2023, "Training diffusion models with reinforcement learning",
    arXiv:2305.13301, in their code's unit: 1 kB = 1000 bytes. Scores are below 0: at 512x512 pixels and the
    default quality plain grey has -4.7 and white noise -308; the headers alone cost about 0.6 kB. The prompt plays no
    role, and no gradient reaches the pixels.

    Args:
        quality: JPEG quality from 1 to 100.
        subsampling: Chroma subsampling; "4:2:0", as Pillow does by default, halves both sides of the colour planes.
        workers: Number of encoding threads; by default a few more than there are cores.

    Raises:
        ValueError: If an argument is none of those.

    Example:
        >>> import torch
        >>> flat, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64)
        >>> scores = JPEGCompressibility(quality=95).score(torch.stack([flat, noise]), ["", ""])
        >>> bool(scores[1] < scores[0] < 0)
        True
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

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` negative kilobytes; pixels are rounded to 8 bits.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        # Pillow lets go of the GIL while it encodes. The pool lives for one call, so that the reward can be pickled.
        with ThreadPoolExecutor(self.workers) as pool:
            sizes = list(pool.map(self._encoded_bytes, eight_bit(images)))
        return torch.tensor(sizes, dtype=torch.float32, device=images.device) / -1000

    def _encoded_bytes(self, pixels: np.ndarray) -> int:
        """Bytes of the JPEG of ``(H, W, 3)`` 8-bit pixels."""
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality, subsampling=self.subsampling)
        return file.tell()
