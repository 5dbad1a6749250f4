"""Value-based decoding: at each step several children, of which one is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Previewing, take
from srsoup_lightning.samplers.walk import walk
from srsoup_lightning.search.resampling import soft_choice


@dataclass(frozen=True, kw_only=True)
class SVDD(Previewing):
    """Soft value-based decoding by the posterior mean (Li et al. 2024, arXiv:2408.08252).

    Of n children of a step, one is kept with a probability in proportion to ``exp(v / alpha)``. Here v is the value of
    the child's preview. The network's answer for the preview of the kept child serves its next step too. Network
    evaluations for one preference: ``1 + n (T - 1)`` predictions; with unguided previews and blocks of one step, T
    predictions and ``n`` evaluations for each step with noise. Queries: ``n`` of each reward with weight for each
    scoring, after every step with noise, or after every block of steps.

    Args:
        children: Number n of children, at least 2.
        temperature: alpha, at least 0, in units of the value. 0 keeps the best child.
        block: Number of steps that a child is followed before it is scored, at least 1. A child of several steps is
            that of controlled denoising (Singh et al. 2025, arXiv:2502.00968).

    Raises:
        ValueError: A number is outside its range, or eta is 0.
    """

    children: int = at_least(2, default=20)
    temperature: float = at_least(0, default=0.0)
    block: int = at_least(1, default=1)

    needs_noise: ClassVar[bool] = True

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem, shape = evaluator.problem, (len(evaluator), self.children, *evaluator.problem.shape)
        steps, prediction, differ = problem.kernel.steps, None, False

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            nonlocal prediction, differ
            prediction = evaluator.denoise(x, index) if prediction is None else prediction
            transition = problem.kernel.transition(index, x, prediction)
            x, prediction = transition.draw(noise.candidates(self.children, index)), None
            differ = differ or transition.sigma > 0
            if not differ or (index + 1 < steps and (index + 1) % self.block):
                return x, None
            values, _, found = evaluator.preview(x, index + 1, kind=self.preview)
            kept = soft_choice(values, self.temperature, noise.uniform(self.children, "choice", index))
            x, *parts = (take(part, kept.unsqueeze(1)).expand(shape) for part in (x, *found))
            prediction, differ = self.serving(*parts), False
            return x, evaluator.measures({"best value": values.amax(1), "mean value": values.mean(1)})

        return walk(problem, noise.start().expand(shape), step, on_step)[:, 0]


@dataclass(frozen=True, kw_only=True)
class CoDe(SVDD):
    """Controlled denoising in blocks (Singh et al. 2025, arXiv:2502.00968): :class:`SVDD` that scores every 5 steps."""

    block: int = at_least(1, default=5)
