"""How different pictures are from each other."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from srsoup_lightning.pareto.base import FrontMean, require_points

SIDE = 64
Embedding = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) in [0, 1] to vectors (B, D) whose Euclidean distance says how different they are."""


def thumbnails(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) as vectors (B, D) whose distance is the root mean square difference of their pixels.

    Images of more than 64 pixels a side are averaged down to 64 first: grain counts little, and memory stays small.

    Raises:
        ValueError: Images of another shape.
    """
    if images.ndim != 4:
        raise ValueError(f"images are {tuple(images.shape)}: give (B, 3, H, W)")
    height, width = images.shape[2:]
    small = functional.adaptive_avg_pool2d(images, (min(height, SIDE), min(width, SIDE))).flatten(1)
    return small / small.shape[1] ** 0.5


def mean_distance(vectors: Tensor) -> float:
    """Mean Euclidean distance over all pairs of rows of vectors (P, D); 0 where all are one.

    Raises:
        ValueError: Fewer than two rows, or a number that isn't finite.
    """
    require_points(vectors)
    if len(vectors) < 2:
        raise ValueError("a single picture has no distance to others: give at least two")
    return float(functional.pdist(vectors.detach().double()).mean())


class Diversity(FrontMean):
    """Mean over fronts of the mean distance between their pictures.

    Args:
        embedding: Images (P, 3, H, W) to vectors (P, D) whose Euclidean distance counts: pixels by default, or the
            features of a network, for instance normalised image features of CLIP.
    """

    def __init__(self, embedding: Embedding = thumbnails) -> None:
        super().__init__()
        self.embedding = embedding

    def update(self, images: Tensor) -> None:
        """Add the pictures (P, 3, H, W) of one front, in [0, 1].

        Raises:
            ValueError: Fewer than two, or an embedding that isn't finite.
        """
        self.add(mean_distance(self.embedding(images)))
