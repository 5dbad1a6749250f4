"""Result of a sampler, which is a :class:`Soup`, and the progress that it reports on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.results.soup import Soup
from srsoup_lightning.search.scalarise import Units
from srsoup_lightning.search.sharing import StepState

__all__ = ["Measures", "Moment", "Observation", "OnStep", "Soup", "shifted"]


@dataclass(frozen=True, eq=False)
class Observation:
    """Observations of a step that asked about candidates of its P trajectories, on the problem's device.

    Args:
        state: State of the trajectories before the step.
        rewards: Mean reward of the candidates around each trajectory, over those that were asked about, (P, M). NaN
            where none was.
        latents: Latents of the trajectories before the step, (P, C, H, W).
        gradients: Computes the search gradient of each reward for each trajectory, (P, M, C, H, W): what it would step
            along, before the projection, if its preference were this reward alone. 0 where nobody was asked about it.
        ancestors: Index of the trajectory that each one goes on from after the step, (P,). None without resampling.
    """

    state: StepState
    rewards: Tensor
    latents: Tensor
    gradients: Callable[[], Tensor]
    ancestors: Tensor | None = None

    @property
    def preferences(self) -> Tensor:
        """Weights of each trajectory's preference, (P, M), those of anchors included."""
        return self.state.preferences

    @property
    def closeness(self) -> Tensor:
        """Closeness of the predicted clean latents, symmetric (P, P) in [0, 1]. It is computed when asked for.

        See :func:`srsoup_lightning.search.closeness.preview_closeness`.
        """
        return self.state.preview_closeness


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of a step of a method that selects, for each of P preferences.

    Attributes:
        preferences: Weights of the preferences, (P, M).
        values: Measures by name, (P,) each: the best value up to now, the effective sample size, and the like.
        units: Units of the rewards that the values are made of. None where they are not known yet.
        ancestors: Index of the latent of the step before that each of K latents descends from, (P, K). None where the
            method does not resample.
    """

    preferences: Tensor
    values: Mapping[str, Tensor]
    units: Units | None = None
    ancestors: Tensor | None = None


class Moment(NamedTuple):
    """Progress of a run, reported after every denoising step.

    Attributes:
        step: Number of steps done, 1 ... steps.
        steps: Number of steps of the soup. A method with several trajectories counts the steps of all of them.
        ledger: Costs of the soup so far. The sampler goes on counting in it.
        observation: Observations of the step, or measures of a method that selects. None where nothing was asked.
    """

    step: int
    steps: int
    ledger: Ledger
    observation: Observation | Measures | None = None


OnStep = Callable[[Moment], None]
"""Callback after every denoising step."""


def shifted(on_step: OnStep, done: int, steps: int) -> OnStep:
    """Return a callback for a part of a soup: `done` steps came before it, of `steps` steps altogether."""

    def report(moment: Moment) -> None:
        on_step(moment._replace(step=done + moment.step, steps=steps))

    return report
