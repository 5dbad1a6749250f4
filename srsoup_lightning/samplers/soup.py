"""Sample Reward Soups and the weighted sum: one sampler, told apart by who listens to whom.

Yao, Pan, Fu, Tsang: Sample Reward Soups: Query-efficient Multi-Reward Guidance for Text-to-Image Diffusion Models,
ICLR 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from srsoup_lightning.preferences import Preferences
from srsoup_lightning.samplers.base import Listener, Moment, Sampler
from srsoup_lightning.samplers.problem import Preview, Problem
from srsoup_lightning.search.distinct import distinct
from srsoup_lightning.search.gradient import Correction, mix, project_to_shell, require_correction
from srsoup_lightning.search.noise import NoiseSource, require_even
from srsoup_lightning.search.shaping import Shaping, ShapingKind
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing, Standing


class Supply(NamedTuple):
    """The S suppliers of a step."""

    who: Tensor  # bool, which of the trajectories, or of the points that they stand at
    heard: Tensor  # (P, S, M)
    counts: Tensor  # candidates asked about each reward, (S, M)
    means: Tensor  # (S, C, H, W)
    noise: Tensor  # predicted at the suppliers, (S, C, H, W)


@dataclass(frozen=True, kw_only=True)
class SRSoup(Sampler):
    """Steer one trajectory a preference by search gradients that the preferences share.

    Args:
        candidates: The number N of noise draws that a supplier's search gradient is made of, at least 2. A list of
            numbers is spread evenly over the steps: [24, 8] spends three quarters in the first half. Where it is 0,
            nobody searches and everyone takes the same unsteered step.
        sharing: Who listens to whom at which step; the paper's is FixedSoup(0, 20) of 50 steps.
        shaping: How rewards become weights: "std" (the paper), "pool", "tanh", "minmax", "ranks", a Shaping with its
            options, or {reward: Shaping} where rewards differ. None takes what suits the sharing policy.
        correction: How a borrowed candidate is seen from the borrower's mean: "exact", "raw" (the released two-reward
            code, which forgets to divide by sigma) or "none" (the released three-reward code). None takes what suits
            the sharing policy.
        antithetic: Draw the candidates in mirrored pairs.
        preview: What rewards see of a candidate: the "guided" estimate of its clean picture; the "unguided" one, at
            half the network evaluations; or one with the noise "reused" from the step's own prediction, at none.

    Raises:
        ValueError: A number outside its range, an unknown preview or correction, an odd number of antithetic
            candidates, or eta 0, which leaves nothing to search.
    """

    candidates: int | list[int] = 30
    sharing: Sharing = field(default_factory=FixedSoup)
    shaping: ShapingKind | Shaping | dict[str, Shaping] | None = None
    correction: Correction | None = None
    antithetic: bool = False
    preview: Preview = "guided"

    def __post_init__(self) -> None:
        super().__post_init__()
        schedule = self._schedule
        if any(count < 2 and (count != 0 or isinstance(self.candidates, int)) for count in schedule) or not schedule:
            raise ValueError(
                f"candidates is {self.candidates}: a search gradient compares at least 2, or 0 in a list of them for "
                "steps without search"
            )
        if self.antithetic:
            for count in schedule:
                require_even(count)
        if self.preview not in get_args(Preview):
            raise ValueError(f"preview {self.preview!r} is unknown: choose from {', '.join(get_args(Preview))}")
        if self.eta == 0:
            raise ValueError("eta is 0: a step without noise can't be steered, give eta in (0, 1] or use BaseModel")
        if self.correction is not None:
            require_correction(self.correction)
        self._shapings(())

    @property
    def _schedule(self) -> list[int]:
        return [self.candidates] if isinstance(self.candidates, int) else list(self.candidates)

    def candidates_at(self, step: int) -> int:
        """N of step 0 ... num_inference_steps - 1."""
        return self._schedule[step * len(self._schedule) // self.num_inference_steps]

    @property
    def antithetic_noise(self) -> bool:
        """See :attr:`Sampler.antithetic_noise`."""
        return self.antithetic

    def _shapings(self, rewards: tuple[str, ...]) -> list[Shaping]:
        suited = Shaping(self.sharing.shaping)
        if isinstance(self.shaping, dict):
            unknown = sorted(set(self.shaping) - set(rewards)) if rewards else []
            if unknown:
                raise ValueError(f"shaping names {unknown}: the rewards are {list(rewards)}")
            return [self.shaping.get(reward, suited) for reward in rewards]
        if self.shaping is None:
            return [suited] * len(rewards)
        shared = self.shaping if isinstance(self.shaping, Shaping) else Shaping(self.shaping)
        return [shared] * len(rewards)

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, listener: Listener) -> Tensor:
        """See :meth:`Sampler.sample`."""
        weights, places = preferences.trajectories(self.sharing.anchors)
        weights = weights.to(problem.device)
        shapings = self._shapings(preferences.rewards)
        x = noise.start().expand(len(weights), *problem.shape)
        for step in range(problem.kernel.steps):
            x = self._step(problem, x, step, weights, shapings, noise)
            listener(Moment(step + 1, problem.kernel.steps, problem.ledger))
        return x[places]

    def _step(
        self, problem: Problem, x: Tensor, step: int, weights: Tensor, shapings: list[Shaping], noise: NoiseSource
    ) -> Tensor:
        """Advance all trajectories x (P, C, H, W) from level `step` to the next."""
        points, place = distinct(x)
        prediction = problem.predict(x[points], step)
        at_points = problem.kernel.transition(step, x[points], prediction)
        means, sigma = at_points.mean[place], at_points.sigma
        if sigma == 0:
            return means
        candidates = self.candidates_at(step)
        if candidates == 0:
            return means + sigma * noise.step(step)
        counts = self.sharing.counts(candidates, weights)
        standing = Standing(step, means, prediction.x0[place], sigma, weights, counts)
        heard = weights.unsqueeze(1) * self.sharing.share(standing)
        draws = self._draw(noise, step, candidates, weights)
        supply = self._supply(heard, counts, place, at_points.mean, prediction.noise)
        theirs = draws[supply.who] if self.sharing.own_noise else draws
        asked = torch.arange(candidates, device=x.device) < supply.counts.unsqueeze(-1)
        offered = supply.means.unsqueeze(1) + sigma * theirs
        rewards = self._query(problem, offered, step + 1, asked, supply.noise)
        shaped = torch.stack([shape(rewards[:, j], asked[:, j]) for j, shape in enumerate(shapings)], dim=1)
        correction = self.correction or self.sharing.correction
        direction = mix(supply.heard, shaped, theirs, means, supply.means, sigma, correction)
        first_draw = draws[:, 0] if self.sharing.own_noise else draws[:1]
        return means + sigma * project_to_shell(direction, first_draw)

    def _supply(self, heard: Tensor, counts: Tensor, place: Tensor, means: Tensor, noise: Tensor) -> Supply:
        """Who is asked about how much.

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
        counts = counts * (heard > 0).any(0)
        who = counts.any(1)
        return Supply(who, heard[:, who], counts[who], means[who], noise[who])

    def _draw(self, noise: NoiseSource, step: int, candidates: int, weights: Tensor) -> Tensor:
        """The candidates' noise: (N, C, H, W), or (P, N, C, H, W) where each trajectory has its own."""
        if not self.sharing.own_noise:
            return noise.candidates(candidates, step)
        return torch.stack([noise.candidates(candidates, step, preference) for preference in weights.tolist()])

    def _query(self, problem: Problem, x: Tensor, level: int, asked: Tensor, noise: Tensor) -> Tensor:
        """Rewards (S, M, N) of suppliers' candidates x (S, N, C, H, W) where asked (S, M, N), and 0 elsewhere.

        Args:
            problem: Who answers.
            x: The candidates.
            level: Their level.
            asked: Which candidate is asked about which reward; those asked about none cost nothing.
            noise: The noise predicted at the suppliers, (S, C, H, W).
        """
        wanted = asked.transpose(1, 2)
        live = wanted.any(2)
        base = noise.unsqueeze(1).expand_as(x)[live] if self.preview == "reused" else None
        rewards = x.new_zeros(wanted.shape, dtype=torch.float32)
        rewards[live] = problem.query(x[live], level, wanted[live], self.preview, base)
        return rewards.transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class WeightedSum(SRSoup):
    """SRSoup that never shares: every preference asks all its rewards at every step, the baseline of the paper."""

    sharing: Sharing = field(default_factory=Never, init=False)
