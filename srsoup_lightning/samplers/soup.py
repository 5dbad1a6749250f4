"""Sample Reward Soups and the weighted sum: one sampler, told apart by who listens to whom.

Yao, Pan, Fu, Tsang: Sample Reward Soups: Query-efficient Multi-Reward Guidance for Text-to-Image Diffusion Models,
ICLR 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from srsoup_lightning.preferences import Preferences
from srsoup_lightning.samplers.base import Listener, Moment, Sampler
from srsoup_lightning.samplers.problem import Preview, Problem
from srsoup_lightning.search.distinct import distinct
from srsoup_lightning.search.gradient import Correction, mix, project_to_shell, require_correction
from srsoup_lightning.search.noise import NoiseSource, require_even
from srsoup_lightning.search.shaping import Shaping, ShapingKind
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing


@dataclass(frozen=True, kw_only=True)
class SRSoup(Sampler):
    """Steer one trajectory a preference by search gradients that the preferences share.

    Args:
        candidates: The number N of noise draws that a supplier's search gradient is made of, at least 2. A list of
            numbers is spread evenly over the steps: [24, 8] spends three quarters in the first half. Where it is 0,
            nobody searches and everyone takes the same unsteered step.
        sharing: Who listens to whom at which step; the paper's is FixedSoup(0, 20) of 50 steps.
        shaping: How rewards become weights: "std" (the paper), "tanh", "minmax", "ranks", a Shaping with its options,
            or {reward: Shaping} where rewards differ.
        correction: How a borrowed candidate is seen from the borrower's mean: "exact", "raw" (the released two-reward
            code, which forgets to divide by sigma) or "none" (the released three-reward code).
        antithetic: Draw the candidates in mirrored pairs.
        preview: What rewards see of a candidate: the "guided" estimate of its clean picture; the "unguided" one, at
            half the network evaluations; or one with the noise "reused" from the step's own prediction, at none.

    Raises:
        ValueError: A number outside its range, an unknown preview or correction, an odd number of antithetic
            candidates, or eta 0, which leaves nothing to search.
    """

    candidates: int | list[int] = 30
    sharing: Sharing = field(default_factory=FixedSoup)
    shaping: ShapingKind | Shaping | dict[str, Shaping] = "std"
    correction: Correction = "exact"
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
        if isinstance(self.shaping, dict):
            unknown = sorted(set(self.shaping) - set(rewards)) if rewards else []
            if unknown:
                raise ValueError(f"shaping names {unknown}: the rewards are {list(rewards)}")
            return [self.shaping.get(reward, Shaping()) for reward in rewards]
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
        heard = weights.unsqueeze(1) * self.sharing.share(step, means, sigma, weights)
        draws = self._draw(noise, step, candidates, weights)
        if not self.sharing.own_noise:  # then trajectories at one point are one supplier
            heard = heard.new_zeros(len(x), len(points), heard.shape[2]).index_add_(1, place, heard)
            supplier_means, supplier_noise = at_points.mean, prediction.noise
        else:
            supplier_means, supplier_noise = means, prediction.noise[place]
        asked = (heard > 0).any(0)
        suppliers = asked.any(1)
        own_draws = draws[suppliers] if self.sharing.own_noise else draws
        candidates_of = supplier_means[suppliers].unsqueeze(1) + sigma * own_draws
        base_noise = supplier_noise[suppliers] if self.preview == "reused" else None
        rewards = self._query(problem, candidates_of, step + 1, asked[suppliers], base_noise)
        answered = asked[suppliers].unsqueeze(-1).expand_as(rewards)
        shaped = torch.stack([shape(rewards[:, j], answered[:, j]) for j, shape in enumerate(shapings)], dim=1)
        direction = mix(
            heard[:, suppliers], shaped, own_draws, means, supplier_means[suppliers], sigma, self.correction
        )
        first_draw = draws[:, 0] if self.sharing.own_noise else draws[:1]
        return means + sigma * project_to_shell(direction, first_draw)

    def _draw(self, noise: NoiseSource, step: int, candidates: int, weights: Tensor) -> Tensor:
        """The candidates' noise: (N, C, H, W), or (P, N, C, H, W) where each trajectory has its own."""
        if not self.sharing.own_noise:
            return noise.candidates(candidates, step)
        return torch.stack([noise.candidates(candidates, step, preference) for preference in weights.tolist()])

    def _query(self, problem: Problem, x: Tensor, level: int, asked: Tensor, noise: Tensor | None) -> Tensor:
        """Rewards (S, M, N) of each supplier's candidates x (S, N, C, H, W), 0 where not asked."""
        candidates = x.shape[1]
        base = None if noise is None else noise.repeat_interleave(candidates, 0)
        wanted = asked.repeat_interleave(candidates, 0)
        scores = problem.query(x.flatten(0, 1), level, wanted, self.preview, base)
        return scores.unflatten(0, x.shape[:2]).transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class WeightedSum(SRSoup):
    """SRSoup that never shares: every preference asks all its rewards at every step, the baseline of the paper."""

    sharing: Sharing = field(default_factory=Never, init=False)
