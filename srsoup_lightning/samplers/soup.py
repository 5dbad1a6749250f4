"""Sample Reward Soups and the weighted sum: one sampler with several sharing policies.

Yao, Pan, Fu, Tsang: Sample Reward Soups: Query-efficient Multi-Reward Guidance for Text-to-Image Diffusion Models,
ICLR 2026.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import ClassVar

import torch
from torch import Tensor

from rewards.checks import require_choice, require_instance
from srsoup_lightning.diffusion.noise import NoiseSource, require_even
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Preview, Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.result import OnStep
from srsoup_lightning.samplers.soup_gradients import TrueGradients
from srsoup_lightning.samplers.trajectories import SearchSettings, Trajectories
from srsoup_lightning.samplers.walk import jumped, unsteered, walk
from srsoup_lightning.search.directions import Conflicts
from srsoup_lightning.search.gradient import Correction
from srsoup_lightning.search.selection import Resampling, Selection
from srsoup_lightning.search.shaping import Shaping, ShapingKind
from srsoup_lightning.search.sharing import FixedSoup, Never, Sharing
from srsoup_lightning.search.surrogate import Surrogate


@dataclass(frozen=True, kw_only=True)
class SRSoup(Sampler):
    """Steer one trajectory for each preference by search gradients that the preferences share.

    The defaults are the paper's. :mod:`srsoup_lightning.samplers.soup_presets` has those for few queries, and those for
    few network evaluations.

    Args:
        candidates: Number N of noise draws that a search gradient is made of, at least 2. A list of numbers is spread
            evenly over the steps: [24, 8] spends three quarters in the first half. At steps where it is 0 in a list,
            all trajectories take the same unsteered step.
        sharing: Sharing policy. FixedSoup is the paper's.
        shaping: Function from rewards to weights: "std" (the paper), "pool", "tanh", "minmax", "ranks", a Shaping with
            its options, or {reward: Shaping} where rewards differ. None takes "pool" where each trajectory has its own
            noise, and else "std".
        correction: Position of a borrowed candidate, seen from the borrower's mean: "exact", "raw" (the released
            two-reward code, which does not divide by sigma) or "none" (the released three-reward code). None takes
            "none" where each trajectory has its own noise, and else "exact".
        surrogate: Prediction of the rewards of candidates that nobody asks about. None predicts nothing.
        selection: Start from the best of a pool. None starts from the first draw.
        resampling: Let preferences go on from others' trajectories where these serve them better. None leaves each its
            own. Preferences that go on together share a prediction, so the network evaluations of a soup depend on its
            latents.
        antithetic: Draw the candidates in mirrored pairs.
        preview: Picture of a candidate that rewards see: its "guided" estimate, the "unguided" one at half the network
            evaluations, or one with the noise "reused" from the step's own prediction, at none.
        completion: Number of predictions, at least 1, that complete a candidate to the clean latents that rewards see.
            1 takes its preview. More take deterministic steps from there, so rewards see what the picture will become.
            This needs no further query, and pays where queries are the expensive part.
        gradients: Take the true gradient of each reward that has one in place of its search gradient, see
            :class:`~srsoup_lightning.samplers.soup_gradients.TrueGradients`. Other rewards are searched for. The number
            of candidates then says how strongly true gradients steer too.
        conflicts: Treatment of true gradients that point against each other: "ignore", "mgda" or "pcgrad", see
            :func:`~srsoup_lightning.search.directions.combine`.
        checkpointing: Compute activations again for true gradients and do not keep them. This saves memory and costs
            another evaluation for each gradient, which is not counted.

    Raises:
        TypeError: A part is of another class.
        ValueError: A number is outside its range, a preview or correction is unknown, the number of antithetic
            candidates is odd, `conflicts` are given without gradients, reused previews are to be completed,
            trajectories of true gradients are to be resampled, or eta is 0, which leaves nothing to search.
    """

    candidates: int | list[int] = 30
    sharing: Sharing = field(default_factory=FixedSoup)
    shaping: ShapingKind | Shaping | dict[str, Shaping] | None = None
    correction: Correction | None = None
    surrogate: Surrogate | None = None
    selection: Selection | None = None
    resampling: Resampling | None = None
    antithetic: bool = False
    preview: Preview = "guided"
    completion: int = at_least(1, default=1)
    gradients: bool = False
    conflicts: Conflicts = "ignore"
    checkpointing: bool = field(default=False, metadata={"operational": True})

    needs_noise: ClassVar[bool] = True
    serves_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_instance("sharing", self.sharing, Sharing)
        for name, kind in {"surrogate": Surrogate, "selection": Selection, "resampling": Resampling}.items():
            require_instance(name, getattr(self, name), kind, optional=True)
        self._require_counts()
        if self.antithetic:
            for count in [*self._counts, *([self.surrogate.previews] if self.surrogate else [])]:
                require_even(count)
        require_choice("preview", self.preview, Preview)
        if self.completion > 1 and self.preview == "reused":
            raise ValueError(
                f"completion is {self.completion}, and previews are reused: they evaluate nothing. "
                "Give completion: 1, or guided or unguided previews"
            )
        require_choice("conflicts", self.conflicts, Conflicts)
        if self.conflicts != "ignore" and not self.gradients:
            raise ValueError(f"conflicts is {self.conflicts}, which is for true gradients: give gradients: true too")
        if self.resampling is not None and self.gradients:
            raise ValueError(
                "resampling compares trajectories by their candidates, and true gradients have none: "
                "give gradients: false or resampling: null"
            )
        self.settings(())

    @property
    def takes_gradients(self) -> bool:
        """See :attr:`Sampler.takes_gradients`."""
        return self.gradients

    @property
    def dearest(self) -> SRSoup:
        """See :attr:`Sampler.dearest`."""
        return self if self.resampling is None else replace(self, resampling=None)

    def lacking(self, preferences: Preferences, differentiable: Collection[str]) -> list[str]:
        """See :meth:`Sampler.lacking`; one reward with a gradient is enough."""
        found = self.gradients and not set(preferences.weighted) & set(differentiable)
        return preferences.weighted if found else []

    def _require_counts(self) -> None:
        counts = self._counts
        if not all(isinstance(count, Integral) for count in counts):
            raise TypeError(f"candidates is {self.candidates!r}: give a whole number, or a list of them")
        if any(count < 2 and (count != 0 or isinstance(self.candidates, int)) for count in counts) or not counts:
            raise ValueError(
                f"candidates is {self.candidates}: a search gradient compares at least 2, or 0 in a list of them for "
                "steps without search"
            )

    @property
    def _counts(self) -> list[int]:
        return list(self.candidates) if isinstance(self.candidates, list | tuple) else [self.candidates]

    def check(self, preferences: Preferences) -> None:
        """See :meth:`Sampler.check`."""
        named = set(self.shaping) if isinstance(self.shaping, dict) else set()
        if unknown := sorted(named - set(preferences.rewards)):
            raise ValueError(f"shaping names {unknown}: the rewards are {list(preferences.rewards)}")

    def settings(self, rewards: Sequence[str]) -> SearchSettings:
        """Resolve the options for rewards of these names; None takes what suits the sharing policy.

        Raises:
            ValueError: The correction is unknown.
        """
        counts, steps, own = self._counts, self.num_inference_steps, self.sharing.own_noise
        correction = self.correction or ("none" if own else "exact")
        require_choice("correction", correction, Correction)
        return SearchSettings(
            candidates=tuple(counts[step * len(counts) // steps] for step in range(steps)),
            sharing=self.sharing,
            shapings=self._shapings(rewards, Shaping("pool" if own else "std")),
            correction=correction,
            surrogate=self.surrogate,
            antithetic=self.antithetic,
            preview=self.preview,
            completion=self.completion,
            resampling=self.resampling,
        )

    def _shapings(self, rewards: Sequence[str], default: Shaping) -> list[Shaping]:
        if isinstance(self.shaping, dict):
            return [self.shaping.get(reward, default) for reward in rewards]
        if self.shaping is None:
            return [default] * len(rewards)
        shared = self.shaping if isinstance(self.shaping, Shaping) else Shaping(self.shaping)
        return [shared] * len(rewards)

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        weights, indices = preferences.trajectories(self.sharing.anchors)
        trajectories = self.trajectories(problem, weights, noise)
        first, x = self.start(trajectories, on_step)
        return walk(problem, x, trajectories.step, on_step, first)[indices]

    def trajectories(self, problem: Problem, weights: Tensor, noise: NoiseSource) -> Trajectories:
        """Return the trajectories of preferences (P, M), before their first step."""
        settings, weights = self.settings(problem.rewards), weights.to(problem.device)
        return Trajectories(settings, problem, weights, noise, self._true_gradients(problem))

    def _true_gradients(self, problem: Problem) -> TrueGradients | None:
        if not self.gradients:
            return None
        known = [name in problem.oracle.differentiable for name in problem.rewards]
        mask = torch.tensor(known, dtype=torch.bool, device=problem.device)
        return TrueGradients(problem, type(self).__name__, mask, self.conflicts, self.checkpointing)

    def start(self, trajectories: Trajectories, on_step: OnStep) -> tuple[int, Tensor]:
        """Return the first step that is searched, and latents (P, C, H, W) of that level."""
        noise = trajectories.noise
        problem = trajectories.problem.serving(trajectories.weights.mean(0))  # all of them start from one pool
        if self.selection is None:
            first, x = 0, noise.start()
        else:
            first = self.selection.first_step(problem.kernel.steps)
            draw = jumped if self.selection.jump else unsteered
            pool = draw(problem, noise, range(self.selection.pool), on_step, first)
            x = trajectories.best(pool, first, self.selection.shared)
        return first, x.expand(len(trajectories.weights), *problem.shape)


@dataclass(frozen=True, kw_only=True)
class WeightedSum(SRSoup):
    """SRSoup that never shares: each preference asks all its rewards at every step. It is the paper's baseline."""

    sharing: Sharing = field(default_factory=Never, init=False)
