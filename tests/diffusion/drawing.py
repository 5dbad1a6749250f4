"""One prompt's picture, by our samplers and by diffusers' own call of a pipeline, for every family."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, LCMScheduler, SchedulerMixin
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.families import families
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.samplers import BaseModel
from tests.diffusion.pipelines import FAMILIES, make
from tests.samplers.toys import run

PROMPT, SEED, STEPS = "a cat", 3, 4


class Way(NamedTuple):
    """How a family is asked for a picture."""

    guidance_scale: float = 4.0
    negative_prompt: str = "dog"
    evaluations: int = 2  # of one prediction
    names: tuple[str, ...] = ("guidance_scale", "negative_prompt")  # under which its pipeline takes them
    size: tuple[int, int] = (16, 16)  # height and width
    options: Mapping[str, object] = MappingProxyType({})  # more arguments of its pipeline


DISTILLED = Way(negative_prompt="", evaluations=1, names=("guidance_scale",))
OWN_SIZE = Way(size=(16, 24), options={"use_resolution_binning": False})
WAYS = dict.fromkeys(FAMILIES, Way()) | {
    "SD": Way(size=(24, 16)),
    "LCM": DISTILLED,
    "FLUX.1 dev": DISTILLED,
    "FLUX.1 schnell": DISTILLED._replace(guidance_scale=1.0),
    "FLUX.2 dev": DISTILLED,
    "FLUX.2 klein": DISTILLED._replace(guidance_scale=1.0),
    "FLUX.2 klein base": Way(negative_prompt="", names=("guidance_scale",)),
    "Qwen-Image": Way(names=("true_cfg_scale", "negative_prompt")),
    "Z-Image Turbo": DISTILLED._replace(guidance_scale=0.0),
    "Sana": OWN_SIZE._replace(size=(32, 64)),
    "Sana of Euler": OWN_SIZE._replace(size=(32, 32)),
    "PixArt-Σ": OWN_SIZE,
    "PixArt-α": OWN_SIZE,
}
DRAWN = [family for family in FAMILIES if family != "LCM"]  # whose pipelines draw without fresh noise
GUIDED = [family for family in DRAWN if WAYS[family].evaluations == 2]


def backbone_of(pipeline: DiffusionPipeline, **options: object) -> PipelineBackbone:
    return families()[type(pipeline).__name__](pipeline, **options)


def sized(family: str, dtype: torch.dtype = torch.float32, **options: object) -> PipelineBackbone:
    height, width = WAYS[family].size
    return backbone_of(make(family).to(dtype), height=height, width=width, **options)


shared = cache(sized)
"""Backbone of a family for tests that leave it as it is."""


def with_scheduler(family: str, scheduler: SchedulerMixin) -> PipelineBackbone:
    """Backbone of a family's shared networks with another scheduler."""
    pipeline, (height, width) = copy(shared(family).pipeline), WAYS[family].size
    pipeline.scheduler = scheduler
    return backbone_of(pipeline, height=height, width=width)


def start(backbone: PipelineBackbone) -> Tensor:
    return NoiseSource(PROMPT, SEED, backbone.latent_shape).start()[None]


def bound(backbone: PipelineBackbone, way: Way, prompt: str = PROMPT, steps: int = STEPS, eta: float = 0.0) -> Denoiser:
    return backbone.bind(
        prompt,
        num_inference_steps=steps,
        guidance_scale=way.guidance_scale,
        eta=eta,
        negative_prompt=way.negative_prompt,
    )


def by_sampler(backbone: PipelineBackbone, way: Way, prompt: str = PROMPT) -> Tensor:
    sampler = BaseModel(num_inference_steps=STEPS, guidance_scale=way.guidance_scale, eta=0.0)
    rewards = {"mean": lambda images: images.mean((1, 2, 3))}
    denoiser = bound(backbone, way, prompt)
    soup = run(sampler, Preferences(["mean"], [[1.0]]), rewards, denoiser=denoiser, prompt=PROMPT, seed=SEED)
    assert soup.ledger.nfe == STEPS * way.evaluations
    return soup.images


def first_order(scheduler: SchedulerMixin) -> SchedulerMixin:
    config = scheduler.config
    if config.get("use_flow_sigmas"):  # DPM-Solver++ of first order is Euler's method along a flow, and else DDIM
        return DPMSolverMultistepScheduler.from_config(config, solver_order=1)
    if "beta_start" not in config or isinstance(scheduler, LCMScheduler) or config.get("solver_order") == 1:
        return scheduler
    return DDIMScheduler.from_config(config, clip_sample=config.get("clip_sample", False))


def by_pipeline(backbone: PipelineBackbone, way: Way, prompt: str = PROMPT, **more: object) -> Tensor:
    """The pipeline's own picture, by the deterministic first-order scheduler of its kind."""
    pipeline = copy(backbone.pipeline)
    pipeline.scheduler = first_order(pipeline.scheduler)
    arguments = dict(zip(way.names, (way.guidance_scale, way.negative_prompt), strict=False))
    arguments |= {**dict(zip(("height", "width"), way.size, strict=True)), **way.options, **more}
    latents = pipeline_latents(pipeline, start(backbone)).to(pipeline.dtype)
    return pipeline(prompt=prompt, num_inference_steps=STEPS, latents=latents, output_type="pt", **arguments).images


def pipeline_latents(pipeline: DiffusionPipeline, latents: Tensor) -> Tensor:
    """Latents (1, C, H, W) as the pipeline's own argument has them; FLUX.2's packs them itself."""
    packed = hasattr(pipeline, "_pack_latents") and not hasattr(pipeline, "_patchify_latents")
    return pipeline._pack_latents(latents, *latents.shape) if packed else latents.clone()
