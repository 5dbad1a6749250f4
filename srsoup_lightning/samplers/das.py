"""Diffusion alignment as sampling: particles whose steps lean towards the gradient of the rewards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from srsoup_lightning.samplers.gradients import assess
from srsoup_lightning.samplers.particles import SMC, Sight
from srsoup_lightning.samplers.scalarised import Evaluator


@dataclass(frozen=True, kw_only=True)
class DAS(SMC):
    """Diffusion alignment as sampling (Kim et al. 2025, arXiv:2501.05803): tempered, twisted sequential Monte Carlo.

    Each step draws ``x ~ N(mean + sigma^2 lambda_t g, sigma^2)``. Here g is the gradient of the value of the particle's
    preview, and ``lambda_t`` the inverse temperature after the step. The weight takes the ratio of the model's density
    to this one. So the weighted particles still approach the model's distribution times ``exp(lambda value)`` as K
    grows, and few of them suffice. The authors' alpha is ``1 / lambda`` in units of the reward.

    Unlike the released code, gradients are resampled with their particles, the last weights take the value of the
    final latents, and a gradient that is not finite ends the soup.

    For one preference: ``K T`` predictions, and ``K (T + 1)`` queries and ``K T`` gradient evaluations of each reward
    with weight. Arguments and errors are those of :class:`~srsoup_lightning.samplers.particles.Particles`.

    Args:
        checkpointing: Compute activations again for the gradient and do not keep them. This saves memory and costs
            another evaluation for each gradient, which is not counted.

    Raises:
        ValueError: The scalarisation has no gradient.
    """

    checkpointing: bool = field(default=False, metadata={"operational": True})

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scalarisation == "ranks":
            raise ValueError("scalarisation is ranks: DAS needs a value with a gradient, give linear")

    def look(self, evaluator: Evaluator, x: Tensor, step: int, scored: bool) -> Sight:
        """See :meth:`Particles.look`."""
        found, pull = assess(evaluator, type(self).__name__, x, step, self.checkpointing)
        return Sight(found.prediction, found.values, pull)
