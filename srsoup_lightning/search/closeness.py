"""How close trajectories are: when a borrowed search gradient is as good as an own one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from srsoup_lightning.search.gradient import bhattacharyya

if TYPE_CHECKING:
    from srsoup_lightning.search.sharing import StepState

Measure = Literal["previews", "means"]


def preview_closeness(previews: Tensor) -> Tensor:
    """``exp(-|a - b|^2 / d)`` for every pair of clean latents (P, *shape): (P, P) in [0, 1], 1 where they agree.

    Latents have about unit variance, so unrelated pictures come to ``exp(-2)`` or less.
    """
    flat = previews.flatten(1)
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.exp(-distance.square() / flat.shape[1])


def closeness(standing: StepState, measure: Measure) -> Tensor:
    """How close every pair of trajectories is, symmetric (P, P) in [0, 1], 1 where they agree.

    Args:
        standing: Where they stand.
        measure: "previews" compares the pictures they are heading for, see :func:`preview_closeness`; "means" takes the
            Bhattacharyya coefficient per dimension of their transitions, which falls with sigma whatever they do.
    """
    if measure == "means":
        return bhattacharyya(standing.means, standing.means, standing.sigma)
    return standing.preview_closeness


def require_measure(measure: str) -> None:
    """A measure is one that :func:`closeness` knows.

    Raises:
        ValueError: It isn't.
    """
    if measure not in get_args(Measure):
        raise ValueError(f"measure {measure!r} is unknown: choose from {', '.join(get_args(Measure))}")
