"""Universal guidance: forward guidance of the noise, backward guidance of the preview, and recurrence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel, Prediction, Shares
from srsoup_lightning.samplers.gradients import Guide
from srsoup_lightning.samplers.guidance import Guidance

LEAST_SIGNAL = 0.01  # share in a latent, for forward guidance


@dataclass(frozen=True, kw_only=True)
class UniversalGuidance(Guidance):
    """Universal guidance (Bansal et al. 2023, arXiv:2302.07121).

    Forward guidance takes the gradient g of the preview's value through the network off the predicted noise: ``noise -
    rate s g``, where s is the share of noise in the latent. With `units` and a rate of 1, this is the score of the
    model's distribution times ``exp(value)``, as far as the preview's value tells that of the picture. Without, g is
    also scaled by the share of signal, so that the preview moves by ``rate s^2`` times a direction of root mean square
    1. Forward guidance is left out where a latent has less than 1 % of signal: no preview can be read off its noise.

    Backward guidance then moves the preview by gradient steps that see the decoder and the rewards alone, and corrects
    the noise to match. Both are followed by an ordinary step.

    A guided round costs a prediction, a query of each reward with weight for forward guidance and for each backward
    step, and a gradient evaluation of each such reward for forward guidance alone.

    Arguments and errors are those of :class:`Guidance`.

    Args:
        rate: Strength of forward guidance. 0 leaves it out, with its queries and gradients.
        backward_steps: Number of gradient steps on the preview, at least 0.
        backward_rate: Length of such a step: root mean square of the change of the preview for one gradient of root
            mean square 1, at least 0.

    Raises:
        ValueError: There is neither forward nor backward guidance.
    """

    rate: float = at_least(0, default=0.2)
    backward_steps: int = at_least(0, default=0)
    backward_rate: float = at_least(0, default=0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate == 0 and self.backward_steps == 0:
            raise ValueError("rate and backward_steps are 0, so nothing guides: give one of them, or use BaseModel")

    def guides(self, step: int, kernel: Kernel) -> bool:
        """See :meth:`Guidance.guides`."""
        return (self.backward_steps > 0 or self._forward(kernel.shares(step))) and super().guides(step, kernel)

    def advance(self, guide: Guide, x: Tensor, step: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Guidance.advance`."""
        kernel, seen = guide.evaluator.problem.kernel, list[Tensor]()
        shares = kernel.shares(step)
        if self._forward(shares):
            direction, prediction, values = guide.at(x, step)
            seen.append(values)
            length = self.rate * shares.noise * (shares.signal if self.units is None else 1)
            noise = prediction.noise - length * direction
            prediction = Prediction(kernel.clean(step, x, noise), noise)
        else:
            prediction = guide.evaluator.denoise(x, step)
        moved = prediction.x0
        for _ in range(self.backward_steps):
            direction, values = guide.of_clean(moved, step)
            seen.append(values)
            moved = moved + self.backward_rate * direction
        noise = prediction.noise - shares.signal / shares.noise * (moved - prediction.x0)
        return kernel.transition(step, x, Prediction(moved, noise)).draw(z), seen[0]

    def _forward(self, shares: Shares) -> bool:
        """Whether there is forward guidance at latents of this composition."""
        return self.rate > 0 and shares.signal >= LEAST_SIGNAL
