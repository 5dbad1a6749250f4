"""JPEG compressibility, its opposite, and distance to a wanted file size."""

from __future__ import annotations

import abc
import math
from typing import ClassVar

from torch import Tensor

from rewards.base import Reward, require_batch
from rewards.checks import require_choice
from rewards.functional import Subsampling, jpeg_kilobytes


class JPEGReward(Reward, abc.ABC):
    """A function of the size of an image's JPEG file, see :func:`rewards.functional.jpeg_kilobytes`.

    A subclass writes the function. The prompt plays no role. No gradient reaches the pixels.

    Args:
        quality: JPEG quality from 1 to 100.
        subsampling: Chroma subsampling. "4:2:0", Pillow's default, halves both sides of the colour planes.
        workers: Number of encoding threads; by default a few more than there are cores.

    Raises:
        ValueError: If an argument is none of those.
    """

    on_cpu: ClassVar[bool] = True

    def __init__(self, quality: int = 95, subsampling: Subsampling = "4:2:0", workers: int | None = None) -> None:
        super().__init__()
        if not 1 <= quality <= 100 or quality != int(quality):
            raise ValueError(f"quality is {quality}: give a whole number from 1 (smallest file) to 100 (largest).")
        require_choice("subsampling", subsampling, Subsampling)
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}: give at least 1 thread, or None for as many as suit the machine.")
        self.quality, self.subsampling, self.workers = int(quality), subsampling, workers

    @abc.abstractmethod
    def _value(self, kilobytes: Tensor) -> Tensor:
        """Scores ``(B,)`` of files of these sizes ``(B,)``."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Score ``(B, 3, H, W)`` images in ``[0, 1]`` as ``(B,)`` float32 values; pixels are rounded to 8 bits.

        Raises:
            TypeError, ValueError: See :func:`rewards.base.require_batch`.
        """
        require_batch(images, prompts)
        return self._value(jpeg_kilobytes(images, self.quality, self.subsampling, self.workers))


class JPEGCompressibility(JPEGReward):
    """Minus the size in kilobytes of the JPEG file that libjpeg writes of an image.

    This is the "compressibility" reward of Black et al. 2023, "Training diffusion models with reinforcement learning",
    arXiv:2305.13301, in the unit of their code. Scores are below 0: at 512x512 pixels and the default quality plain
    grey has -4.7 and white noise -308. Alone it leads to blank pictures.

    Arguments and errors are those of :class:`JPEGReward`.

    Example:
        >>> import torch
        >>> flat, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64)
        >>> scores = JPEGCompressibility(quality=95).score(torch.stack([flat, noise]), ["", ""])
        >>> bool(scores[1] < scores[0] < 0)
        True
    """

    def _value(self, kilobytes: Tensor) -> Tensor:
        return -kilobytes


class JPEGIncompressibility(JPEGReward):
    """Size in kilobytes of the JPEG file that libjpeg writes of an image.

    This is the "incompressibility" reward of Black et al. 2023, arXiv:2305.13301, in the unit of their code. Scores
    are above 0.6. Alone it leads to noise.

    Arguments and errors are those of :class:`JPEGReward`.

    Example:
        >>> import torch
        >>> flat, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64)
        >>> scores = JPEGIncompressibility().score(torch.stack([flat, noise]), ["", ""])
        >>> bool(scores[1] > scores[0] > 0.6)
        True
    """

    def _value(self, kilobytes: Tensor) -> Tensor:
        return kilobytes


class JPEGSize(JPEGReward):
    """Minus the distance in kilobytes between the size of an image's JPEG file and a target; the best score is 0.

    It holds the amount of detail at a level, where the two rewards above drive it to an end.

    Args:
        target: Kilobytes, 1 kB = 1000 bytes. Sizes grow with the number of pixels: measure those of pictures that you
            like by :func:`rewards.functional.jpeg_kilobytes`.
        quality: JPEG quality from 1 to 100.
        subsampling: Chroma subsampling.
        workers: Number of encoding threads; by default a few more than there are cores.

    Raises:
        ValueError: If the target is not a finite number above 0, or another argument is none of those of
            :class:`JPEGReward`.

    Example:
        >>> import torch
        >>> flat, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64)
        >>> scores = JPEGSize(target=1.0).score(torch.stack([flat, noise]), ["", ""])
        >>> bool(scores[1] < scores[0] < 0)
        True
    """

    def __init__(
        self, target: float, quality: int = 95, subsampling: Subsampling = "4:2:0", workers: int | None = None
    ) -> None:
        super().__init__(quality, subsampling, workers)
        if not 0 < target < math.inf:
            raise ValueError(f"target is {target}: give a size in kilobytes above 0.")
        self.target = target

    def _value(self, kilobytes: Tensor) -> Tensor:
        return -(kilobytes - self.target).abs()
