"""Pairs of a winner and a loser among ranked pictures, and the margin that direct preference optimisation learns."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Match = Literal["extremes", "mirrored", "all"]


class Matched(NamedTuple):
    """Pairs of some samples.

    Attributes:
        winner: Indices (P,) of the winners.
        loser: Indices (P,) of the losers.
        decided: Whether the winner is better, bool (P,). The others are equally good, and no pair.
    """

    winner: Tensor
    loser: Tensor
    decided: Tensor


def number_of_pairs(members: int, match: Match) -> int:
    """Return the number of pairs that :func:`matched` makes of S samples."""
    return {"extremes": 1, "mirrored": members // 2, "all": members * (members - 1) // 2}[match]


def matched(values: Tensor, match: Match) -> Matched:
    """Make pairs of S samples, at least 2.

    Args:
        values: Values (S,).
        match: "extremes" pairs the best sample with the worst one. "mirrored" also pairs the second best with the
            second worst, and so on, so that each sample is in one pair at most. "all" pairs each sample with each.
    """
    order, members = values.argsort(descending=True, stable=True), len(values)
    if match == "all":
        better, worse = torch.triu_indices(members, members, offset=1).unbind()
    else:
        better = torch.arange(number_of_pairs(members, match))
        worse = members - 1 - better
    winner, loser = order[better], order[worse]
    return Matched(winner, loser, values[winner] > values[loser])


def margins(error: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Return ``-beta / 2 ((e_w - e_l) - (e_w' - e_l'))``, (...): how much more winners are preferred than before.

    It is the logit of the winner's probability in Wallace et al. 2023 (Diffusion-DPO), arXiv:2311.12908, equation 14,
    as their code has it.

    Args:
        error: Errors (2, ...) in winners and losers, each the mean over the d numbers of a latent.
        reference: Errors (2, ...) of the base model or of the noise at the start, e'.
        beta: Weight of the divergence from the reference.
    """
    winner, loser = error - reference
    return -0.5 * beta * (winner - loser)
