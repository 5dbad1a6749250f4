"""Which latents stand apart, so that work at one point is done once."""

from __future__ import annotations

import torch
from torch import Tensor


def distinct(x: Tensor) -> tuple[Tensor, Tensor]:
    """The points that latents x (P, *shape) stand at, equal to the last bit.

    Returns:
        The rows (U,) of the first latent at each point, and each latent's point (P,), an index into them.
    """
    _, place = torch.unique(x.flatten(1), dim=0, return_inverse=True)
    rows = torch.arange(len(x), device=x.device)
    first = torch.full((int(place.max()) + 1,), len(x), device=x.device).scatter_reduce(0, place, rows, "amin")
    order = first.argsort()
    return first[order], order.argsort()[place]
