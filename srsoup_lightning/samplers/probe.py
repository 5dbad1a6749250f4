"""Measured times and memory of a loaded model and its rewards."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.gradients import differentiate

REPEATS = 3  # of each call that is timed
FEW = 4  # latents whose gradients are timed at once
Result = TypeVar("Result")


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
    """Seconds that a gradient of the prediction takes for a latent, beside the prediction.

    The rewards are differentiated too, once, so that the peak memory has their part.
    """
    known = [name in problem.oracle.differentiable for name in problem.rewards]
    if any(known):
        differentiate(problem, "a probe", x, 0, torch.tensor([known] * len(x), dtype=torch.bool, device=x.device))

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
