"""JPEG compressibility, its opposite, and a size to aim at."""

from __future__ import annotations

import math

from torch import Tensor

from rewards.jpeg_reward import JPEGReward, Subsampling


class JPEGCompressibility(JPEGReward):
    """Minus the size in kilobytes of the JPEG file that libjpeg writes of an image.

    The "compressibility" reward of Black et al. 2023, "Training diffusion models with reinforcement learning",
    arXiv:2305.13301, in their code's unit. Scores are below 0: at 512x512 pixels and the default quality plain grey has
    -4.7 and white noise -308. Alone it leads to blank pictures. The prompt plays no role.

    Arguments and errors are those of :class:`rewards.jpeg_reward.JPEGReward`.

    Example:
        >>> import torch
        >>> flat, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64)
        >>> scores = JPEGCompressibility(quality=95).score(torch.stack([flat, noise]), ["", ""])
        >>> bool(scores[1] < scores[0] < 0)
        True
    """

    def _judge(self, kilobytes: Tensor) -> Tensor:
        return -kilobytes


class JPEGIncompressibility(JPEGReward):
    """The size in kilobytes of the JPEG file that libjpeg writes of an image: :class:`JPEGCompressibility`, negated.

    The "incompressibility" reward of Black et al. 2023, arXiv:2305.13301. Scores are above 0.6. Alone it leads to
    noise. The prompt plays no role.

    Arguments and errors are those of :class:`rewards.jpeg_reward.JPEGReward`.

    Example:
        >>> import torch
        >>> flat, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64)
        >>> scores = JPEGIncompressibility().score(torch.stack([flat, noise]), ["", ""])
        >>> bool(scores[1] > scores[0] > 0.6)
        True
    """

    def _judge(self, kilobytes: Tensor) -> Tensor:
        return kilobytes


class JPEGSize(JPEGReward):
    """Minus the distance in kilobytes between the size of an image's JPEG file and a target; the best score is 0.

    It holds the amount of detail where the two above drive it to an end. The prompt plays no role.

    Args:
        target: Kilobytes, 1 kB = 1000 bytes. Sizes grow with the number of pixels: measure those of pictures you like
            by :func:`rewards.jpeg_reward.jpeg_kilobytes`.
        quality: JPEG quality from 1 to 100.
        subsampling: Chroma subsampling.
        workers: Number of encoding threads; by default a few more than there are cores.

    Raises:
        ValueError: If the target is not above 0 or infinite, or another argument is none of those of
            :class:`rewards.jpeg_reward.JPEGReward`.

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

    def _judge(self, kilobytes: Tensor) -> Tensor:
        return -(kilobytes - self.target).abs()
