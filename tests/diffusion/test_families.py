"""Every family against its own pipeline: the judge is diffusers' ``__call__`` from the same latents."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    SchedulerMixin,
)
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor, nn

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.families import families
from srsoup_lightning.diffusion.families.flux2 import empirical_shift
from srsoup_lightning.diffusion.loading.performance import tune
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import dynamic_shift
from srsoup_lightning.samplers import BaseModel, Problem, RewardOracle
from tests.diffusion.pipelines import FAMILIES, make
from tests.diffusion.pipelines_recent import RECENT

PROMPT, SEED, STEPS = "a cat", 3, 4
PROMPTS = ["a", "a photo of a cat and a dog"]  # shorter and longer than the negative prompt
FLOW = "flow_prediction"
LONG = "cat " * 200  # more than any pipeline keeps
TINY = {
    "encoder_block_out_channels": (8, 8),
    "decoder_block_out_channels": (8, 8),
    "num_encoder_blocks": (1, 1),
    "num_decoder_blocks": (1, 1),
}


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
DRAWN = [family for family in FAMILIES if family != "LCM"]
GUIDED = [family for family in DRAWN if WAYS.get(family, Way()).evaluations == 2]


def adapted(pipeline: DiffusionPipeline, **options: object) -> PipelineBackbone:
    return families()[type(pipeline).__name__](pipeline, **options)


def sized(family: str, dtype: torch.dtype = torch.float32, **options: object) -> PipelineBackbone:
    height, width = WAYS.get(family, Way()).size
    return adapted(make(family).to(dtype), height=height, width=width, **options)


def start(adapter: PipelineBackbone) -> Tensor:
    return NoiseSource(PROMPT, SEED, adapter.latent_shape).start()[None]


def bound(adapter: PipelineBackbone, way: Way, prompt: str = PROMPT) -> Denoiser:
    return adapter.bind(
        prompt,
        num_inference_steps=STEPS,
        guidance_scale=way.guidance_scale,
        eta=0.0,
        negative_prompt=way.negative_prompt,
    )


def by_sampler(adapter: PipelineBackbone, way: Way, prompt: str = PROMPT) -> Tensor:
    sampler = BaseModel(num_inference_steps=STEPS, guidance_scale=way.guidance_scale, eta=0.0)
    judges = RewardOracle({"mean": lambda images, prompts: images.mean((1, 2, 3))})
    problem = Problem(bound(adapter, way, prompt), judges, sampler.max_batch)
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


def by_pipeline(
    pipeline: DiffusionPipeline, adapter: PipelineBackbone, way: Way, prompt: str = PROMPT, **more: object
) -> Tensor:
    """The pipeline's own picture, by the deterministic first-order scheduler of its kind."""
    pipeline.scheduler = first_order(pipeline.scheduler)
    asked = dict(zip(way.names, (way.guidance_scale, way.negative_prompt), strict=False))
    asked |= {**dict(zip(("height", "width"), way.size, strict=True)), **way.options, **more}
    latents = pipeline_latents(pipeline, start(adapter)).to(pipeline.dtype)
    return pipeline(prompt=prompt, num_inference_steps=STEPS, latents=latents, output_type="pt", **asked).images


def pipeline_latents(pipeline: DiffusionPipeline, latents: Tensor) -> Tensor:
    """Latents (1, C, H, W) as the pipeline's own argument has them; FLUX.2's packs them itself."""
    packed = hasattr(pipeline, "_pack_latents") and not hasattr(pipeline, "_patchify_latents")
    return pipeline._pack_latents(latents, *latents.shape) if packed else latents.clone()


@pytest.mark.parametrize("prompt", [*PROMPTS, LONG], ids=["short", "longer", "too long"])
@pytest.mark.parametrize("family", DRAWN)
def test_base_model_without_noise_draws_the_pipeline_s_own_picture(family: str, prompt: str) -> None:
    way, adapter = WAYS.get(family, Way()), sized(family)
    expected = by_pipeline(make(family), adapter, way, prompt)
    assert expected.std() > 0.01
    torch.testing.assert_close(by_sampler(adapter, way, prompt), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", DRAWN)
def test_another_prompt_gives_another_picture(family: str) -> None:
    way, adapter = WAYS.get(family, Way()), sized(family)
    pictures = [by_sampler(adapter, way, prompt) for prompt in PROMPTS]
    assert (pictures[0] - pictures[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_latents_of_a_batch_are_predicted_as_they_are_alone(family: str) -> None:
    adapter = sized(family)
    denoiser = bound(adapter, WAYS.get(family, Way()))
    x = torch.randn(3, *adapter.latent_shape, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([denoiser.denoise(each[None], 1).x0 for each in x])
    # Z-Image's random network predicts numbers of up to 36, which rounding moves by more than 1e-4 on some CPUs.
    torch.testing.assert_close(denoiser.denoise(x, 1).x0, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prompt", PROMPTS, ids=["short", "longer"])
@pytest.mark.parametrize("family", GUIDED)
def test_an_unguided_prediction_is_that_of_a_model_without_guidance(family: str, prompt: str) -> None:
    way, adapter = WAYS.get(family, Way()), sized(family)
    guided, plain = (bound(adapter, way._replace(guidance_scale=scale), prompt) for scale in (way.guidance_scale, 0.0))
    assert (guided.evaluations, plain.evaluations) == (2, 1)
    x = start(adapter)
    expected = plain.denoise(x, 1).x0
    torch.testing.assert_close(guided.denoise_unguided(x, 1).x0, expected, rtol=0, atol=1e-4)
    assert (guided.denoise(x, 1).x0 - expected).abs().max() > 0.01


@pytest.mark.parametrize("family", GUIDED)
def test_without_a_negative_prompt_guidance_leads_away_from_what_it_does_in_the_pipeline(family: str) -> None:
    """Of Stable Diffusion XL, zeros, which are not the empty prompt's embedding."""
    way, adapter = WAYS.get(family, Way())._replace(negative_prompt=""), sized(family)
    asked = way if family == "Qwen-Image" else way._replace(names=way.names[:1])  # which needs a word to be guided
    expected = by_pipeline(make(family), adapter, asked)
    torch.testing.assert_close(by_sampler(adapter, way), expected, rtol=0, atol=1e-4)


def test_z_image_is_guided_at_scales_below_one() -> None:
    way, adapter = Way(guidance_scale=0.5), sized("Z-Image")
    expected = by_pipeline(make("Z-Image"), adapter, way)
    torch.testing.assert_close(by_sampler(adapter, way), expected, rtol=0, atol=1e-4)


def test_klein_base_is_led_away_from_a_negative_prompt() -> None:
    way, pipeline = WAYS["FLUX.2 klein base"], make("FLUX.2 klein base")
    adapter = sized("FLUX.2 klein base")
    embeddings, _ = pipeline.encode_prompt("dog")
    expected = by_pipeline(pipeline, adapter, way, negative_prompt_embeds=embeddings)
    torch.testing.assert_close(by_sampler(adapter, way._replace(negative_prompt="dog")), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["FLUX.1 schnell", "FLUX.2 klein"])
def test_a_model_distilled_to_draw_without_guidance_refuses_it(family: str) -> None:
    with pytest.raises(ValueError, match=r"guidance_scale is 4\.0: this model was distilled to draw without, give 1"):
        bound(sized(family), DISTILLED)


@pytest.mark.parametrize("family", ["FLUX.2 klein", "Qwen-Image"])
def test_a_preview_decoder_reads_the_latents_that_the_network_makes(family: str) -> None:
    channels = sized(family).latent_shape[0]
    tiny = AutoencoderTiny(**TINY, latent_channels=channels)
    adapter = sized(family, preview_decoder=tiny)
    expected = (tiny.decode(start(adapter)).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(bound(adapter, WAYS[family]).decode_preview(start(adapter)), expected)


@pytest.mark.parametrize("family", DRAWN)
def test_what_tunes_memory_leaves_the_picture(family: str) -> None:
    """A single tile, for seams between tiles are blended."""
    way = WAYS.get(family, Way())
    adapter = adapted(make(family), height=min(way.size), width=min(way.size))
    expected = by_sampler(adapter, way)
    options = {"tiling": True, "slicing": True, "channels_last": True}
    tune(adapter.network, adapter.pipeline.vae, **options, attention="native", regional_compile=False)
    torch.testing.assert_close(by_sampler(adapter, way), expected, rtol=0, atol=1e-4)


def test_a_diffusion_of_times_from_end_to_end_takes_first_order_steps_between_them() -> None:
    """PixArt's own spacing, at which diffusers' DDIM steps to other times than it evaluates at."""
    way = WAYS["PixArt-Σ"]
    ours, judge = make("PixArt-Σ"), make("PixArt-Σ")
    for pipeline in (ours, judge):
        pipeline.scheduler = DPMSolverMultistepScheduler(timestep_spacing="linspace", solver_order=1)
    adapter = adapted(ours, height=way.size[0], width=way.size[1])
    times = adapter.schedule(STEPS, 0.0).times
    assert times == (999, 666, 333, 0)
    expected = by_pipeline(judge, adapter, way, timesteps=list(times))
    torch.testing.assert_close(by_sampler(adapter, way), expected, rtol=0, atol=1e-4)


def test_a_flow_s_multistep_solver_makes_its_own_times() -> None:
    way = WAYS["FLUX.1 dev"]
    ours, judge = make("FLUX.1 dev"), make("FLUX.1 dev")
    for pipeline in (ours, judge):
        pipeline.scheduler = DPMSolverMultistepScheduler(
            use_flow_sigmas=True, use_dynamic_shifting=True, time_shift_type="exponential", prediction_type=FLOW
        )
    adapter = adapted(ours, height=way.size[0], width=way.size[1])
    expected = by_pipeline(judge, adapter, way)
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


@pytest.mark.parametrize("family", [family for family in DRAWN if family not in RECENT])
def test_a_network_of_low_precision_is_told_what_its_pipeline_tells_it(family: str) -> None:
    """Masks stay masks, and times aren't rounded to the network's precision unless the pipeline does so."""
    way = WAYS.get(family, Way())
    adapter, judge = (sized(family, torch.bfloat16) for _ in range(2))
    ours, theirs = told(adapter.network), told(judge.network)
    by_sampler(adapter, way)
    by_pipeline(judge.pipeline, judge, way)
    for mine, its in zip(ours, theirs, strict=True):
        assert len(its) > 2
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


@pytest.mark.parametrize(("force_upcast", "expected"), [(True, torch.float32), (False, torch.float16)])
def test_an_sdxl_autoencoder_that_overflows_in_float16_is_run_in_float32(
    force_upcast: bool, expected: torch.dtype
) -> None:
    pipeline = make("SDXL").to(torch.float16)
    pipeline.vae.register_to_config(force_upcast=force_upcast)
    adapter = adapted(pipeline)
    assert {weight.dtype for weight in adapter.pipeline.vae.parameters()} == {expected}
    assert adapter.network.dtype == torch.float16


@pytest.mark.parametrize("tokens", [64, 1024, 4096, 4300, 4301, 16_384])
@pytest.mark.parametrize("steps", [4, 28, 50])
def test_flux_2_s_shift_is_that_of_diffusers_at_every_size(tokens: int, steps: int) -> None:
    assert empirical_shift(tokens, steps) == pytest.approx(compute_empirical_mu(tokens, steps), abs=1e-9)


@pytest.mark.parametrize("tokens", [64, 256, 1024, 4096, 16_384])
def test_the_shift_by_size_is_that_of_diffusers(tokens: int) -> None:
    config = {"base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256, "max_image_seq_len": 8192}
    expected = calculate_shift(tokens, 256, 8192, 0.5, 0.9)
    assert dynamic_shift(FlowMatchEulerDiscreteScheduler(**config), tokens) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("family", ["LCM", "SDXL", "FLUX.1 schnell", "FLUX.2 klein", "Z-Image Turbo"])
def test_of_few_steps_all_but_the_last_draw_noise_to_search(family: str, steps: int) -> None:
    kernel = sized(family).schedule(steps, 1.0).kernel
    assert [kernel.sigma(step) > 0 for step in range(steps)] == [True] * (steps - 1) + [False]
