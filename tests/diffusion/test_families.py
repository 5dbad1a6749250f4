"""Every family against its own pipeline: the judge is diffusers' ``__call__`` from the same latents."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, LCMScheduler, SchedulerMixin
from torch import Tensor, nn

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
    size: tuple[int, int] = (16, 16)  # height and width
    options: Mapping[str, object] = MappingProxyType({})  # what else its pipeline is told


DISTILLED = Way(negative_prompt="", evaluations=1, names=("guidance_scale",))
OWN_SIZE = Way(size=(16, 24), options={"use_resolution_binning": False})
WAYS = {
    "LCM": DISTILLED,
    "FLUX.1 dev": DISTILLED,
    "FLUX.1 schnell": DISTILLED._replace(guidance_scale=1.0),
    "Sana": OWN_SIZE._replace(size=(32, 64)),
    "Sana of Euler": OWN_SIZE._replace(size=(32, 32)),
    "PixArt-Σ": OWN_SIZE,
    "PixArt-α": OWN_SIZE,
}


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


def first_order(scheduler: SchedulerMixin) -> SchedulerMixin:
    config = scheduler.config
    if config.get("use_flow_sigmas"):  # DPM-Solver++ of first order is Euler's method along a flow, and else DDIM
        return DPMSolverMultistepScheduler.from_config(config, solver_order=1)
    if "beta_start" not in config or isinstance(scheduler, LCMScheduler) or config.get("solver_order") == 1:
        return scheduler
    return DDIMScheduler.from_config(config, clip_sample=False)


def by_pipeline(pipeline: DiffusionPipeline, latents: Tensor, way: Way) -> Tensor:
    """The pipeline's own picture, by the deterministic first-order scheduler of its kind."""
    pipeline.scheduler = first_order(pipeline.scheduler)
    return pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        latents=latents.clone(),
        output_type="pt",
        **dict(zip(way.names, (way.guidance_scale, way.negative_prompt), strict=False)),
        **dict(zip(("height", "width"), way.size, strict=True)),
        **way.options,
    ).images


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "LCM"])
def test_base_model_without_noise_draws_the_pipeline_s_own_picture(family: str) -> None:
    way = WAYS.get(family, Way())
    adapter = adapted(make(family), height=way.size[0], width=way.size[1])
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


def test_a_diffusion_of_times_from_end_to_end_takes_first_order_steps_between_them() -> None:
    """PixArt's own spacing, at which diffusers' DDIM steps to other times than it evaluates at."""
    way = WAYS["PixArt-Σ"]
    ours, judge = make("PixArt-Σ"), make("PixArt-Σ")
    for pipeline in (ours, judge):
        pipeline.scheduler = DPMSolverMultistepScheduler(timestep_spacing="linspace", solver_order=1)
    adapter = adapted(ours, height=way.size[0], width=way.size[1])
    times = adapter.schedule(STEPS, 0.0).times
    assert times == (999, 666, 333, 0)
    asked = way._replace(options={**way.options, "timesteps": list(times)})
    expected = by_pipeline(judge, start(adapter), asked)
    torch.testing.assert_close(by_sampler(adapter, way), expected, rtol=0, atol=1e-4)


def told(network: nn.Module) -> list[dict[str, Tensor]]:
    """What the network is told from now on, beside latents; numbers as float32."""
    calls: list[dict[str, Tensor]] = []

    def record(_: nn.Module, args: tuple[object, ...], given: dict[str, object]) -> None:
        said = {"timestep": args[1]} if len(args) > 1 else {}
        said |= {**given, **(given.get("added_cond_kwargs") or {})}
        said = {name: torch.as_tensor(value) for name, value in said.items() if type(value) in (Tensor, float, int)}
        said.pop("hidden_states", None)
        calls.append({name: value.float() if value.is_floating_point() else value for name, value in said.items()})

    network.register_forward_pre_hook(record, with_kwargs=True)
    return calls


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "LCM"])
def test_a_network_of_low_precision_is_told_what_its_pipeline_tells_it(family: str) -> None:
    """Masks stay masks, and times aren't rounded to the network's precision unless the pipeline does so."""
    way = WAYS.get(family, Way())
    adapter, judge = (adapted(make(family).to(torch.bfloat16), height=way.size[0], width=way.size[1]) for _ in range(2))
    ours, theirs = told(adapter.network), told(judge.network)
    by_sampler(adapter, way)
    by_pipeline(judge.pipeline, pipeline_latents(judge.pipeline, start(judge)).to(torch.bfloat16), way)
    for mine, its in zip(ours, theirs, strict=True):
        assert len(its) > 2
        torch.testing.assert_close(mine, its, rtol=0, atol=0)
