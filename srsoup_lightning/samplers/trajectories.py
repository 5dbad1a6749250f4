"""Trajectories of one soup: one step of the search for all preferences together."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.problem import AnyPreview, Preview, Problem
from srsoup_lightning.samplers.result import Observation
from srsoup_lightning.samplers.soup_gradients import TrueGradients
from srsoup_lightning.samplers.soup_search import Asked, Searched
from srsoup_lightning.samplers.walk import complete
from srsoup_lightning.search.candidates import Answers, Points, Sources, distinct, shaped_answers
from srsoup_lightning.search.gradient import Correction, mix, project_to_shell
from srsoup_lightning.search.scalarise import best_index
from srsoup_lightning.search.selection import Resampling, ancestors
from srsoup_lightning.search.shaping import Shaping
from srsoup_lightning.search.sharing import Sharing, StepState
from srsoup_lightning.search.surrogate import GaussianProcess, Surrogate


class SearchSettings(NamedTuple):
    """Settings of a soup's search, all of them resolved; see :class:`~srsoup_lightning.samplers.soup.SRSoup`."""

    candidates: tuple[int, ...]  # number of candidates at each step
    sharing: Sharing
    shapings: list[Shaping]  # one for each reward
    correction: Correction
    surrogate: Surrogate | None
    antithetic: bool
    preview: Preview
    completion: int
    resampling: Resampling | None


class Trajectories:
    """Trajectories of one soup, and what they have learned about the rewards.

    Args:
        settings: Settings of the search.
        problem: Denoising process and rewards.
        weights: Each trajectory's preference, (P, M), on the problem's device.
        noise: Source of all random numbers.
        gradients: True gradients, for the rewards that have some. None searches for all.

    Attributes:
        learned: Gaussian process of each reward; empty without a surrogate.
    """

    def __init__(
        self,
        settings: SearchSettings,
        problem: Problem,
        weights: Tensor,
        noise: NoiseSource,
        gradients: TrueGradients | None = None,
    ) -> None:
        self.settings, self.problem, self.weights, self.noise = settings, problem, weights, noise
        self.gradients = gradients
        surrogate = settings.surrogate
        self.learned = [] if surrogate is None else [GaussianProcess(surrogate.window) for _ in settings.shapings]
        # What the model serves, where adapters make predictions depend on the preference.
        self.served = None if problem.denoiser.adapters is None else weights

    def best(self, pool: Tensor, step: int, shared: bool) -> Tensor:
        """Return the best of latents (K, C, H, W) of a level, (P or 1, C, H, W).

        These are those that serve each preference best, or, shared, the one that serves the mean preference best.
        """
        clean = self.problem.serving(self.weights.mean(0)).denoise(pool, step).x0
        rewards = self.problem.query(clean, step)
        for learned, reward in zip(self.learned, rewards.T, strict=False):  # none without a surrogate
            learned.learn(clean, reward)
        return pool[best_index(rewards, self.weights.mean(0, keepdim=True) if shared else self.weights)]

    def step(self, x: Tensor, step: int) -> tuple[Tensor, Observation | None]:
        """Take all trajectories x (P, C, H, W) of level `step` to the next level, with the observations on the way."""
        settings, kernel, sharing = self.settings, self.problem.kernel, self.settings.sharing
        rows, index = distinct(x, self.served)
        prediction = self.problem.denoise(x[rows], step, preferences=self._served_at(rows))
        transition = kernel.transition(step, x[rows], prediction)
        means, sigma = transition.mean[index], transition.sigma
        if sigma == 0:
            return means, None
        if settings.candidates[step] == 0:
            return means + sigma * self.noise.step(step), None
        counts, drawn, known = self._numbers(step)
        state = StepState(step, kernel.steps, means, prediction.x0[index], sigma, self.weights, known)
        shares, points = sharing.share(state), Points(index, transition.mean, prediction.noise)
        searched = shares if self.gradients is None else shares * ~self.gradients.differentiable
        asked = self._candidates(state, searched, rows, points, (counts, drawn))
        if asked is None:
            found = Searched.nothing(state, self.noise.step(step).unsqueeze(0))
        else:
            query, shown = self.problem.query_previews, self._shown(asked, step + 1)
            found = self._found(asked, *query(*shown, asked.reused, asked.served))
        if self.gradients is None:
            following = means + sigma * project_to_shell(found.direction, found.fallback)
            return found.resampled(following), found.observation(state, x)
        true = self.gradients.steer(x, state, shares, self.served, self.noise.step(step))
        following = means + sigma * project_to_shell(found.direction + true.direction, found.fallback)
        rewards = torch.where(true.rewards.isnan(), found.rewards, true.rewards)
        return following, Observation(state, rewards, x, lambda: found.gradients() + true.gradients)

    def _candidates(
        self, state: StepState, shares: Tensor, rows: Tensor, points: Points, numbers: tuple[Tensor, int]
    ) -> Asked | None:
        """Candidates for the rewards that some sharing weight (P, P, M) is above 0 for. None where there is no such."""
        settings, sharing, (counts, drawn) = self.settings, self.settings.sharing, numbers
        coefficients = self.weights.unsqueeze(1) * shares
        if not coefficients.any():
            return None
        sources = Sources.of(coefficients, counts, points, sharing.own_noise, settings.surrogate is not None)
        draws = self._draws(state.step, drawn)
        theirs = draws[sources.mask] if sharing.own_noise else draws
        candidates = sources.means.unsqueeze(1) + state.sigma * theirs  # (S, N, C, H, W)
        asked = sources.asked(drawn)
        latents, previewed, reused = self._previewed(candidates, asked, sources)
        at = (torch.arange(len(counts), device=counts.device) if sharing.own_noise else rows)[sources.mask]
        served = self._served_at(at.unsqueeze(1).expand_as(previewed)[previewed])
        first_draw = draws[:, 0] if sharing.own_noise else draws[:1]
        heard = shares if sharing.own_noise else points.merged(shares)
        mixed = (theirs, first_draw, heard[:, sources.mask])
        return Asked(state, points, sources, *mixed, asked, latents, previewed, reused, served)

    def _shown(self, asked: Asked, level: int) -> tuple[Tensor, int, Tensor, AnyPreview]:
        """Latents (B, C, H, W) that rewards are asked about, their level, which rewards (B, M), and the preview.

        The latents are the candidates of a level, or the clean latents that these are completed to.
        """
        mask, kind, evaluations = asked.asked.mT[asked.previewed], self.settings.preview, self.settings.completion
        if evaluations == 1:
            return asked.latents, level, mask, kind
        clean, last, _ = complete(self.problem, asked.latents, level, evaluations, kind == "guided", asked.served)
        return clean, last, mask, "clean"

    def _found(self, asked: Asked, scores: Tensor, previews: Prediction) -> Searched:
        """Findings from the scores (B, M) and the previews of the candidates."""
        settings, state, sources = self.settings, asked.state, asked.sources
        answers = self._answers(scores, previews.x0, asked)
        predicted = answers.predicted(self.learned)
        shaped = shaped_answers(answers, predicted, settings.shapings)

        def mixed(coefficients: Tensor) -> Tensor:
            means, sigma = state.means, state.sigma
            return mix(coefficients, shaped, asked.draws, means, sources.means, sigma, settings.correction)

        def gradients() -> Tensor:
            heard = asked.heard
            if settings.surrogate is None:  # which else knows the rewards that a source was not asked about
                heard = heard * asked.asked.any(2)
            rewards = torch.eye(heard.shape[2], dtype=heard.dtype, device=heard.device)
            return torch.stack([mixed(heard * reward) for reward in rewards], 1)

        around = partial(self._around, sources, asked.points.indices)
        chosen = None
        if settings.resampling is not None and settings.resampling.after(state.step, state.steps):
            means, counts = around(predicted.means()), around(predicted.known.sum(2))
            chosen = ancestors(means, counts, answers.deviations(), self.weights, settings.resampling.margin)
        return Searched(mixed(sources.coefficients), asked.first_draw, around(answers.means()), gradients, chosen)

    def _served_at(self, trajectories: Tensor) -> Tensor | None:
        """Preferences (B, M) that the model serves, by indices (B,) of trajectories. None where it depends on none."""
        return None if self.served is None else self.served[trajectories]

    def _numbers(self, step: int) -> tuple[Tensor, int, Tensor]:
        """Candidates asked about (P, M), candidates drawn, and candidates whose reward is known then, (P, M)."""
        asked = self.settings.candidates[step]
        counts = self.settings.sharing.counts(asked, self.weights)
        if self.settings.surrogate is None:
            return counts, asked, counts
        drawn = max(asked, self.settings.surrogate.previews)
        return counts, drawn, torch.full_like(counts, drawn)

    def _draws(self, step: int, count: int) -> Tensor:
        """Noise of the candidates: (N, C, H, W), or (P, N, C, H, W) where each trajectory has its own."""
        antithetic = self.settings.antithetic
        if not self.settings.sharing.own_noise:
            return self.noise.candidates(count, step, antithetic=antithetic)
        own = [self.noise.candidates(count, step, weights, antithetic) for weights in self.weights.tolist()]
        return torch.stack(own)

    def _previewed(self, candidates: Tensor, asked: Tensor, sources: Sources) -> tuple[Tensor, Tensor, Tensor | None]:
        """Latents (B, C, H, W) to preview, their mask (S, N), and the noise (B, C, H, W) that a preview reuses."""
        mask = asked.any(1) if self.settings.surrogate is None else torch.ones_like(asked[:, 0])
        reuse = self.settings.preview == "reused"
        noise = sources.noise.unsqueeze(1).expand_as(candidates)[mask] if reuse else None
        return candidates[mask], mask, noise

    def _answers(self, scores: Tensor, clean: Tensor, asked: Asked) -> Answers:
        """Scores (B, M) and clean latents (B, C, H, W) of the previewed candidates, by source."""
        rewards = scores.new_zeros(asked.asked.mT.shape, dtype=torch.float32)
        rewards[asked.previewed] = scores
        if self.settings.surrogate is None:
            return Answers(rewards.mT, asked.asked, None)
        return Answers(rewards.mT, asked.asked, clean.unflatten(0, asked.previewed.shape))

    def _around(self, sources: Sources, index: Tensor, numbers: Tensor) -> Tensor:
        """Convert numbers of the sources (S, M) to those of the trajectories, (P, M) float32. Others have NaN."""
        each = numbers.new_full((len(sources.mask), numbers.shape[1]), torch.nan, dtype=torch.float32)
        each[sources.mask] = numbers.float()
        # Without own noise, sources are points, and all trajectories there share candidates.
        return each if self.settings.sharing.own_noise else each[index]
