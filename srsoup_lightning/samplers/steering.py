"""One soup under way: who asks about which candidates, and where everyone steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import Observation
from srsoup_lightning.search.candidates import distinct
from srsoup_lightning.search.gradient import mix, project_to_shell
from srsoup_lightning.search.selection import choose
from srsoup_lightning.search.shaping import EPSILON, Shaping, deviation_within
from srsoup_lightning.search.sharing import StepState
from srsoup_lightning.search.surrogate import GaussianProcess

if TYPE_CHECKING:
    from srsoup_lightning.samplers.soup import SRSoup

LEAST_EXPLAINED = 0.1  # of a reward's spread; one that is known worse pulls no harder for it


class Supply(NamedTuple):
    """The S suppliers of a step."""

    who: Tensor  # bool, which of the trajectories, or of the points that they stand at
    heard: Tensor  # (P, S, M)
    counts: Tensor  # candidates asked about each reward, (S, M)
    means: Tensor  # (S, C, H, W)
    noise: Tensor  # predicted at the suppliers, (S, C, H, W)


class Answers(NamedTuple):
    """What is known of the candidates of S suppliers."""

    rewards: Tensor  # (S, M, N), 0 where not asked
    asked: Tensor  # bool (S, M, N)
    clean: Tensor | None  # what all of them are heading for, (S, N, C, H, W); None without a surrogate

    def means(self) -> Tensor:
        """Mean rewards over the candidates that were asked about, (S, M); NaN where none was."""
        return self.rewards.sum(2) / self.asked.sum(2)


class Steering:
    """The trajectories of one soup, and what they have learned about the rewards.

    Args:
        sampler: Its settings.
        problem: Who denoises and who answers.
        weights: Each trajectory's preference, (P, M), on the problem's device.
        shapings: How each reward becomes weights.
        noise: All random numbers.

    Attributes:
        learned: What the surrogate makes of each reward so far; empty without one.
    """

    def __init__(
        self, sampler: SRSoup, problem: Problem, weights: Tensor, shapings: list[Shaping], noise: NoiseSource
    ) -> None:
        self.sampler, self.problem, self.weights, self.shapings, self.noise = sampler, problem, weights, shapings, noise
        self.sharing, self.surrogate = sampler.sharing, sampler.surrogate_in_use
        self.learned = [] if self.surrogate is None else [GaussianProcess(self.surrogate.window) for _ in shapings]

    def best(self, pool: Tensor, step: int) -> Tensor:
        """The one (1, C, H, W) of latents (K, C, H, W) of a level that serves the mean preference best."""
        clean = self.problem.denoise(pool, step).x0
        rewards = self.problem.judge(clean, step)
        for learned, reward in zip(self.learned, rewards.T, strict=False):  # none without a surrogate
            learned.learn(clean, reward)
        return pool[choose(rewards, self.weights.mean(0, keepdim=True))]

    def step(self, x: Tensor, step: int) -> tuple[Tensor, Observation | None]:
        """All trajectories x (P, C, H, W) of level `step` at the next, and what was seen on the way."""
        points, place = distinct(x)
        prediction = self.problem.denoise(x[points], step)
        at_points = self.problem.kernel.transition(step, x[points], prediction)
        means, sigma = at_points.mean[place], at_points.sigma
        if sigma == 0:
            return means, None
        asked = self.sampler.candidates_at(step)
        if asked == 0:
            return means + sigma * self.noise.step(step), None
        counts = self.sharing.counts(asked, self.weights)
        offered, known = asked, counts
        if self.surrogate is not None:
            offered = max(asked, self.surrogate.previews)
            known = torch.full_like(counts, offered)
        standing = StepState(step, means, prediction.x0[place], sigma, self.weights, known)
        heard = self.weights.unsqueeze(1) * self.sharing.share(standing)
        supply = self._supply(heard, counts, place, at_points.mean, prediction.noise)
        draws = self._draw(step, offered)
        theirs = draws[supply.who] if self.sharing.own_noise else draws
        answers = self._answers(supply, supply.means.unsqueeze(1) + sigma * theirs, step + 1)
        shaped = self._shaped(answers)
        correction = self.sampler.correction or self.sharing.correction
        direction = mix(supply.heard, shaped, theirs, means, supply.means, sigma, correction)
        first_draw = draws[:, 0] if self.sharing.own_noise else draws[:1]
        return means + sigma * project_to_shell(direction, first_draw), self._observed(standing, supply, answers, place)

    def _observed(self, standing: StepState, supply: Supply, answers: Answers, place: Tensor) -> Observation:
        """What the step saw, told by trajectory."""
        rewards = answers.rewards.new_full((len(supply.who), answers.rewards.shape[1]), torch.nan)
        rewards[supply.who] = answers.means()
        if not self.sharing.own_noise:  # then suppliers are points, and candidates are those of all who stand there
            rewards = rewards[place]
        return Observation(standing, rewards)

    def _supply(self, heard: Tensor, counts: Tensor, place: Tensor, means: Tensor, noise: Tensor) -> Supply:
        """Who previews candidates, and who is asked about how many.

        Args:
            heard: Preference weight times sharing weight, (P, P, M).
            counts: Candidates that each trajectory asks about each reward if anyone listens, (P, M).
            place: The point (P,) that each trajectory stands at, an index into the next two.
            means: Where transitions are centred, (U, C, H, W).
            noise: The noise predicted there, (U, C, H, W).
        """
        if self.sharing.own_noise:
            means, noise = means[place], noise[place]
        else:  # then trajectories at one point are one supplier
            heard = heard.new_zeros(len(heard), len(means), heard.shape[2]).index_add_(1, place, heard)
            at = place.unsqueeze(1).expand_as(counts)
            counts = counts.new_zeros(len(means), counts.shape[1]).scatter_reduce(0, at, counts, "amax")
        useful = (heard > 0).any(0)
        counts = counts * useful
        who = counts.any(1) if self.surrogate is None else useful.any(1)
        return Supply(who, heard[:, who], counts[who], means[who], noise[who])

    def _draw(self, step: int, candidates: int) -> Tensor:
        """The candidates' noise: (N, C, H, W), or (P, N, C, H, W) where each trajectory has its own."""
        if not self.sharing.own_noise:
            return self.noise.candidates(candidates, step)
        return torch.stack([self.noise.candidates(candidates, step, point) for point in self.weights.tolist()])

    def _answers(self, supply: Supply, candidates: Tensor, level: int) -> Answers:
        """Ask about candidates (S, N, C, H, W) of a level."""
        asked = torch.arange(candidates.shape[1], device=candidates.device) < supply.counts.unsqueeze(-1)  # (S, M, N)
        wanted = asked.transpose(1, 2)
        previewed = wanted.any(2) if self.surrogate is None else torch.ones_like(wanted[..., 0])
        reuse = self.sampler.preview == "reused"
        base = supply.noise.unsqueeze(1).expand_as(candidates)[previewed] if reuse else None
        scores, clean = self.problem.query(candidates[previewed], level, wanted[previewed], self.sampler.preview, base)
        rewards = candidates.new_zeros(wanted.shape, dtype=torch.float32)
        rewards[previewed] = scores
        seen = None if self.surrogate is None else clean.view_as(candidates)
        return Answers(rewards.transpose(1, 2), asked, seen)

    def _shaped(self, answers: Answers) -> Tensor:
        """The weights (S, M, N) of the candidates for each reward.

        With a surrogate they are by what it makes of the answers. A prediction is the answer shrunk towards the mean:
        standardised, it reaches along the reward's gradient only as far as the share of the spread that is explained.
        Divided by that share, each reward pulls as hard as if all its candidates were asked about, however well it is
        predicted.
        """
        rewards, asked, clean = answers
        if clean is None:
            return torch.stack([shape(rewards[:, j], asked[:, j]) for j, shape in enumerate(self.shapings)], dim=1)
        spread = 2 * float(clean.flatten(2).var(1).mean())
        weights = []
        for j, (shape, learned) in enumerate(zip(self.shapings, self.learned, strict=True)):
            reward, answered = rewards[:, j], asked[:, j]
            learned.learn(clean[answered], reward[answered])
            predictions = learned.predict(clean, spread)
            explained = deviation_within(predictions) / (deviation_within(reward, answered) + EPSILON)
            weights.append(shape(predictions) / explained.clamp_min(LEAST_EXPLAINED))
        return torch.stack(weights, dim=1)
