"""Rectified flow: transitions with fresh noise, from the velocity at ``x_t``.

A latent of flow time s is ``x = (1 - s) x0 + s noise``; the velocity is ``v = noise - x0``. With x0 and the noise that
a velocity stands for, the deterministic step to s' is ``(1 - s') x0 + s' noise``, Euler's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import pi, sin
from typing import Literal, get_args

from torch import Tensor

from srsoup_lightning.diffusion.transition import Kernel, Prediction, Shares

FlowTransition = Literal["ancestral", "cps", "sde"]


@dataclass(frozen=True)
class Flow(Kernel):
    """What the transitions of a rectified flow share.

    Args:
        times: Flow times s of the T + 1 levels, falling, in [0, 1].
        eta: The noise level, in [0, 1]; 0 is the plain flow, Euler's step.

    Raises:
        ValueError: Fewer than two levels, levels that don't fall, or eta outside [0, 1].
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
        """The number T of denoising steps."""
        return len(self.times) - 1

    def shares(self, level: int) -> Shares:
        """See :meth:`Kernel.shares`."""
        return Shares(1 - self.times[level], self.times[level])


class FlowAncestral(Flow):
    """What DDIM's eta is to diffusion: at eta 1 the posterior ``q(x_{s'} | x_s, x0)``, less noise below.

    Song et al. 2021, arXiv:2010.02502, equations 12 and 16 with the flow's coefficients ``1 - s`` and ``s``. Keeps the
    marginals as steps get small, and ends without noise.
    """

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        s, there = self.times[step], self.times[step + 1]
        kept = (1 - s) * there / ((1 - there) * s)
        return self.eta * there * max(1 - kept**2, 0.0) ** 0.5


class FlowCPS(Flow):
    """Coefficient-preserving sampling: in every step, as much noise leaves as is drawn anew.

    Wang & Yu 2025, arXiv:2509.05952. At eta 1 all noise is drawn anew. Ends without noise. The share drawn anew doesn't
    shrink with the steps, so the more steps, the less is left of what a clean latent's prediction can't tell: pictures
    vary less than the model's own.
    """

    def sigma(self, step: int) -> float:
        """See :meth:`Kernel.sigma`."""
        return self.times[step + 1] * sin(self.eta * pi / 2)


class FlowSDE(Flow):
    """The flow's stochastic differential equation by Euler and Maruyama, as Flow-GRPO has it.

    Liu et al. 2025, arXiv:2505.05470, equation 9. Keeps the marginals as steps get small, but for the first step from
    pure noise, whose excess later steps forget. Its last step adds noise that stays in the picture, the more the fewer
    the steps.
    """

    def _noise(self, step: int) -> float:
        """Diffusion coefficient b of a step; at s = 1, where it diverges, that of the next level's denominator."""
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
    """The kernel by name.

    Raises:
        ValueError: An unknown name, and see :class:`Flow`.
    """
    if transition not in KERNELS:
        raise ValueError(f"transition {transition!r} is unknown: choose from {', '.join(get_args(FlowTransition))}")
    return KERNELS[transition](times, eta)


def flow_prediction(velocity: Tensor, x: Tensor, time: float) -> Prediction:
    """The clean latent and the noise that a velocity (B, C, H, W) at x (B, C, H, W) of flow time s stands for."""
    return Prediction(x - time * velocity, x + (1 - time) * velocity)
