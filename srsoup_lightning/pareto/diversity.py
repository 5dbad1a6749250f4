"""Diversity of pictures."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from srsoup_lightning.pareto.base import FrontMean, require_points

SIDE = 64
Embedding = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] to vectors (B, D) whose Euclidean distance is their difference."""


def thumbnails(images: Tensor) -> Tensor:
    """Convert images (B, 3, H, W) to vectors (B, D) whose distance is the root mean square difference of their pixels.

    Images of more than 64 pixels a side are averaged down to 64 first. So grain counts little, and memory stays small.

    Raises:
        ValueError: The images have another shape.
    """
    if images.ndim != 4:
        raise ValueError(f"images are {tuple(images.shape)}: give (B, 3, H, W)")
    height, width = images.shape[2:]
    small = functional.adaptive_avg_pool2d(images, (min(height, SIDE), min(width, SIDE))).flatten(1)
    return small / small.shape[1] ** 0.5


def mean_distance(vectors: Tensor) -> float:
    """Return the mean Euclidean distance over all pairs of P vectors (P, D); 0 where all are equal.

    Raises:
        ValueError: There are fewer than two vectors, or a number isn't finite.
    """
    require_points(vectors)
    if len(vectors) < 2:
        raise ValueError("a single picture has no distance to others: give at least two")
    return float(functional.pdist(vectors.detach().double()).mean())


class Diversity(FrontMean):
    """Mean over fronts of the mean distance between their pictures.

    Args:
        embedding: Function from images (P, 3, H, W) to vectors (P, D) whose Euclidean distance counts. It takes the
            pixels by default; another one may take features of a network, such as normalised image features of CLIP.
    """

    def __init__(self, embedding: Embedding = thumbnails) -> None:
        super().__init__()
        self.embedding = embedding

    def update(self, images: Tensor) -> None:
        """Add the pictures (P, 3, H, W) of one front, in [0, 1].

        Raises:
            ValueError: There are fewer than two, or their embedding isn't finite.
        """
        self.add(mean_distance(self.embedding(images)))
