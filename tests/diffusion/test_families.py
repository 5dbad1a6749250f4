"""Every family against its own pipeline: the judge is diffusers' ``__call__`` from the same latents."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, LCMScheduler
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.adapter import Adapter
from srsoup_lightning.diffusion.loading import ADAPTERS
from srsoup_lightning.samplers import BaseModel, Judges, Problem
from srsoup_lightning.search.noise import NoiseSource
from tests.diffusion.pipelines import FAMILIES, make

PROMPT, SEED, STEPS = "a cat", 3, 4


class Way(NamedTuple):
    """How a family is asked for a picture."""

    guidance_scale: float = 4.0
    negative_prompt: str = "dog"
    evaluations: int = 2  # of one prediction
    names: tuple[str, ...] = ("guidance_scale", "negative_prompt")  # under which its pipeline takes them


DISTILLED = Way(negative_prompt="", evaluations=1, names=("guidance_scale",))
WAYS = {"LCM": DISTILLED, "FLUX.1 dev": DISTILLED, "FLUX.1 schnell": DISTILLED._replace(guidance_scale=1.0)}


def adapted(pipeline: DiffusionPipeline, **options: object) -> Adapter:
    module, _, name = ADAPTERS[type(pipeline).__name__].rpartition(".")
    return getattr(import_module(module), name)(pipeline, **options)


def start(adapter: Adapter) -> Tensor:
    return NoiseSource(PROMPT, SEED, adapter.latent_shape).start()[None]


def by_sampler(adapter: Adapter, way: Way) -> Tensor:
    sampler = BaseModel(num_inference_steps=STEPS, guidance_scale=way.guidance_scale, eta=0.0)
    denoiser = adapter.bind(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=way.guidance_scale,
        eta=0.0,
        negative_prompt=way.negative_prompt,
    )
    problem = Problem(denoiser, Judges({"mean": lambda images: images.mean((1, 2, 3))}), sampler.max_batch)
    soup = sampler.run(problem, Preferences(["mean"], [[1.0]]), PROMPT, SEED)
    assert soup.ledger.nfe == STEPS * way.evaluations
    return soup.images


def by_pipeline(pipeline: DiffusionPipeline, latents: Tensor, way: Way, **size: int) -> Tensor:
    """The pipeline's own picture, by the deterministic first-order scheduler of its kind."""
    if "beta_start" in pipeline.scheduler.config and not isinstance(pipeline.scheduler, LCMScheduler):
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    asked = dict(zip(way.names, (way.guidance_scale, way.negative_prompt), strict=False))
    return pipeline(
        PROMPT, num_inference_steps=STEPS, latents=latents.clone(), output_type="pt", **asked, **(size or SIZE)
    ).images


SIZE = {"height": 16, "width": 16}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "LCM"])
def test_base_model_without_noise_draws_the_pipeline_s_own_picture(family: str) -> None:
    way = WAYS.get(family, Way())
    adapter = adapted(make(family), **SIZE)
    pipeline = make(family)
    latents = start(adapter)
    packed = pipeline_latents(pipeline, latents)
    expected = by_pipeline(pipeline, packed, way)
    assert expected.std() > 0.01
    torch.testing.assert_close(by_sampler(adapter, way), expected, rtol=0, atol=1e-4)


def pipeline_latents(pipeline: DiffusionPipeline, latents: Tensor) -> Tensor:
    """Latents (1, C, H, W) as the pipeline's own argument has them."""
    pack = getattr(pipeline, "_pack_latents", None)
    return latents if pack is None else pack(latents, *latents.shape)
