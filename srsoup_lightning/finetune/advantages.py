"""Advantages: rewards of samples, compared with those of other samples of their prompt. Pure functions.

Each reward is compared on its own. So one comparison has the advantages of its samples for every preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Spread = Literal["group", "round"]
Buffers = dict[str, list[list[float]]]
"""Latest rewards of each prompt, the newest last."""


class Compared(NamedTuple):
    """Rewards of the S samples of a group, compared with others.

    Attributes:
        deviations: Differences from the mean of each reward, (S, M).
        covariance: Covariance (M, M) of the rewards that they are compared with.
        eps: Number that is added to standard deviations.
    """

    deviations: Tensor
    covariance: Tensor
    eps: float

    def rows(self, rows: slice) -> Compared:
        """Return the comparison of some samples."""
        return self._replace(deviations=self.deviations[rows])

    def advantages(self, weights: Tensor) -> Tensor:
        """Return ``w . deviations / (sqrt(w . covariance . w) + eps)``, (S,): weighted sums in units of their spread.

        Args:
            weights: Weights (M,) of one preference, or (S, M) of one for each sample.
        """
        weights = weights.to(self.covariance)
        spread = (weights @ self.covariance * weights).sum(-1).clamp(min=0).sqrt()
        return (self.deviations * weights).sum(-1) / (spread + self.eps)


def group_relative(rewards: Sequence[Tensor], spread: Spread = "round", eps: float = 1e-4) -> list[Compared]:
    """Compare each sample with its group: ``(r - mean of the group) / (std + eps)``.

    Liu et al. 2025 (Flow-GRPO), arXiv:2505.05470, equation 6.

    Args:
        rewards: Rewards (S, M) of the samples of each group, in units that make them alike.
        spread: The standard deviation is that of the group, as in the paper, or that of all samples of the round. With
            the latter, groups whose values hardly differ weigh little.
        eps: Number that is added to the standard deviation.
    """
    overall = covariance(torch.cat(list(rewards)))
    return [
        Compared(group - group.mean(0), covariance(group) if spread == "group" else overall, eps) for group in rewards
    ]


def tracked(
    prompts: Sequence[str],
    rewards: Sequence[Tensor],
    buffers: Buffers,
    *,
    size: int = 32,
    least: int = 16,
    eps: float = 1e-6,
) -> list[Compared]:
    """Compare each sample with the latest ones of its prompt: ``(r - mean) / (std + eps)``.

    Black et al. 2023 (DDPO), arXiv:2305.13301, section 4.3. A prompt with few samples takes the statistics of the
    round.

    Args:
        prompts: Prompt of each group.
        rewards: Rewards (S, M) of the samples of each group, in units that make them alike.
        buffers: Latest rewards of each prompt. Those of this round are appended, before they are counted.
        size: Largest number of samples that a buffer keeps.
        least: Number of samples from which on the buffer is used.
        eps: Number that is added to the standard deviation.
    """
    everything = torch.cat(list(rewards))
    for prompt, group in zip(prompts, rewards, strict=True):
        buffers[prompt] = [*buffers.get(prompt, []), *group.tolist()][-size:]
    found = []
    for prompt, group in zip(prompts, rewards, strict=True):
        known = group.new_tensor(buffers[prompt]) if len(buffers[prompt]) >= least else everything
        found.append(Compared(group - known.mean(0), covariance(known), eps))
    return found


def decoupled(rewards: Sequence[Tensor], eps: float = 1e-4) -> list[Compared]:
    """Standardise each reward within its group, and whiten the weighted sums over the round (GDPO, arXiv:2601.05242).

    Each reward is compared within its group before the rewards are added. So a reward of wide spread does not drown the
    others. A reward that is constant in a group adds nothing there.

    Args:
        rewards: Rewards (S, M) of the samples of each group.
        eps: Number that is added to the standard deviations.
    """
    own = [(group - group.mean(0)) / (group.std(0, correction=0) + eps) for group in rewards]
    overall = covariance(torch.cat(own))
    return [Compared(group, overall, eps) for group in own]


def of_the_front(compared: Sequence[Compared], rewards: Sequence[Tensor], weighted: Tensor) -> list[Compared]:
    """Leave advantages to the samples on the front of their group alone. Those of all others are 0.

    A sample is on the front if no other one is at least as good by all weighted rewards, and better by one. The
    advantages of a group of S samples with F on the front are multiplied by S / F, so that their mean is that over the
    front: Lee et al. 2024 (Parrot), arXiv:2401.05675.

    Args:
        compared: Comparison of the samples of each group.
        rewards: Rewards (S, M) of these samples.
        weighted: Whether each reward has weight, bool (M,).
    """
    kept = []
    for own, scores in zip(compared, rewards, strict=True):
        columns = scores[:, weighted]
        no_worse = (columns.unsqueeze(0) >= columns.unsqueeze(1)).all(2)
        better = (columns.unsqueeze(0) > columns.unsqueeze(1)).any(2)
        front = ~(no_worse & better).any(1)
        share = front * (len(scores) / front.sum())
        kept.append(own._replace(deviations=own.deviations * share.unsqueeze(1)))
    return kept


def covariance(rewards: Tensor) -> Tensor:
    """Return the covariance (M, M) of rewards (K, M), in float64."""
    centred = rewards.double() - rewards.double().mean(0)
    return centred.mT @ centred / len(rewards)
