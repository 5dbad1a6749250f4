"""From a pipeline's scheduler to levels: what the network is told at each, and what its output stands for."""

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
    predict,
)

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, LCMScheduler, SchedulerMixin


@dataclass(frozen=True)
class Schedule:
    """The levels of a denoising process.

    Attributes:
        times: What the network is told at levels 0 ... T - 1.
        kernel: The transitions between levels.
        read: The network's output at latents x (B, C, H, W) of a level, x and the level, to the prediction.
    """

    times: tuple[float, ...]
    kernel: Kernel
    read: Callable[[Tensor, Tensor, int], Prediction]


def diffusion_schedule(scheduler: SchedulerMixin, steps: int, eta: float) -> Schedule:
    """The levels of a variance-preserving diffusion, from whatever scheduler the pipeline has.

    Only the scheduler's config is used: training noise, spacing and offset of the timesteps, what the network
    predicts, clipping. An LCMScheduler makes a consistency model's schedule, all others DDIM's.

    Args:
        scheduler: Of a diffusers pipeline.
        steps: The number T of denoising steps.
        eta: Share of the noise that is drawn anew, in [0, 1].

    Raises:
        ValueError: More steps than the model was trained on, or a scheduler of another kind of model.
    """
    from diffusers import DDIMScheduler, LCMScheduler

    if "beta_start" not in scheduler.config or scheduler.config.get("use_flow_sigmas"):
        raise ValueError(
            f"the pipeline's {type(scheduler).__name__} is of no variance-preserving diffusion, for it has no betas or "
            "flow times in their place: this adapter takes no steps of such a model"
        )
    # A scheduler that isn't DDIM has no word on clipping, and DDIM's own default clips latents to [-1, 1]. Without the
    # list of values that were defaults, from_config would put DDIM's defaults in their place.
    config = {"clip_sample": False, **scheduler.config}
    config.pop("_use_default_values", None)
    if isinstance(scheduler, LCMScheduler):
        own = LCMScheduler.from_config(config)
        own.set_timesteps(steps)
        # Whatever the config's final power, the last step returns the clean latent itself.
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
    """Read an output as the scheduler's config says, its clean latent clipped or thresholded where it says so."""
    config = scheduler.config
    x0, noise = predict(output, x, kernel.alphas[level], config.prediction_type)
    if config.thresholding:
        x0 = dynamic_threshold(x0, config.dynamic_thresholding_ratio, config.sample_max_value)
    elif config.clip_sample:
        x0 = x0.clamp(-config.clip_sample_range, config.clip_sample_range)
    return Prediction(x0, noise)


def _consistency(
    scheduler: LCMScheduler, kernel: DDIM, times: tuple[int, ...], output: Tensor, x: Tensor, level: int
) -> Prediction:
    """The consistency function of Luo et al. 2023, arXiv:2310.04378, section 3.2: a skip connection that fades in t."""
    x0 = _diffusion(scheduler, kernel, output, x, level).x0
    skip, out = scheduler.get_scalings_for_boundary_condition_discrete(torch.tensor(times[level]))
    x0 = float(out) * x0 + float(skip) * x
    return predict(x0, x, kernel.alphas[level], "sample")


def flow_schedule(
    scheduler: SchedulerMixin,
    steps: int,
    eta: float,
    transition: FlowTransition,
    **arguments: Any,  # noqa: ANN401
) -> Schedule:
    """The levels of a rectified flow, at the times of the pipeline's own scheduler.

    Args:
        scheduler: Of a diffusers pipeline, with ``sigmas`` that are flow times.
        steps: The number T of denoising steps.
        eta: The noise level, in [0, 1].
        transition: How fresh noise comes in: "ancestral", "cps" or "sde".
        arguments: What ``set_timesteps`` is called with.

    Raises:
        ValueError: A scheduler that takes other than `steps` steps, or an unknown transition.
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
    """The levels of a rectified flow, even from 1 to 1 / T before the scheduler shifts them: FLUX's and others'.

    Args:
        scheduler: As for :func:`flow_schedule`, and so are `steps`, `eta` and `transition`.
        steps: The number T of denoising steps.
        eta: The noise level, in [0, 1].
        transition: How fresh noise comes in.
        shift: The shift mu, which FlowMatchEulerDiscreteScheduler leaves aside without dynamic shifting.
    """
    arguments: dict[str, Any] = {"sigmas": np.linspace(1.0, 1 / steps, steps)}
    if scheduler.config.get("use_flow_sigmas"):  # a multistep solver's, which takes none
        arguments = {"num_inference_steps": steps}
    return flow_schedule(scheduler, steps, eta, transition, mu=shift, **arguments)


def dynamic_shift(scheduler: SchedulerMixin, tokens: int, max_shift: float = 1.15) -> float:
    """The shift mu of the flow times for a picture of `tokens` tokens: linear between the config's two lengths.

    Esser et al. 2024, arXiv:2403.03206, section 5.3.2, as FLUX.1 and its successors parametrise it.

    Args:
        scheduler: Of a diffusers pipeline; what its config leaves out is FLUX.1's.
        tokens: Length of the picture's token sequence.
        max_shift: The shift at the longer length where the config has none.
    """
    get = scheduler.config.get
    shortest, longest = get("base_image_seq_len", 256), get("max_image_seq_len", 4096)
    low, high = get("base_shift", 0.5), get("max_shift", max_shift)
    return low + (high - low) * (tokens - shortest) / (longest - shortest)
