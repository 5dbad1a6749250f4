"""Every family against its own pipeline: diffusers' ``__call__`` draws the same picture from the same latents."""

from __future__ import annotations

import re
from copy import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from srsoup_lightning.diffusion.families.flux2 import empirical_shift
from srsoup_lightning.diffusion.flow import FlowAncestral, FlowSDE
from srsoup_lightning.diffusion.loading.performance import tune
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.diffusion.schedule import dynamic_shift
from tests.diffusion.conftest import autoencoder, heavy, prepared, same_picture, tiny_preview_decoder
from tests.diffusion.drawing import (
    DISTILLED,
    DRAWN,
    GUIDED,
    STEPS,
    WAYS,
    Way,
    backbone_of,
    bound,
    by_pipeline,
    by_sampler,
    shared,
    sized,
    start,
    with_scheduler,
)
from tests.diffusion.language_pipelines import RECENT
from tests.diffusion.pipelines import FAMILIES, make, t5, t5_tokenizer
from tests.samplers.toys import normal

# Shorter and longer than the negative prompt, and more than any pipeline keeps.
PROMPTS = ["a", "a photo of a cat and a dog", "cat " * 200]


@pytest.mark.parametrize("family", DRAWN)
def test_base_model_without_noise_draws_the_pipeline_s_own_picture_of_each_prompt(family: str) -> None:
    way, backbone = WAYS[family], shared(family)
    pictures = [by_sampler(backbone, way, prompt) for prompt in PROMPTS]
    for prompt, picture in zip(PROMPTS, pictures, strict=True):
        assert picture.std() > 0.01
        same_picture(picture, by_pipeline(backbone, way, prompt))
    assert (pictures[0] - pictures[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_latents_of_a_batch_are_predicted_as_they_are_alone(family: str) -> None:
    denoiser = bound(shared(family), WAYS[family])
    x = normal(3, *denoiser.shape)
    alone = torch.cat([denoiser.denoise(each[None], 1).x0 for each in x])
    # Z-Image's random network predicts numbers of up to 36, which rounding moves by more than 1e-4 on some CPUs.
    torch.testing.assert_close(denoiser.denoise(x, 1).x0, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prompt", PROMPTS[:2], ids=["short", "longer"])
@pytest.mark.parametrize("family", GUIDED)
def test_an_unguided_prediction_is_that_of_a_model_without_guidance(family: str, prompt: str) -> None:
    way, backbone = WAYS[family], shared(family)
    guided, plain = (bound(backbone, way._replace(guidance_scale=scale), prompt) for scale in (way.guidance_scale, 0.0))
    assert (guided.evaluations, plain.evaluations) == (2, 1)
    x = start(backbone)
    expected = plain.denoise(x, 1).x0
    same_picture(guided.denoise_unguided(x, 1).x0, expected)
    assert (guided.denoise(x, 1).x0 - expected).abs().max() > 0.01


@pytest.mark.parametrize("family", GUIDED)
def test_without_a_negative_prompt_guidance_leads_away_from_what_it_does_in_the_pipeline(family: str) -> None:
    """Of Stable Diffusion XL, zeros, which are not the empty prompt's embedding."""
    way, backbone = WAYS[family]._replace(negative_prompt=""), shared(family)
    asked = way if family == "Qwen-Image" else way._replace(names=way.names[:1])  # which needs a word to be guided
    same_picture(by_sampler(backbone, way), by_pipeline(backbone, asked))
    x = start(backbone)
    negated = bound(backbone, way._replace(negative_prompt="dog")).denoise(x, 1).x0
    assert (bound(backbone, way).denoise(x, 1).x0 - negated).abs().max() > 1e-3


def test_z_image_is_guided_below_a_scale_of_one_and_klein_base_is_led_away_from_a_negative_prompt() -> None:
    way, backbone = Way(guidance_scale=0.5), shared("Z-Image")
    same_picture(by_sampler(backbone, way), by_pipeline(backbone, way))
    way, backbone = WAYS["FLUX.2 klein base"], shared("FLUX.2 klein base")
    embeddings, _ = backbone.pipeline.encode_prompt("dog")
    expected = by_pipeline(backbone, way, negative_prompt_embeds=embeddings)
    same_picture(by_sampler(backbone, way._replace(negative_prompt="dog")), expected)


@pytest.mark.parametrize("family", ["FLUX.1 schnell", "FLUX.2 klein"])
def test_a_model_distilled_to_draw_without_guidance_refuses_it(family: str) -> None:
    with pytest.raises(ValueError, match=r"guidance_scale is 4\.0: this model was distilled to draw without, give 1"):
        bound(shared(family), DISTILLED)


@pytest.mark.parametrize("family", ["FLUX.2 klein", "Qwen-Image"])
def test_a_preview_decoder_reads_the_latents_that_the_network_makes(family: str) -> None:
    tiny = tiny_preview_decoder(shared(family).latent_shape[0])
    backbone = sized(family, preview_decoder=tiny)
    expected = (tiny.decode(start(backbone)).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(bound(backbone, WAYS[family]).decode_preview(start(backbone)), expected)


@pytest.mark.parametrize("family", DRAWN)
def test_what_tunes_memory_leaves_the_picture(family: str) -> None:
    """A single tile, for seams between tiles are blended."""
    way = WAYS[family]
    backbone = backbone_of(make(family), height=min(way.size), width=min(way.size))
    expected = by_sampler(backbone, way)
    options = {"tiling": True, "slicing": True, "channels_last": True}
    tune(backbone.network, backbone.pipeline.vae, **options, attention="native", regional_compile=False)
    same_picture(by_sampler(backbone, way), expected)


FLOW_SOLVER = {"use_flow_sigmas": True, "use_dynamic_shifting": True, "time_shift_type": "exponential"}


@pytest.mark.parametrize(
    ("family", "scheduler", "times"),
    [
        # PixArt's own spacing, at which diffusers' DDIM steps to other times than it evaluates at.
        ("PixArt-Σ", {"timestep_spacing": "linspace", "solver_order": 1}, [999, 666, 333, 0]),
        ("FLUX.1 dev", FLOW_SOLVER | {"prediction_type": "flow_prediction"}, None),
    ],
)
def test_a_multistep_solver_gives_the_times_of_first_order_steps(
    family: str, scheduler: dict[str, object], times: list[int] | None
) -> None:
    backbone = with_scheduler(family, DPMSolverMultistepScheduler(**scheduler))
    if times is not None:
        assert backbone.schedule(STEPS, 0.0).times == tuple(times)
    given = {} if times is None else {"timesteps": times}
    same_picture(by_sampler(backbone, WAYS[family]), by_pipeline(backbone, WAYS[family], **given))


def inputs(network: nn.Module) -> list[dict[str, Tensor]]:
    """Inputs of the network from now on, beside latents; numbers as float32."""
    calls: list[dict[str, Tensor]] = []

    def record(_: nn.Module, args: tuple[object, ...], given: dict[str, object]) -> None:
        call = {"timestep": args[1]} if len(args) > 1 else {}
        call |= {**given, **(given.get("added_cond_kwargs") or {})}
        call = {name: torch.as_tensor(value) for name, value in call.items() if type(value) in (Tensor, float, int)}
        call.pop("hidden_states", None)
        calls.append({name: value.float() if value.is_floating_point() else value for name, value in call.items()})

    network.register_forward_pre_hook(record, with_kwargs=True)
    return calls


@pytest.mark.parametrize("family", [family for family in DRAWN if family not in ("SD", *RECENT)])
def test_a_network_of_low_precision_has_the_inputs_of_its_pipeline(family: str) -> None:
    """Masks stay masks, and times aren't rounded to the network's precision unless the pipeline does so."""
    way, backbone = WAYS[family], sized(family, torch.bfloat16)
    calls = inputs(backbone.network)
    by_sampler(backbone, way)
    ours = len(calls)
    by_pipeline(backbone, way)
    for mine, its in zip(calls[:ours], calls[ours:], strict=True):
        assert len(its) > 2
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


@pytest.mark.parametrize(("force_upcast", "dtype"), [(True, torch.float32), (False, torch.float16)])
def test_an_sdxl_autoencoder_that_overflows_in_float16_is_run_in_float32(
    force_upcast: bool, dtype: torch.dtype
) -> None:
    pipeline = make("SDXL").to(torch.float16)
    pipeline.vae.register_to_config(force_upcast=force_upcast)
    backbone = backbone_of(pipeline)
    assert {weight.dtype for weight in backbone.pipeline.vae.parameters()} == {dtype}
    assert backbone.network.dtype == torch.float16


@pytest.mark.parametrize("tokens", [64, 256, 1024, 4096, 4300, 4301, 16_384])
def test_the_shifts_by_size_are_those_of_diffusers(tokens: int) -> None:
    for steps in (4, 28, 50):
        assert empirical_shift(tokens, steps) == pytest.approx(compute_empirical_mu(tokens, steps), abs=1e-9)
    config = {"base_shift": 0.5, "max_shift": 0.9, "base_image_seq_len": 256, "max_image_seq_len": 8192}
    expected = calculate_shift(tokens, 256, 8192, 0.5, 0.9)
    assert dynamic_shift(FlowMatchEulerDiscreteScheduler(**config), tokens) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("family", ["LCM", "SDXL", "FLUX.1 schnell", "FLUX.2 klein", "Z-Image Turbo"])
def test_of_few_steps_all_but_the_last_draw_noise_to_search(family: str, steps: int) -> None:
    kernel = shared(family).schedule(steps, 1.0).kernel
    assert [kernel.sigma(step) > 0 for step in range(steps)] == [True] * (steps - 1) + [False]


PAGE = Path(__file__).parents[2] / "docs" / "adding-a-model.md"


def shown_backbone() -> type[PipelineBackbone]:
    """The backbone that docs/adding-a-model.md shows, taken from the page."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, type[PipelineBackbone]] = {}
    exec(code[1], names)
    return names["AuraFlow"]


def aura_flow() -> AuraFlowPipeline:
    torch.manual_seed(0)
    layers = {"num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 8, "num_attention_heads": 4}
    width = {"joint_attention_dim": 32, "caption_projection_dim": 32, "pos_embed_max_size": 64, "sample_size": 8}
    pipeline = AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(kind=UMT5EncoderModel),
        vae=autoencoder(4),
        transformer=heavy(AuraFlowTransformer2DModel(**layers, **width)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )
    return prepared(pipeline)


def test_the_page_s_backbone_draws_the_pipeline_s_own_picture() -> None:
    backbone, way = shown_backbone()(aura_flow(), height=16, width=16), Way()
    expected = by_pipeline(backbone, way)
    assert expected.std() > 0.01
    same_picture(by_sampler(backbone, way), expected)
    assert (by_sampler(backbone, way, "a photo of a dog") - expected).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_transition_of_flows_is_used_by_a_flow_and_refused_by_a_diffusion(family: str) -> None:
    schedule, flows = partial(shared(family).schedule, STEPS, 1.0), copy(shared(family))
    flows.transition = "sde"
    if isinstance(schedule().kernel, FlowAncestral):
        assert isinstance(flows.schedule(STEPS, 1.0).kernel, FlowSDE)
    else:
        with pytest.raises(ValueError, match=r"loading\.transition is 'sde', which is for rectified flows"):
            flows.schedule(STEPS, 1.0)
