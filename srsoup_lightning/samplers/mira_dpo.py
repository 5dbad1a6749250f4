"""MIRA for rewards without gradients: noise is optimised by preferences between candidates around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rewards.checks import require_choice
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.noise_optimisation import Found, Iterate, NoiseOptimisation
from srsoup_lightning.samplers.noise_search import neighbours_of
from srsoup_lightning.samplers.scalarised import Evaluator
from srsoup_lightning.samplers.unrolled import Unrolled
from srsoup_lightning.search.candidates import distinct
from srsoup_lightning.search.ranked_pairs import Match, margins, matched


@dataclass(frozen=True, kw_only=True)
class MIRADPO(NoiseOptimisation):
    """MIRA-DPO (arXiv:2510.01549): the noise of the start and of all steps, optimised by preferences between pictures.

    Rewards need no gradients: only the network is differentiated. An iteration draws q candidates around the noise z of
    a preference and makes pairs of a winner w and a loser l of their pictures, by their values. The loss is ``-log
    sigmoid(margin)``, the mean over pairs, with

        margin = -beta / 2 ((e_w(z) - e_l(z)) - (e_w(z_0) - e_l(z_0))).

    Here ``e_c(z)`` is the mean, over steps and numbers, of the squared difference between the noise that the network
    predicts along the trajectories of z and of the candidate c, and z_0 is the noise of the unsteered picture. This is
    Diffusion-DPO with the noise in place of the weights: ``-e_c(z) / 2`` stands for the log-likelihood of the picture c
    under z, by the surrogate that :class:`~srsoup_lightning.samplers.mira.MIRA` penalises.

    The paper publishes that preference optimisation is applied to the noise of a frozen model, with the divergence in
    image space as its regularisation. Its code is not public. The errors, the candidates and the pairs are our
    reconstruction.

    A pair counts less, the more z prefers its winner already, compared with z_0. Candidates have the norm of z. Pairs
    of equal value count nothing. The optimizer is Adam without weight decay, so equal candidates move nothing. A
    preference takes the best picture of all, candidates included; the first one is the unsteered picture of the seed.
    Without `units`, the first candidates give the units.

    For one preference, I iterations make ``1 + (I - 1) (q + 1)`` pictures, each of which takes a query of each reward
    with weight. They take T predictions a picture, T more for the reference, and ``(I - 1) T`` gradient evaluations.
    Preferences share the first candidates and the reference. ``P q (2 T + 1)`` latents are kept on the device, for P
    preferences. Other arguments and errors are those of :class:`NoiseOptimisation`.

    Args:
        candidates: Number q of candidates of an iteration, at least 2.
        cosine: Cosine of the angle between the noise and its candidates, in [0, 1). Near 1 the search is local, and
            candidates at 0 are hardly related to the noise.
        match: Pairs of the candidates: "extremes", "mirrored" or "all", see
            :func:`~srsoup_lightning.search.ranked_pairs.matched`.
        beta: Weight of the divergence from the unsteered picture, above 0, without a unit: errors are means.

    Raises:
        ValueError: An argument is outside its range, or the scalarisation is one of ranks.
    """

    candidates: int = at_least(2, default=8)
    cosine: float = 0.8
    match: Match = "all"
    beta: float = 1000.0

    cost_varies: ClassVar[bool] = True
    every_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("match", self.match, Match)
        self.require_above_0("beta")
        if not 0 <= self.cosine < 1:
            raise ValueError(f"cosine is {self.cosine}: give a number in [0, 1)")

    def optimizer(self, noises: Tensor) -> torch.optim.Optimizer:
        """See :meth:`NoiseOptimisation.optimizer`."""
        return torch.optim.Adam([noises], lr=self.rate)

    def begin(self, evaluator: Evaluator, noise: NoiseSource, first: Tensor) -> Iterate:
        """See :meth:`NoiseOptimisation.begin`."""
        steps = evaluator.problem.kernel.steps
        unrolled = Unrolled(evaluator, noise, type(self).__name__, self.checkpointing)
        _, reference = unrolled.draw(first.unsqueeze(0))

        def iterate(noises: Tensor, iteration: int) -> Found:
            if self.last(iteration):
                clean, _ = unrolled.draw(noises)
                return best_of(clean.unsqueeze(1), evaluator.judge(clean.unsqueeze(1), steps).values, None)
            random = noise.normal(self.candidates * len(first), "candidates", iteration).view(-1, *first.shape)
            around = torch.stack([neighbours_of(each, random, self.cosine) for each in noises])
            others, predicted = draw_distinct(unrolled, around)
            values = evaluator.judge(others, steps).values
            clean, ascent = self.ascents(unrolled, noises, predicted, values, reference)
            own = evaluator.judge(clean.unsqueeze(1), steps).values
            return best_of(torch.cat([clean.unsqueeze(1), others], 1), torch.cat([own, values], 1), ascent)

        return iterate

    def ascents(
        self, unrolled: Unrolled, noises: Tensor, predicted: Tensor, values: Tensor, reference: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw the pictures of noises, with the gradients of minus their losses. The graph of one batch is in memory.

        Args:
            unrolled: Trajectories of the noise.
            noises: Noise of each preference, (P, n, C, H, W).
            predicted: Noise that the network predicted along the trajectories of the candidates, (P, q, T, C, H, W).
            values: Values of their pictures, (P, q).
            reference: Noise that it predicted along the unsteered trajectory, (1, T, C, H, W).

        Returns:
            Final latents (P, C, H, W), and gradients (P, n, C, H, W).
        """
        problem = unrolled.evaluator.problem
        clean, ascent = torch.empty_like(noises[:, 0]), torch.empty_like(noises)
        winner, loser, decided = map(torch.stack, zip(*(matched(own, self.match) for own in values), strict=True))
        pairs = torch.stack([winner, loser])  # (2, P, K)

        def errors(along: Tensor, rows: Tensor) -> Tensor:
            """Errors (2, B, K) in the winners and losers of rows (B,), for noise (B or 1, T, C, H, W)."""
            error = (along.unsqueeze(1) - predicted[rows]).square().flatten(2).mean(2)
            return torch.stack([error.gather(1, each[rows]) for each in pairs])

        def work(rows: Tensor) -> None:
            before = errors(reference, rows)
            with problem.graph(unrolled.method, (), checkpointing=unrolled.checkpointing):
                here = problem.variable(noises[rows])
                pictures, along = unrolled.draw(here)
                margin = margins(errors(along, rows), before, self.beta)
                likelihoods = (decided[rows] * logsigmoid(margin)).mean(1)
                of = "the loss of the candidates' pairs"
                ascents = problem.gradient(likelihoods, here, of, predictions=problem.kernel.steps)
            clean[rows], ascent[rows] = pictures.detach(), ascents

        for _ in problem.batch.chunks(work, torch.arange(len(noises), device=noises.device)):
            pass
        return clean, ascent


def draw_distinct(unrolled: Unrolled, noises: Tensor) -> tuple[Tensor, Tensor]:
    """Draw pictures from noises (P, q, n, C, H, W), equal ones once; see :meth:`Unrolled.draw`.

    Returns:
        Final latents (P, q, C, H, W), and the noise that the network predicted, (P, q, T, C, H, W).
    """
    flat = noises.flatten(0, 1)
    rows, index = distinct(flat)
    clean, predicted = (part[index].unflatten(0, noises.shape[:2]) for part in unrolled.draw(flat[rows]))
    return clean, predicted


def best_of(clean: Tensor, values: Tensor, ascent: Tensor | None) -> Found:
    """Return the best picture of each preference, the first of equal ones.

    Args:
        clean: Final latents (P, B, C, H, W).
        values: Their values, (P, B).
        ascent: Directions (P, n, C, H, W), or None.
    """
    best, index = values.max(1)
    return Found(clean[torch.arange(len(clean), device=clean.device), index], best, best, ascent)
