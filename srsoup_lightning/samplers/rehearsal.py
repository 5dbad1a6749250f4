"""Rehearsal of a soup: the sampler itself runs on a stand-in for the model, so that costs are known beforehand."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TypeVar

import torch
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.costs.limits import budget_of
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.stand_in import SHAPE, cosine_schedule, projections, stand_in

REPEATS = 3  # of each call that is timed
FEW = 4  # latents whose gradients are timed at once
Result = TypeVar("Result")


def count(sampler: Sampler, preferences: Preferences, *, model: Denoiser | None = None, seed: int = 0) -> Ledger:
    """Count the costs of a soup without a model; see :func:`rehearse`."""
    return rehearse(sampler, preferences, model=model, seed=seed)[0]


def rehearse(
    sampler: Sampler, preferences: Preferences, *, model: Denoiser | None = None, seed: int = 0
) -> tuple[Ledger, dict[str, float]]:
    """Count the costs of a soup, and the images that it sends to rewards, by the names of budgets.

    Final images are included in the latter. The counts are exact where the sharing policy depends on nothing but steps
    and preferences. Where it depends on latents, those of the stand-in take the place of the model's, and another
    `seed` gives other counts. Where the cost of a method varies, the counts are those of all preferences apart, which
    it can't exceed.

    Args:
        sampler: Method.
        preferences: Preferences to make pictures for.
        model: Denoising process of a prompt, for its transitions and for the costs of a prediction. None searches every
            step, which is one more than schedules have whose last step is without noise. It takes two evaluations for a
            guided prediction, which is one more than distilled models take.
        seed: Seed of the stand-in's rewards.
    """
    shape = (SHAPE[0], *(max(side, sampler.least_side) for side in SHAPE[1:]))
    if model is None:
        kernel = cosine_schedule(sampler.num_inference_steps, sampler.eta)
        denoiser = stand_in(kernel, 2 if sampler.guidance_scale > 1 else 1, shape)
    else:
        denoiser = stand_in(model.kernel, model.evaluations, shape, model.adapters)
    if sampler.cost_varies and len(preferences) > 1:
        parts = (rehearse(sampler, part, model=model, seed=seed) for part in preferences.apart())
        ledgers, images = zip(*parts, strict=True)
        return added(ledgers), {name: sum(each[name] for each in images) for name in images[0]}
    limits = {budget_of(name): math.inf for name in preferences.rewards}
    oracle = RewardOracle(projections(preferences.rewards, seed, shape), limits=limits)
    soup = sampler.run(Problem(denoiser, oracle, BatchSize.of(sampler.max_batch)), preferences, "plan", seed)
    return soup.ledger, oracle.account.spent()


class Forecast:
    """Expected costs of a run's soups: counted by a rehearsal once, and timed by the mean of the finished soups.

    Where the cost of a method varies, the expected one is the highest that it can come to.

    Args:
        sampler: Method.
        preferences: Preferences to make pictures for.
    """

    def __init__(self, sampler: Sampler, preferences: Preferences) -> None:
        self.sampler, self.preferences = sampler, preferences
        self._rehearsed: tuple[Ledger, dict[str, float]] | None = None
        self._seconds: list[float] = []

    def expected(self, denoiser: Denoiser) -> tuple[Ledger, dict[str, float]]:
        """Return the expected costs of a soup, and images sent to rewards, as :func:`rehearse` does."""
        if self._rehearsed is None:
            self._rehearsed = rehearse(self.sampler, self.preferences, model=denoiser)
        ledger, images = self._rehearsed
        return replace(ledger, seconds=fmean(self._seconds) if self._seconds else 0.0), images

    def learn(self, ledger: Ledger) -> None:
        """Take the seconds of a finished soup into account."""
        self._seconds.append(ledger.seconds)


@dataclass(frozen=True)
class Rates:
    """Measured time of each operation, and memory.

    Attributes:
        evaluation: Seconds for one network evaluation of a latent, in batches of the sampler's size.
        decode: Seconds for one decode.
        queries: Seconds for one query, by reward.
        peak: Peak memory in bytes.
        gradient: Seconds for the gradient of one prediction of a latent, beside the prediction itself. 0 where no
            gradients are needed.
    """

    evaluation: float
    decode: float
    queries: dict[str, float]
    peak: int
    gradient: float = 0.0

    def seconds(self, ledger: Ledger) -> float:
        """Return the seconds of a soup with these counts, if no operations overlap."""
        asked = sum(self.queries[name] * number for name, number in ledger.queries.items())
        return self.evaluation * ledger.nfe + self.decode * ledger.decodes + self.gradient * ledger.gradients + asked


def probe(problem: Problem, gradients: bool = False) -> Rates:
    """Time a loaded model and its rewards on a full batch of noise, after a first call that warms up.

    Args:
        problem: Model and rewards. Its predictions serve its preference, where adapters make that matter.
        gradients: Whether to time gradients too, for a few latents at once.
    """
    denoiser, batch, device = problem.denoiser, problem.batch.rows, problem.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    noise = torch.randn(batch, *denoiser.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(
        device
    )
    with torch.no_grad():
        before = problem.ledger.nfe
        evaluation, prediction = _timed(lambda: problem.denoise(noise, 0), device)
        evaluations = (problem.ledger.nfe - before) / (1 + REPEATS)
        decode, images = _timed(lambda: denoiser.decode_preview(prediction.x0), device)
        prompts = [problem.prompt] * batch
        queries = {
            name: _timed(partial(reward.score, images, prompts), device)[0] / batch
            for name, reward in problem.oracle.rewards.items()
        }
    gradient = _gradient_seconds(problem, noise[:FEW]) if gradients else 0.0
    return Rates(evaluation / evaluations, decode / batch, queries, _peak_memory(device), gradient)


def _gradient_seconds(problem: Problem, x: Tensor) -> float:
    """Seconds that a gradient of the prediction takes for a latent, beside the prediction."""

    def predict() -> Tensor:
        return problem.denoise(x, 0).x0.sum()

    x = x.clone().requires_grad_()
    with problem.building_graph(checkpointing=False):
        forward, _ = _timed(predict, problem.device)
        both, _ = _timed(lambda: torch.autograd.grad(predict(), x), problem.device)
    return max(both - forward, 0.0) / len(x)


def _timed(call: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """Seconds of the shortest of some calls, and the result of a call."""
    durations = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        result = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        durations.append(time.perf_counter() - start)
    return min(durations[1:]), result


def _peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the device's allocator, or of the whole process where the device is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # Windows does not have it

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
