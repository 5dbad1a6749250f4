"""Levels of a denoising process, read off the scheduler of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from srsoup_lightning.diffusion.flow import FlowTransition, flow_kernel, flow_prediction
from srsoup_lightning.diffusion.transition import (
    DDIM,
    Kernel,
    Prediction,
    Renoising,
    dynamic_threshold,
    prediction_of,
)

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, LCMScheduler, SchedulerMixin


@dataclass(frozen=True)
class Schedule:
    """Levels of a denoising process.

    Attributes:
        times: Times that the network takes as input at levels 0 ... T - 1.
        kernel: Transitions between levels.
        read: Maps the network's output (B, C, H, W) at latents x (B, C, H, W) of a level, x and the level to the
            prediction.
    """

    times: tuple[float, ...]
    kernel: Kernel
    read: Callable[[Tensor, Tensor, int], Prediction]


def diffusion_schedule(
    scheduler: SchedulerMixin, steps: int, eta: float, transition: FlowTransition = "ancestral"
) -> Schedule:
    """Levels of a variance-preserving diffusion, for any scheduler of such a model.

    Only the config of the scheduler is used: its training noise, the spacing and offset of its timesteps, the kind of
    its predictions, and clipping. An LCMScheduler makes the schedule of a consistency model, all others that of DDIM.

    Args:
        scheduler: Scheduler of a diffusers pipeline.
        steps: Number T of denoising steps.
        eta: Share of the noise that is drawn anew, in [0, 1].
        transition: How fresh noise enters; a diffusion has the ancestral way alone.

    Raises:
        ValueError: More steps than the model was trained on, a scheduler of another kind of model, or a transition of
            flows.
    """
    from diffusers import DDIMScheduler, LCMScheduler

    if transition != "ancestral":
        raise ValueError(
            f"loading.transition is {transition!r}, which is for rectified flows, and this model is a diffusion: leave "
            "it out, and set the share of fresh noise by eta"
        )
    if "beta_start" not in scheduler.config or scheduler.config.get("use_flow_sigmas"):
        raise ValueError(
            f"the pipeline's {type(scheduler).__name__} is of no variance-preserving diffusion: it has no betas, or "
            "has flow times in their place. Give the pipeline a scheduler of a diffusion, such as DDIMScheduler"
        )
    # Other schedulers than DDIM's have no entry for clipping, and DDIM's default clips latents to [-1, 1]. The config
    # lists the values that were defaults; with this list, from_config would replace them by DDIM's defaults.
    config = {"clip_sample": False, **scheduler.config}
    config.pop("_use_default_values", None)
    if isinstance(scheduler, LCMScheduler):
        own = LCMScheduler.from_config(config)
        own.set_timesteps(steps)
        # The last step returns the clean latent itself, whatever final power the config has.
        times, kernel = _levels(own, 1.0, partial(Renoising, eta=eta))
        return Schedule(times, kernel, partial(_consistency, own, kernel, times))
    own = DDIMScheduler.from_config(config)
    own.set_timesteps(steps)
    times, kernel = _levels(own, float(own.final_alpha_cumprod), partial(DDIM, eta=eta))
    return Schedule(times, kernel, partial(_diffusion, own, kernel))


def _levels(
    scheduler: DDIMScheduler | LCMScheduler, final: float, kernel: Callable[[tuple[float, ...]], DDIM]
) -> tuple[tuple[int, ...], DDIM]:
    """Timesteps of levels 0 ... T - 1, and the kernel over levels 0 ... T, the last of signal power `final`."""
    times = tuple(scheduler.timesteps.tolist())
    powers = scheduler.alphas_cumprod.double()
    return times, kernel((*(float(powers[time]) for time in times), final))


def _diffusion(
    scheduler: DDIMScheduler | LCMScheduler, kernel: DDIM, output: Tensor, x: Tensor, level: int
) -> Prediction:
    """Prediction of an output (B, C, H, W), clipped or thresholded where the config of the scheduler says so."""
    config = scheduler.config
    x0, noise = prediction_of(output, x, kernel.alphas[level], config.prediction_type)
    if config.thresholding:
        x0 = dynamic_threshold(x0, config.dynamic_thresholding_ratio, config.sample_max_value)
    elif config.clip_sample:
        x0 = x0.clamp(-config.clip_sample_range, config.clip_sample_range)
    return Prediction(x0, noise)


def _consistency(
    scheduler: LCMScheduler, kernel: DDIM, times: tuple[int, ...], output: Tensor, x: Tensor, level: int
) -> Prediction:
    """Consistency function of Luo et al. 2023, arXiv:2310.04378, section 3.2: a skip connection that fades in t."""
    x0 = _diffusion(scheduler, kernel, output, x, level).x0
    skip, out = scheduler.get_scalings_for_boundary_condition_discrete(torch.tensor(times[level], dtype=torch.int64))
    x0 = float(out) * x0 + float(skip) * x
    return prediction_of(x0, x, kernel.alphas[level], "sample")


def flow_schedule(
    scheduler: SchedulerMixin,
    steps: int,
    eta: float,
    transition: FlowTransition,
    **arguments: Any,  # noqa: ANN401
) -> Schedule:
    """Levels of a rectified flow, at the times of the pipeline's own scheduler.

    Args:
        scheduler: Scheduler of a diffusers pipeline, whose ``sigmas`` are flow times.
        steps: Number T of denoising steps.
        eta: Noise level, in [0, 1].
        transition: How fresh noise enters: "ancestral", "cps" or "sde".
        arguments: Arguments of ``set_timesteps``.

    Raises:
        ValueError: A scheduler that makes another number of evaluations, or an unknown transition.
    """
    own = deepcopy(scheduler)
    own.set_timesteps(**arguments)
    sigmas, times = tuple(own.sigmas.tolist()), tuple(own.timesteps.tolist())
    if len(times) != steps or len(sigmas) != steps + 1:
        raise ValueError(
            f"the pipeline's {type(own).__name__} makes {len(times)} evaluations of {steps} steps: give it one of "
            "first order, such as FlowMatchEulerDiscreteScheduler"
        )
    kernel = flow_kernel(transition, sigmas, eta)

    def read(output: Tensor, x: Tensor, level: int) -> Prediction:
        return flow_prediction(output, x, sigmas[level])

    return Schedule(times, kernel, read)


def even_flow_schedule(
    scheduler: SchedulerMixin, steps: int, eta: float, transition: FlowTransition, shift: float
) -> Schedule:
    """Levels of a rectified flow, evenly spaced from 1 to 1 / T before the scheduler shifts them, as FLUX has them.

    Args:
        scheduler: See :func:`flow_schedule`.
        steps: Number T of denoising steps.
        eta: Noise level, in [0, 1].
        transition: How fresh noise enters.
        shift: Shift mu; FlowMatchEulerDiscreteScheduler ignores it without dynamic shifting.
    """
    arguments: dict[str, Any] = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
    if scheduler.config.get("use_flow_sigmas"):  # a multistep solver, which takes no sigmas
        arguments = {"num_inference_steps": steps}
    return flow_schedule(scheduler, steps, eta, transition, mu=shift, **arguments)


def dynamic_shift(scheduler: SchedulerMixin, tokens: int, max_shift: float = 1.15) -> float:
    """Shift mu of the flow times for an image of `tokens` tokens: linear between two lengths in the config.

    Esser et al. 2024, arXiv:2403.03206, section 5.3.2, in the parametrisation of FLUX.1.

    Args:
        scheduler: Scheduler of a diffusers pipeline; entries that its config lacks have FLUX.1's values.
        tokens: Length of the image's token sequence.
        max_shift: Shift at the longer length where the config has none.
    """
    get = scheduler.config.get
    shortest, longest = get("base_image_seq_len", 256), get("max_image_seq_len", 4096)
    low, high = get("base_shift", 0.5), get("max_shift", max_shift)
    return low + (high - low) * (tokens - shortest) / (longest - shortest)
