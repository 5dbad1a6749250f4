"""Methods that know one number to maximise, and the evaluator that gives it to them for all preferences."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from rewards.checks import require_choice, require_instance
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import AnyPreview, Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.walk import complete, unsteered_previews
from srsoup_lightning.search.candidates import distinct
from srsoup_lightning.search.scalarise import Scalarisation, Units, Value

PreviewKind = Literal["guided", "unguided"]


class Assessment(NamedTuple):
    """Answers about latents (P, B, C, H, W): B for each of P preferences.

    Attributes:
        values: Values to the preferences, (P, B).
        rewards: Rewards (P, B, M), 0 where the preference has no weight.
        prediction: Predictions at the latents, (P, B, C, H, W) each.
    """

    values: Tensor
    rewards: Tensor
    prediction: Prediction


class Evaluator:
    """Value of latents to each of P preferences, which are served together.

    Trajectories of several preferences often stand at the same point. Whatever is computed or asked there is computed
    or asked once. Rewards have the units of the first latents that are assessed, unless others are given. They keep
    these units for the whole soup.

    Args:
        problem: Denoising process and rewards.
        value: Value to the preferences, with weights (P, M).
        penalty: Weight of the mean squared distance from `reference`, at least 0.
        reference: Predicted clean latents of the unsteered trajectory of the seed at each level, (T + 1, C, H, W).

    Attributes:
        value: The value, with its units once they are known.
    """

    def __init__(self, problem: Problem, value: Value, penalty: float = 0.0, reference: Tensor | None = None) -> None:
        self.problem, self.value, self.penalty, self.reference = problem, value, penalty, reference

    def __len__(self) -> int:
        return len(self.value.weights)

    def denoise(self, x: Tensor, level: int, guided: bool = True) -> Prediction:
        """Return the predictions at latents x (..., C, H, W) of level 0 ... T - 1."""
        flat = x.reshape(-1, *self.problem.shape)
        rows, index = distinct(flat)
        return _spread(self.problem.denoise(flat[rows], level, guided), index, x)

    def only(self, members: Tensor) -> Evaluator:
        """Return the evaluator of some of the preferences, by indices (P',), with the units that are known by now."""
        value = replace(self.value, weights=self.value.weights[members])
        return Evaluator(self.problem, value, self.penalty, self.reference)

    def preview(self, x: Tensor, level: int, evaluations: int = 1, kind: PreviewKind = "guided") -> Assessment:
        """Predict the clean latents of latents x (P, B, C, H, W) of a level, and ask the rewards about them.

        Args:
            x: Latents.
            level: Their level, 0 ... T.
            evaluations: Number of predictions for each latent, see :func:`~srsoup_lightning.samplers.walk.complete`.
            kind: Predictions are "guided" or "unguided".

        Returns:
            Answers about the clean latents, with the predictions at x.
        """
        if evaluations == 1:
            return self._assess(x, level, kind)
        flat = x.reshape(-1, *self.problem.shape)
        rows, index = distinct(flat)
        clean, last, first = complete(self.problem, flat[rows], level, evaluations, guided=kind == "guided")
        return self.judge(clean[index].view_as(x), last)._replace(prediction=_spread(first, index, x))

    def judge(self, clean: Tensor, level: int) -> Assessment:
        """Ask the rewards about clean latents (P, B, C, H, W) that are predicted from latents of a level, or final."""
        return self._assess(clean, level, "clean")

    def ask(self, clean: Tensor, level: int) -> Tensor:
        """Ask the rewards about clean latents (K, C, H, W), predicted from latents of a level, that serve everyone.

        Returns:
            Rewards (K, M). Every reward that some preference weighs is asked about each latent. The others are 0.
        """
        asked = (self.value.weights > 0).any(0).expand(len(clean), -1)
        scores = self.problem.query(clean, level, asked)
        self._settle_units(scores)
        return scores

    def values(self, rewards: Tensor, clean: Tensor, level: int) -> Tensor:
        """Return the values (P, B) of rewards (P or 1, B, M) of clean latents (P or 1, B, C, H, W) of a level."""
        values = self.value(rewards)
        if self.reference is None:
            return values
        return values - self.penalty * (clean - self.reference[level]).square().flatten(2).mean(2)

    def measures(self, values: Mapping[str, Tensor], ancestors: Tensor | None = None) -> Measures:
        """Return measures (P,) of a step by name, with the units of the rewards, and the ancestors (P, K)."""
        return Measures(self.value.weights, values, self.value.units, ancestors)

    def _assess(self, x: Tensor, level: int, kind: AnyPreview) -> Assessment:
        flat = x.reshape(-1, *self.problem.shape)
        rows, index = distinct(flat)
        scores, found = self.problem.query_previews(flat[rows], level, self.asked(index), kind)
        return self.answer(x, level, scores, found, index)

    def asked(self, index: Tensor) -> Tensor:
        """Return which rewards are asked about U points, bool (U, M), by the index (P B,) of each latent's point."""
        weighed = (self.value.weights > 0).repeat_interleave(len(index) // len(self), dim=0)
        asked = torch.zeros(int(index.max()) + 1, weighed.shape[1], dtype=torch.int64, device=index.device)
        return asked.index_add_(0, index, weighed.long()) > 0

    def answer(self, x: Tensor, level: int, scores: Tensor, found: Prediction, index: Tensor) -> Assessment:
        """Return the answers about latents x (P, B, C, H, W) from those at their U points, and settle the units."""
        self._settle_units(scores)
        rewards, prediction = scores[index].view(*x.shape[:2], -1), _spread(found, index, x)
        return Assessment(self.values(rewards, prediction.x0, level), rewards, prediction)

    def _settle_units(self, scores: Tensor) -> None:
        if self.value.units is None:
            self.value = self.value.in_units_of(scores)


def _spread(found: Prediction, index: Tensor, x: Tensor) -> Prediction:
    """Predictions at latents x (..., C, H, W), from those at distinct latents and the index (B,) of each latent."""
    return Prediction(found.x0[index].view_as(x), found.noise[index].view_as(x))


def take(x: Tensor, index: Tensor) -> Tensor:
    """Return the latents (P, N, ...) of x (P, K, ...) at indices (P, N), those of each preference among its own."""
    return x[torch.arange(len(x), device=x.device).unsqueeze(1), index]


@dataclass(frozen=True, kw_only=True)
class Scalarised(Sampler, abc.ABC):
    """Base of methods that know one number to maximise. They serve all preferences together.

    A subclass writes :meth:`search`. Preferences start from the same latent and draw the same random numbers. So
    their trajectories, and the work on them, are shared until the preferences choose differently.

    Args:
        scalarisation: Value of rewards to a preference: "linear", "tchebycheff" or "ranks", see
            :class:`~srsoup_lightning.search.scalarise.Value`.
        units: Zero and unit of each reward: {reward: [mean, standard deviation]}, best of unsteered pictures of the
            prompts. None takes those of the first pictures or previews that the method asks about.
        penalty: Weight of the distance from the unsteered picture of the same seed, at least 0: this many units of
            value for each unit of the mean squared distance of the predicted clean latents. It costs one unsteered
            trajectory, T predictions, for all preferences together. The idea is that of MIRA (arXiv:2510.01549).

    Raises:
        ValueError: The scalarisation is unknown, a unit is not above 0, or see :class:`Sampler`.
    """

    cost_varies: ClassVar[bool] = True

    scalarisation: Scalarisation = "linear"
    units: Mapping[str, Sequence[float]] | None = None
    penalty: float = at_least(0, default=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("scalarisation", self.scalarisation, Scalarisation)
        require_instance("units", self.units, Mapping, optional=True)
        for name, given in (self.units or {}).items():
            if len(given) != 2 or not all(map(isfinite, given)) or given[1] <= 0:
                raise ValueError(f"units of {name!r} are {list(given)}: give [mean, standard deviation above 0]")

    def check(self, preferences: Preferences) -> None:
        """See :meth:`Sampler.check`."""
        if self.units is None:
            return
        if unknown := sorted(set(self.units) - set(preferences.rewards)):
            raise ValueError(f"units name {unknown}: the rewards are {list(preferences.rewards)}")
        if missing := sorted(set(preferences.weighted) - set(self.units)):
            raise ValueError(f"units leave out {missing}: give [mean, standard deviation] for each reward with weight")

    @abc.abstractmethod
    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """Return clean latents (P, C, H, W), one for each preference.

        Args:
            evaluator: Value of latents to the P preferences.
            noise: Source of all random numbers.
            on_step: Callback after every step.
        """

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        units = None
        if self.units is not None:
            table = torch.tensor([list(self.units[name]) for name in preferences.rewards], dtype=torch.float32)
            units = Units(*table.to(problem.device).T)
        value = Value(preferences.weights.to(problem.device), self.scalarisation, units)
        reference = unsteered_previews(problem, noise) if self.penalty else None
        return self.search(Evaluator(problem, value, self.penalty, reference), noise, on_step)


@dataclass(frozen=True, kw_only=True)
class Previewing(Scalarised, abc.ABC):
    """Base of methods that ask about the children of a latent by their previews.

    Args:
        preview: Picture of a child that rewards see: its "guided" estimate, or the "unguided" one without
            classifier-free guidance, at half of the network evaluations. The prediction of a kept child serves its next
            step where it is guided.

    Raises:
        ValueError: The kind of preview is unknown, or see :class:`Scalarised`.
    """

    preview: PreviewKind = "guided"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("preview", self.preview, PreviewKind)

    def serving(self, x0: Tensor, noise: Tensor) -> Prediction | None:
        """Return the prediction of a kept child for its next step. None where a preview does not serve for it."""
        return Prediction(x0, noise) if self.preview == "guided" else None
