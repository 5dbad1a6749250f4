"""Sample Reward Soups and the weighted sum: one sampler, told apart by who listens to whom.

Yao, Pan, Fu, Tsang: Sample Reward Soups: Query-efficient Multi-Reward Guidance for Text-to-Image Diffusion Models,
ICLR 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource, require_even
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Preview, Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.result import Moment, OnStep
from srsoup_lightning.samplers.steering import Steering
from srsoup_lightning.samplers.unsteered import unsteered
from srsoup_lightning.search.gradient import Correction, require_correction
from srsoup_lightning.search.pooling import Auto
from srsoup_lightning.search.selection import Selection
from srsoup_lightning.search.shaping import Shaping, ShapingKind
from srsoup_lightning.search.sharing import Never, Sharing
from srsoup_lightning.search.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class SRSoup(Sampler):
    """Steer one trajectory a preference by search gradients that the preferences share.

    Args:
        candidates: The number N of noise draws that a supplier's search gradient is made of, at least 2. A list of
            numbers is spread evenly over the steps: [24, 8] spends three quarters in the first half. Where it is 0,
            nobody searches and everyone takes the same unsteered step. None takes what suits the sharing policy.
        sharing: Who listens to whom at which step; the paper's is FixedSoup(0, 20) of 50 steps.
        shaping: How rewards become weights: "std" (the paper), "pool", "tanh", "minmax", "ranks", a Shaping with its
            options, or {reward: Shaping} where rewards differ. None takes what suits the sharing policy.
        correction: How a borrowed candidate is seen from the borrower's mean: "exact", "raw" (the released two-reward
            code, which forgets to divide by sigma) or "none" (the released three-reward code). None takes what suits
            the sharing policy.
        surrogate: How the rewards of candidates that nobody asks about are predicted from those already paid for. None
            takes what suits the sharing policy: Auto has a surrogate, the others have none.
        selection: How trajectories start from the best of a pool. None takes what suits the sharing policy: Auto
            selects, with the others the first draw is the start.
        antithetic: Draw the candidates in mirrored pairs.
        preview: What rewards see of a candidate: the "guided" estimate of its clean picture; the "unguided" one, at
            half the network evaluations; or one with the noise "reused" from the step's own prediction, at none.

    Raises:
        ValueError: A number outside its range, an unknown preview or correction, an odd number of antithetic
            candidates, or eta 0, which leaves nothing to search.
    """

    candidates: int | list[int] | None = None
    sharing: Sharing = field(default_factory=Auto)
    shaping: ShapingKind | Shaping | dict[str, Shaping] | None = None
    correction: Correction | None = None
    surrogate: Surrogate | None = None
    selection: Selection | None = None
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
            for count in [*schedule, *([self.surrogate_in_use.previews] if self.surrogate_in_use else [])]:
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
        candidates = self.sharing.candidates if self.candidates is None else self.candidates
        return [candidates] if isinstance(candidates, int) else list(candidates)

    def candidates_at(self, step: int) -> int:
        """N of step 0 ... num_inference_steps - 1."""
        return self._schedule[step * len(self._schedule) // self.num_inference_steps]

    @property
    def surrogate_in_use(self) -> Surrogate | None:
        """The surrogate, or what suits the sharing policy."""
        return self.surrogate or self.sharing.surrogate

    @property
    def selection_in_use(self) -> Selection | None:
        """The selection, or what suits the sharing policy."""
        return self.selection or self.sharing.selection

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

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        weights, places = preferences.trajectories(self.sharing.anchors)
        steering, steps = self.steering(problem, weights, noise), problem.kernel.steps
        first, x = self.start(steering, on_step)
        for step in range(first, steps):
            x, observation = steering.step(x, step)
            on_step(Moment(step + 1, steps, problem.ledger, observation))
        return x[places]

    def steering(self, problem: Problem, weights: Tensor, noise: NoiseSource) -> Steering:
        """A soup of trajectories with weights (P, M), before its first step."""
        return Steering(self, problem, weights.to(problem.device), self._shapings(problem.rewards), noise)

    def start(self, steering: Steering, on_step: OnStep) -> tuple[int, Tensor]:
        """The first step that is searched, and the latents (P, C, H, W) of that level that all trajectories share."""
        problem, noise, selection = steering.problem, steering.noise, self.selection_in_use
        if selection is None:
            first, x = 0, noise.start()
        else:
            first = selection.start_at(problem.kernel.steps)
            x = steering.best(unsteered(problem, noise, range(selection.pool), on_step, first), first)
        return first, x.expand(len(steering.weights), *problem.shape)


@dataclass(frozen=True, kw_only=True)
class WeightedSum(SRSoup):
    """SRSoup that never shares: every preference asks all its rewards at every step, the baseline of the paper."""

    sharing: Sharing = field(default_factory=Never, init=False)
