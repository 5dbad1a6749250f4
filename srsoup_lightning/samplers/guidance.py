"""Guidance: each step of a trajectory leans towards the gradient of differentiable rewards."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Kernel, Prediction
from srsoup_lightning.samplers.gradients import Guide
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised
from srsoup_lightning.samplers.walk import walk
from srsoup_lightning.search.directions import Conflicts, rms, unit_rms
from srsoup_lightning.search.gradient import project_to_shell

Scale = Literal["noise", "guidance", "constant"]


@dataclass(frozen=True, kw_only=True)
class Guidance(Scalarised, abc.ABC):
    """Base of methods that guide each step by the gradients of the rewards of its preview.

    A subclass writes :meth:`advance`. All preferences start from the same latent and draw the same noise. The gradient
    of each reward is computed by itself, so preferences at one point share it. Without `units`, each gradient is scaled
    to a root mean square of 1. With `units`, gradients are those of the standardised rewards.

    For one preference, a guided round of a step costs a prediction, and a query and a gradient evaluation of each
    reward with weight, unless the subclass says otherwise. An unguided step costs a prediction.

    Args:
        rate: Strength of the guidance, at least 0.
        interval: Only every so many steps are guided, at least 1.
        start: Share of the steps before the first guided one, in [0, 1). Gradients at the noisiest levels say little.
        recurrence: Number of rounds of each guided step, at least 1. Before each further one, the latent is noised back
            to the level before the step (universal guidance; FreeDoM's time travel, Yu et al. 2023, arXiv:2303.09833).
        conflicts: Treatment of gradients that point against each other: "ignore", "mgda" or "pcgrad", see
            :func:`~srsoup_lightning.search.directions.combine`.
        checkpointing: Compute activations again for the gradient and do not keep them. This saves memory and costs
            another evaluation for each gradient, which is not counted.

    Raises:
        ValueError: An argument is outside its range, the scalarisation is not linear, or a penalty is given.
    """

    rate: float = at_least(0, default=0.1)
    interval: int = at_least(1, default=1)
    start: float = 0.0
    recurrence: int = at_least(1, default=1)
    conflicts: Conflicts = "ignore"
    checkpointing: bool = field(default=False, metadata={"operational": True})

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        require_choice("conflicts", self.conflicts, Conflicts)
        if not 0 <= self.start < 1:
            raise ValueError(f"start is {self.start}: give a share of the steps in [0, 1)")
        if self.scalarisation != "linear":
            raise ValueError(f"scalarisation is {self.scalarisation}: {name} adds gradients up, leave it linear")
        if self.penalty:
            raise ValueError(f"penalty is {self.penalty}: {name} penalises no distance, leave it out")

    @abc.abstractmethod
    def advance(self, guide: Guide, x: Tensor, step: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """Take a guided step.

        Args:
            guide: Directions in which rewards rise.
            x: Latents (P, C, H, W) of level `step`.
            step: Index of the step.
            z: Noise (C, H, W) of the step.

        Returns:
            Latents (P, C, H, W) of the next level, and the values (P,) of the previews.
        """

    def guides(self, step: int, kernel: Kernel) -> bool:
        """Return whether a step is guided."""
        return step >= round(self.start * kernel.steps) and step % self.interval == 0

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        kernel = evaluator.problem.kernel
        guide = Guide(evaluator, type(self).__name__, self.conflicts, self.checkpointing)

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            if not self.guides(index, kernel):
                transition = kernel.transition(index, x, evaluator.denoise(x, index))
                return transition.draw(noise.step(index)), None
            x, values = self.advance(guide, x, index, noise.step(index))
            for again in range(1, self.recurrence):
                back, z = noise.normal(2, "recurrence", index, again)
                x, values = self.advance(guide, kernel.renoise(index + 1, x, index, back), index, z)
            return x, evaluator.measures({"value": values})

        start = noise.start()
        return walk(evaluator.problem, start.expand(len(evaluator), *start.shape), step, on_step)


@dataclass(frozen=True, kw_only=True)
class DSG(Guidance):
    """Guidance with a spherical Gaussian constraint (Yang et al. 2024, arXiv:2402.03201).

    The gradient g of the preview's value points to the best point ``sqrt(d) sigma g / |g|`` on the sphere of typical
    noise, where a latent has d numbers. The step goes to a point between it and the random one ``sigma z``, projected
    on the sphere. Steps without noise are not guided. Costs, arguments and errors are those of :class:`Guidance`.

    Args:
        rate: Share of the way from the random point to the best one, in [0, 1].

    Raises:
        ValueError: The rate is above 1, or eta is 0.
    """

    needs_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate > 1:
            raise ValueError(f"rate is {self.rate}: give a share of the way in [0, 1]")

    def guides(self, step: int, kernel: Kernel) -> bool:
        """See :meth:`Guidance.guides`."""
        return kernel.sigma(step) > 0 and super().guides(step, kernel)

    def advance(self, guide: Guide, x: Tensor, step: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Guidance.advance`."""
        direction, prediction, values = guide.at(x, step)
        transition = guide.evaluator.problem.kernel.transition(step, x, prediction)
        best = project_to_shell(direction, z)
        mixed = project_to_shell(z + self.rate * (best - z), z)
        return transition.draw(mixed.where(direction.flatten(1).any(1).view(-1, 1, 1, 1), z)), values


@dataclass(frozen=True, kw_only=True)
class Scaled(Guidance, abc.ABC):
    """Base of guidance whose steps have a length of their own. Arguments and errors are those of :class:`Guidance`.

    Args:
        scale: Factor of the direction beside `rate`. "noise" is the share of noise in the next level, so that the
            network can correct what guidance does, and the end is not moved. "guidance" scales the direction to the
            root mean square of classifier-free guidance, the difference of guided and unguided noise (FreeDoM's scale,
            which is ``s / (s - 1)`` times this for a guidance scale s); it costs one network evaluation more for each
            guided round. "constant" is 1.

    Raises:
        ValueError: The scale is unknown, or "guidance" where there is none.
    """

    rate: float = at_least(0, default=0.2)
    scale: Scale = "noise"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("scale", self.scale, Scale)
        if self.scale == "guidance" and self.guidance_scale <= 1:
            raise ValueError(
                f"scale is guidance, and guidance_scale is {self.guidance_scale}: there is no guidance to take the "
                "scale of, give scale: noise"
            )

    def scaled(self, guide: Guide, direction: Tensor, x: Tensor, step: int, prediction: Prediction) -> Tensor:
        """Return directions (P, C, H, W) in their length, at latents x (P, C, H, W) with predictions."""
        if self.scale == "constant":
            return self.rate * direction
        if self.scale == "noise":
            return self.rate * guide.evaluator.problem.kernel.shares(step + 1).noise * direction
        plain = guide.evaluator.denoise(x, step, guided=False)
        return self.rate * rms(prediction.noise - plain.noise) * unit_rms(direction)


@dataclass(frozen=True, kw_only=True)
class DPS(Scaled):
    """Diffusion posterior sampling (Chung et al. 2022, arXiv:2209.14687): a step plus ``rho g``.

    g is the gradient of the preview's value with respect to the noisy latent, through the network. With
    ``scale: guidance`` and a recurrence, this is FreeDoM (Yu et al. 2023, arXiv:2303.09833). Costs, arguments and
    errors are those of :class:`Scaled`.
    """

    def advance(self, guide: Guide, x: Tensor, step: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Guidance.advance`."""
        direction, prediction, values = guide.at(x, step)
        transition = guide.evaluator.problem.kernel.transition(step, x, prediction)
        return transition.draw(z) + self.scaled(guide, direction, x, step, prediction), values


@dataclass(frozen=True, kw_only=True)
class MPGD(Scaled):
    """Manifold preserving guided diffusion (He et al. 2023, arXiv:2311.16424): the preview itself moves by ``rho g``.

    g is the gradient with respect to the preview. No graph goes through the network, which saves most of the memory and
    time of :class:`DPS`. So a guided round makes no gradient evaluation: its gradients, through the decoder and the
    rewards, are those of its queries. Arguments and errors are those of :class:`Scaled`.
    """

    def advance(self, guide: Guide, x: Tensor, step: int, z: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Guidance.advance`."""
        prediction = guide.evaluator.denoise(x, step)
        direction, values = guide.of_clean(prediction.x0, step)
        moved = prediction._replace(x0=prediction.x0 + self.scaled(guide, direction, x, step, prediction))
        return guide.evaluator.problem.kernel.transition(step, x, moved).draw(z), values
