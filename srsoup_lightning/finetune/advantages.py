"""Advantages: rewards of samples, compared with those of other samples of their prompt. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Spread = Literal["group", "round"]
Buffers = dict[str, list[float]]
"""Latest values of each prompt, the newest last."""


def group_relative(values: Sequence[Tensor], spread: Spread = "round", eps: float = 1e-4) -> list[Tensor]:
    """Return ``(r - mean of the group) / (std + eps)`` for each group.

    Liu et al. 2025 (Flow-GRPO), arXiv:2505.05470, equation 6.

    Args:
        values: Values (S,) of the samples of each group.
        spread: The standard deviation is that of the group, as in the paper, or that of all values of the round. With
            the latter, groups whose values hardly differ weigh little.
        eps: Number that is added to the standard deviation.
    """
    overall = torch.cat(list(values)).std(correction=0)
    return [
        (group - group.mean()) / ((group.std(correction=0) if spread == "group" else overall) + eps) for group in values
    ]


def tracked(
    prompts: Sequence[str],
    values: Sequence[Tensor],
    buffers: Buffers,
    *,
    size: int = 32,
    least: int = 16,
    eps: float = 1e-6,
) -> list[Tensor]:
    """Return ``(r - mean) / (std + eps)`` with the statistics of each prompt's latest values.

    Black et al. 2023 (DDPO), arXiv:2305.13301, section 4.3. A prompt with few values takes the statistics of the round.

    Args:
        prompts: Prompt of each group.
        values: Values (S,) of the samples of each group.
        buffers: Latest values of each prompt. The values of this round are appended, before they are counted.
        size: Largest number of values that a buffer keeps.
        least: Number of values from which on the buffer is used.
        eps: Number that is added to the standard deviation.
    """
    everything = torch.cat(list(values))
    for prompt, group in zip(prompts, values, strict=True):
        buffers[prompt] = [*buffers.get(prompt, []), *group.tolist()][-size:]
    advantages = []
    for prompt, group in zip(prompts, values, strict=True):
        known = torch.tensor(buffers[prompt], dtype=torch.float32) if len(buffers[prompt]) >= least else everything
        advantages.append((group - known.mean()) / (known.std(correction=0) + eps))
    return advantages


def of_the_front(advantages: Sequence[Tensor], rewards: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the advantages of the samples on the front of their group, and 0 for all others.

    A sample is on the front if no other one is at least as good by all weighted rewards, and better by one. The
    advantages of a group of S samples with F on the front are multiplied by S / F, so that their mean is that over the
    front: Lee et al. 2024 (Parrot), arXiv:2401.05675.

    Args:
        advantages: Advantages (S,) of the samples of each group.
        rewards: Rewards (S, M) of these samples.
        weights: Weights (M,) of the preference of each group.
    """
    kept = []
    for own, scores, weighed in zip(advantages, rewards, weights, strict=True):
        columns = scores[:, weighed > 0]
        no_worse = (columns.unsqueeze(0) >= columns.unsqueeze(1)).all(2)
        better = (columns.unsqueeze(0) > columns.unsqueeze(1)).any(2)
        front = ~(no_worse & better).any(1)
        kept.append(own * front * (len(own) / front.sum()))
    return kept


def decoupled(rewards: Sequence[Tensor], weights: Sequence[Tensor], eps: float = 1e-4) -> list[Tensor]:
    """Return the weighted sum of each reward's own advantages, whitened over the round (GDPO, arXiv:2601.05242).

    Each reward is compared within its group before the rewards are added. So a reward of wide spread does not drown the
    others. A reward that is constant in a group adds nothing there.

    Args:
        rewards: Rewards (S, M) of the samples of each group.
        weights: Weights (M,) of the preference of each group.
        eps: Number that is added to the standard deviations.
    """
    own = [(group - group.mean(0)) / (group.std(0, correction=0) + eps) for group in rewards]
    sums = [group @ each for group, each in zip(own, weights, strict=True)]
    everything = torch.cat(sums)
    return [(each - everything.mean()) / (everything.std(correction=0) + eps) for each in sums]
