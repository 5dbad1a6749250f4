"""Transitions of a rectified flow with fresh noise, from the velocity at ``x_t``.

A latent of flow time s is ``x = (1 - s) x0 + s noise``. The velocity is ``v = noise - x0``. From the x0 and the noise
of a velocity, the deterministic step to s' is ``(1 - s') x0 + s' noise``. This is Euler's step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import pi, sin
from typing import Literal

from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.transition import Kernel, Prediction, Shares

FlowTransition = Literal["ancestral", "cps", "sde"]


@dataclass(frozen=True)
class Flow(Kernel):
    """Base of the transitions of a rectified flow.

    Args:
        times: Flow times s of the T + 1 levels, falling, in [0, 1].
        eta: Noise level, in [0, 1]. 0 is the plain flow, with Euler's step.

    Raises:
        ValueError: There are fewer than two levels, levels do not fall, or eta is outside [0, 1].
    """

    times: tuple[float, ...]
    eta: float

    def __post_init__(self) -> None:
        inside = all(0 <= s <= 1 for s in self.times)
        if len(self.times) < 2 or not inside or any(b >= a for a, b in pairwise(self.times)):
            raise ValueError(f"flow times {self.times} must fall from 1 towards 0, over at least two levels")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}: give a number in [0, 1], 0 for the plain flow")

    @property
    def steps(self) -> int:
        """See :attr:`Kernel.steps`."""
        return len(self.times) - 1

    def shares(self, level: int) -> Shares:
        """See :meth:`Kernel.shares`."""
        return Shares(1 - self.times[level], self.times[level])

    def deterministic(self) -> Kernel:
        """See :meth:`Kernel.deterministic`."""
        return replace(self, eta=0.0)


class FlowAncestral(Flow):
    """DDIM's eta for a flow. At eta 1 this is the posterior ``q(x_{s'} | x_s, x0)``; below 1 it has less noise.

    Song et al. 2021, arXiv:2010.02502, equations 12 and 16 with the flow's coefficients ``1 - s`` and ``s``. It keeps
    the marginals as steps get small. It ends without noise.
    """

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        s, there = self.times[step], self.times[step + 1]
        kept = (1 - s) * there / ((1 - there) * s)
        return self.eta * there * max(1 - kept**2, 0.0) ** 0.5


class FlowCPS(Flow):
    """Coefficient-preserving sampling: each step removes as much noise as it draws anew.

    Wang & Yu 2025, arXiv:2509.05952. At eta 1 all noise is drawn anew. It ends without noise. The share that is drawn
    anew does not shrink with the step size. So more steps lose more of the variation that the predicted clean latent
    does not have, and pictures vary less than those of the model itself.
    """

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        return self.times[step + 1] * sin(self.eta * pi / 2)


class FlowSDE(Flow):
    """Euler-Maruyama steps of the flow's stochastic differential equation, as in Flow-GRPO.

    Liu et al. 2025, arXiv:2505.05470, equation 9. It keeps the marginals as steps get small. Only the first step from
    pure noise adds too much noise, which later steps remove. The last step adds noise that stays in the picture. With
    fewer steps, this noise is stronger.
    """

    def _noise(self, step: int) -> float:
        """Diffusion coefficient b of a step. At s = 1 it diverges, so the next level's time is in the denominator."""
        s, there = self.times[step], self.times[step + 1]
        return self.eta * (s / (1 - (there if s == 1 else s))) ** 0.5

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        return self._noise(step) * (self.times[step] - self.times[step + 1]) ** 0.5

    def mean(self, step: int, x: Tensor, prediction: Prediction) -> Tensor:
        """See :meth:`Kernel.mean`."""
        s, change = self.times[step], self.times[step + 1] - self.times[step]
        velocity = prediction.noise - prediction.x0
        drift = self._noise(step) ** 2 / (2 * s) * change
        return x * (1 + drift) + velocity * (change + (1 - s) * drift)


KERNELS: dict[FlowTransition, type[Flow]] = {"ancestral": FlowAncestral, "cps": FlowCPS, "sde": FlowSDE}


def flow_kernel(transition: FlowTransition, times: tuple[float, ...], eta: float) -> Flow:
    """Return the kernel of that name.

    Raises:
        ValueError: The name is unknown, or see :class:`Flow`.
    """
    require_choice("transition", transition, FlowTransition)
    return KERNELS[transition](times, eta)


def flow_prediction(velocity: Tensor, x: Tensor, time: float) -> Prediction:
    """Convert a velocity (B, C, H, W) at latents x (B, C, H, W) of flow time s to a clean latent and noise."""
    return Prediction(x - time * velocity, x + (1 - time) * velocity)
