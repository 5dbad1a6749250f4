"""What a run will cost, before anything is loaded: the sampler itself runs, on a stand-in for the model."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import TypeVar

import torch
from torch import Tensor

from srsoup_lightning.costs.account import budget_of
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.transition import DDIM, Kernel, Prediction
from srsoup_lightning.oracle.oracle import RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler

SHAPE = (3, 4, 4)  # of the stand-in's latents
REPEATS = 3  # of each call that is timed
Result = TypeVar("Result")


def count(sampler: Sampler, preferences: Preferences, *, model: Denoiser | None = None, seed: int = 0) -> Ledger:
    """Count a soup's queries, network evaluations and decodes, without a model; see :func:`rehearse`."""
    return rehearse(sampler, preferences, model=model, seed=seed)[0]


def rehearse(
    sampler: Sampler, preferences: Preferences, *, model: Denoiser | None = None, seed: int = 0
) -> tuple[Ledger, dict[str, float]]:
    """What a soup costs, and the images that it sends to rewards, final ones among them, by the names of budgets.

    Exact where the sharing policy looks at nothing but steps and preferences; where it looks at the latents, those of
    the stand-in stand for the model's, and another `seed` gives other counts.

    Args:
        sampler: The method.
        preferences: The points to make pictures for.
        model: A prompt's denoising process where one is loaded, for its transitions and for what a prediction costs;
            None searches every step, which is one more than schedules have whose last step is without noise, and takes
            two evaluations for a guided prediction, which is one more than distilled models take.
        seed: Of the stand-in's rewards.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(preferences.rewards), *SHAPE, generator=generator)
    rewards = {
        name: partial(_projected, direction) for name, direction in zip(preferences.rewards, directions, strict=True)
    }
    if model is None:
        denoiser = stand_in(searched_throughout(sampler), 2 if sampler.guidance_scale > 1 else 1)
    else:
        denoiser = stand_in(model.kernel, model.evaluations)
    judges = RewardOracle(rewards, bounds={budget_of(name): math.inf for name in rewards})
    soup = sampler.run(Problem(denoiser, judges, sampler.max_batch), preferences, "plan", seed)
    return soup.ledger, judges.account.spent()


def searched_throughout(sampler: Sampler) -> DDIM:
    """The cosine schedule with the steps and the eta of a sampler."""
    return cosine_schedule(sampler.num_inference_steps, sampler.eta)


def cosine_schedule(steps: int, eta: float) -> DDIM:
    """A cosine schedule (Nichol & Dhariwal 2021) whose cleanest level keeps some noise."""
    angles = [0.02 + 0.96 * (steps - level) / steps for level in range(steps + 1)]
    return DDIM(tuple(cos(angle * pi / 2) ** 2 for angle in angles), eta)


def _projected(direction: Tensor, images: Tensor, prompts: list[str]) -> Tensor:
    return (images * direction).sum((1, 2, 3))


def stand_in(kernel: Kernel, evaluations: int) -> Denoiser:
    """A denoiser that does next to nothing, over the given transitions."""

    def denoise(x: Tensor, level: int) -> Prediction:
        return Prediction(x.tanh(), x)

    def decode(latents: Tensor) -> Tensor:
        return latents.tanh() / 2 + 0.5

    def encode(images: Tensor) -> Tensor:
        return 2 * images - 1

    def reschedule(num_inference_steps: int, eta: float) -> Denoiser:
        return stand_in(cosine_schedule(num_inference_steps, eta), evaluations)

    return Denoiser(
        shape=SHAPE,
        kernel=kernel,
        denoise=denoise,
        denoise_unguided=denoise,
        decode=decode,
        decode_preview=decode,
        encode=encode,
        reschedule=reschedule,
        evaluations=evaluations,
        device=torch.device("cpu"),
    )


@dataclass(frozen=True)
class Rates:
    """What one of each costs, measured.

    Attributes:
        evaluation: Seconds a network evaluation of a latent, in batches of the sampler's size.
        decode: Seconds a decode.
        queries: Seconds a query, by reward.
        peak: Memory at its highest, in bytes.
    """

    evaluation: float
    decode: float
    queries: dict[str, float]
    peak: int

    def seconds(self, ledger: Ledger) -> float:
        """What a soup with these counts takes, one after the other."""
        asked = sum(self.queries[name] * number for name, number in ledger.queries.items())
        return self.evaluation * ledger.nfe + self.decode * ledger.decodes + asked


def probe(problem: Problem) -> Rates:
    """Time a loaded model and its judges on a full batch of noise, after a first call that warms up."""
    denoiser, batch, device = problem.denoiser, problem.max_batch, problem.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    noise = torch.randn(batch, *denoiser.shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        evaluation, prediction = _timed(lambda: denoiser.denoise(noise, 0), device)
        decode, images = _timed(lambda: denoiser.decode_preview(prediction.x0), device)
        prompts = [problem.prompt] * batch
        queries = {
            name: _timed(partial(score, images, prompts), device)[0] / batch
            for name, score in problem.judges.rewards.items()
        }
    return Rates(evaluation / batch / denoiser.evaluations, decode / batch, queries, _peak_memory(device))


def _timed(call: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """The shortest of some calls in seconds, and what it returned."""
    durations = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        result = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        durations.append(time.perf_counter() - start)
    return min(durations[1:]), result


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the device's allocator, or of the whole process where the device is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # which Windows has not

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
