"""Candidates of a step: the points that trajectories stand at, the sources of gradients, and the answers about them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.search.shaping import EPSILON, Shaping, deviation_within
from srsoup_lightning.search.surrogate import GaussianProcess

LEAST_EXPLAINED = 0.1  # share of a reward's spread; a reward that is predicted worse has no more influence for it


def distinct(x: Tensor, besides: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the distinct points among latents x (P, *shape), equal to the last bit.

    Work at one point is then done once.

    Args:
        x: Latents.
        besides: Further numbers (P, K) that points must share.

    Returns:
        Rows (U,) of the first latent at each point, and for each latent the index (P,) of its point among them.
    """
    numbers = x.flatten(1) if besides is None else torch.cat([x.flatten(1), besides.to(x)], 1)
    _, index = torch.unique(numbers, dim=0, return_inverse=True)
    rows = torch.arange(len(x), device=x.device)
    first = torch.full((int(index.max()) + 1,), len(x), dtype=torch.int64, device=x.device).scatter_reduce(
        0, index, rows, "amin"
    )
    order = first.argsort()
    return first[order], order.argsort()[index]


class Points(NamedTuple):
    """Distinct points that trajectories stand at, U of them."""

    indices: Tensor  # (P,), index of each trajectory's point
    means: Tensor  # (U, C, H, W), means of the transitions
    noise: Tensor  # (U, C, H, W), predicted noise

    def merged(self, coefficients: Tensor) -> Tensor:
        """Add the coefficients (P, P, M) of trajectories at one point: (P, U, M)."""
        sums = coefficients.new_zeros(len(coefficients), len(self.means), coefficients.shape[2])
        return sums.index_add_(1, self.indices, coefficients)


class Sources(NamedTuple):
    """Sources of a step, S of them: the trajectories whose candidates are previewed or asked about."""

    mask: Tensor  # bool: the sources among the trajectories (P,), or among the points that they stand at (U,)
    coefficients: Tensor  # (P, S, M)
    counts: Tensor  # number of candidates that each reward is asked about, (S, M)
    means: Tensor  # (S, C, H, W)
    noise: Tensor  # predicted noise, (S, C, H, W)

    @classmethod
    def of(cls, coefficients: Tensor, counts: Tensor, points: Points, own_noise: bool, preview_all: bool) -> Sources:
        """Select the sources that some trajectory uses.

        Args:
            coefficients: Preference weight times sharing weight, (P, P, M).
            counts: Number of candidates that each trajectory asks each reward about if any uses them, (P, M).
            points: Points that the trajectories stand at.
            own_noise: Whether each trajectory is a source by itself. If not, all trajectories at one point are one.
            preview_all: Whether sources count whose candidates are previewed but not asked about.
        """
        indices, means, noise = points
        if own_noise:
            means, noise = means[indices], noise[indices]
        else:
            coefficients = points.merged(coefficients)
            at = indices.unsqueeze(1).expand_as(counts)
            counts = counts.new_zeros(len(means), counts.shape[1]).scatter_reduce(0, at, counts, "amax")
        used = (coefficients > 0).any(0)
        counts = counts * used
        mask = used.any(1) if preview_all else counts.any(1)
        return cls(mask, coefficients[:, mask], counts[mask], means[mask], noise[mask])

    def asked(self, candidates: int) -> Tensor:
        """Return which of N candidates are asked about: the first ones, as many as `counts` says; bool (S, M, N)."""
        return torch.arange(candidates, device=self.counts.device) < self.counts.unsqueeze(-1)


class Answers(NamedTuple):
    """Rewards of the candidates of S sources, as they were answered or as a surrogate predicts them."""

    rewards: Tensor  # (S, M, N), 0 where not known
    known: Tensor  # bool (S, M, N)
    clean: Tensor | None  # clean latents of all candidates, (S, N, C, H, W); None without a surrogate

    def means(self) -> Tensor:
        """Return the mean of the rewards that are known about each source, (S, M). NaN where none is."""
        return self.rewards.sum(2) / self.known.sum(2)

    def deviations(self) -> Tensor:
        """Return the standard deviation (M,) of each reward about the sources' own means."""
        by_reward = zip(self.rewards.unbind(1), self.known.unbind(1), strict=True)
        return torch.stack([deviation_within(reward, known) for reward, known in by_reward])

    def predicted(self, processes: list[GaussianProcess]) -> Answers:
        """Return predictions for all candidates, of processes that learn the answers first. Without any, the answers.

        Args:
            processes: Gaussian process of each of the M rewards, or none of them.
        """
        if self.clean is None:
            return self
        spread = 2 * float(self.clean.flatten(2).var(1).mean())
        predictions = []
        for reward, known, process in zip(self.rewards.unbind(1), self.known.unbind(1), processes, strict=True):
            process.learn(self.clean[known], reward[known])
            predictions.append(process.predict(self.clean, spread))
        return Answers(torch.stack(predictions, 1), torch.ones_like(self.known), self.clean)


def shaped_answers(answers: Answers, predicted: Answers, shapings: list[Shaping]) -> Tensor:
    """Convert what is known about the candidates of a step to their weights (S, M, N) for each reward.

    With a surrogate, the weights are those of its predictions. A prediction is the answer shrunk towards the mean. So,
    standardised, it reaches along the gradient of the reward only by the share of the spread that is explained.
    Divided by that share, each reward pulls as hard as if all its candidates were asked about, however well it is
    predicted.

    Args:
        answers: Answers of the step.
        predicted: Predictions that were made of them, or the answers themselves, see :meth:`Answers.predicted`.
        shapings: Shaping of each of the M rewards.
    """
    rewards, known, clean = predicted
    weights = torch.stack([shape(rewards[:, j], known[:, j]) for j, shape in enumerate(shapings)], dim=1)
    if clean is None:
        return weights
    explained = predicted.deviations() / (answers.deviations() + EPSILON)
    return weights / explained.clamp_min(LEAST_EXPLAINED).unsqueeze(1)
