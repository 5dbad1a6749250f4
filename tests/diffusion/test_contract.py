"""Contract of every family beside its pictures: encoding, other schedules, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from srsoup_lightning.diffusion.families import families
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from tests.diffusion.drawing import PROMPT, WAYS, bound, shared, sized, start
from tests.diffusion.pipelines import FAMILIES

every_family = pytest.mark.parametrize("family", FAMILIES)


def subclasses(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_family_and_every_pipeline_class_of_it_has_a_tiny_pipeline() -> None:
    tested = [shared(family) for family in FAMILIES]
    package = f"{families.__module__}."
    found = {each for each in subclasses(PipelineBackbone) if each.__module__.startswith(package)}
    assert {type(backbone) for backbone in tested} == found == set(families().values())
    assert {type(backbone.pipeline).__name__ for backbone in tested} == set(families())


def images(backbone: PipelineBackbone) -> Tensor:
    height, width = (backbone.geometry.factor * side for side in backbone.latent_shape[1:])
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def scaled_mode(pipeline: DiffusionPipeline, pixels: Tensor) -> Tensor:
    code = pipeline.vae.encode(pixels)
    latents = code.latent_dist.mode() if hasattr(code, "latent_dist") else code.latent
    return latents * pipeline.vae.config.scaling_factor


def prepared_by(kind: type[DiffusionPipeline], **more: object) -> Callable[[DiffusionPipeline, Tensor], Tensor]:
    """Latents of an image-to-image pipeline, before it adds noise."""
    silent = SimpleNamespace(add_noise=lambda latents, *_: latents, scale_noise=lambda latents, *_: latents)

    def encode(pipeline: DiffusionPipeline, pixels: Tensor) -> Tensor:
        own = SimpleNamespace(vae=pipeline.vae, scheduler=silent, vae_scale_factor=pipeline.vae_scale_factor)
        given = {"image": pixels, "timestep": None, "batch_size": 2, "dtype": torch.float32, "device": pixels.device}
        return kind.prepare_latents(own, **given, generator=None, **more)

    return encode


def video_of_one_frame(pipeline: DiffusionPipeline, pixels: Tensor) -> Tensor:
    return diffusers.QwenImageImg2ImgPipeline._encode_vae_image(pipeline, pixels.unsqueeze(2), None).squeeze(2)


ONE = {"num_images_per_prompt": 1}
STABLE_DIFFUSION = prepared_by(diffusers.StableDiffusionImg2ImgPipeline, **ONE)
ENCODERS: dict[str, Callable[[DiffusionPipeline, Tensor], Tensor]] = {
    **dict.fromkeys(("StableDiffusionPipeline", "LatentConsistencyModelPipeline"), STABLE_DIFFUSION),
    "StableDiffusionXLPipeline": prepared_by(diffusers.StableDiffusionXLImg2ImgPipeline, **ONE),
    "StableDiffusion3Pipeline": prepared_by(diffusers.StableDiffusion3Img2ImgPipeline, **ONE),
    "FluxPipeline": lambda pipeline, pixels: diffusers.FluxImg2ImgPipeline._encode_vae_image(pipeline, pixels, None),
    **dict.fromkeys(("Flux2Pipeline", "Flux2KleinPipeline"), lambda own, pixels: own._encode_vae_image(pixels, None)),
    "QwenImagePipeline": video_of_one_frame,
    "ZImagePipeline": prepared_by(diffusers.ZImageImg2ImgPipeline, num_channels_latents=4, height=16, width=16),
    **dict.fromkeys(("SanaPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline"), scaled_mode),
}
"""Clean latents of images in [-1, 1] by diffusers' own code, where it has some."""


@every_family
def test_images_are_encoded_as_diffusers_encodes_them(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = shared(family)
    pixels = images(backbone)
    found = bound(backbone, WAYS[family]).encode(pixels)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    expected = ENCODERS[type(backbone.pipeline).__name__](backbone.pipeline, 2 * pixels - 1)
    assert (found.shape, found.dtype) == ((2, *backbone.latent_shape), torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@every_family
def test_encoding_is_the_inverse_of_decoding_but_for_the_autoencoder(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = shared(family)
    vae = backbone.pipeline.vae
    monkeypatch.setattr(vae, "decode", lambda latents: SimpleNamespace(sample=latents))
    monkeypatch.setattr(vae, "encode", lambda pixels, return_dict: (pixels,))
    latents = start(backbone)
    torch.testing.assert_close(backbone.encode(backbone.decode(vae, latents)), latents)


@every_family
def test_another_schedule_is_that_of_a_fresh_bind_and_needs_no_text_encoder(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, way = shared(family), WAYS[family]
    before, fresh = bound(backbone, way), bound(backbone, way, steps=7, eta=0.5)
    monkeypatch.setattr(backbone, "encode_prompt", lambda *_: pytest.fail("the prompt was encoded again"))
    again, x = before.reschedule(7, 0.5), start(backbone)
    assert again.kernel == fresh.kernel != before.kernel
    assert again.evaluations == fresh.evaluations
    torch.testing.assert_close(again.denoise(x, 5), fresh.denoise(x, 5), rtol=0, atol=0)
    torch.testing.assert_close(again.denoise_unguided(x, 5), fresh.denoise_unguided(x, 5), rtol=0, atol=0)


@every_family
def test_an_evaluation_leaves_its_condition_as_it_is(family: str) -> None:
    backbone, way = shared(family), WAYS[family]
    condition = backbone.encode_prompt(PROMPT, "", False, way.guidance_scale)
    before = dict(condition)
    backbone.evaluate(start(backbone), 500.0, condition)
    assert condition.keys() == before.keys()
    assert all(condition[name] is before[name] for name in before)


@every_family
def test_gradients_pass_a_model_that_has_worked_in_inference_mode(family: str) -> None:
    """As in a Trainer: networks keep tensors from one call to the next, such as rotary embeddings."""
    backbone, way = sized(family), WAYS[family]
    with torch.inference_mode():
        denoiser = bound(backbone, way)
        denoiser.encode(denoiser.decode(denoiser.denoise(start(backbone), 1).x0))
        again = denoiser.reschedule(5, 1.0)
        with torch.inference_mode(False), torch.enable_grad():
            # Sana's autoencoder has kinks everywhere: its attention has no exponential, and it normalises.
            tolerance = 0.3 if family.startswith("Sana") else 0.01
            check_gradient(lambda x: denoiser.decode(denoiser.denoise(x, 2).x0), start(backbone), tolerance)
            check_gradient(lambda x: again.decode_preview(again.denoise_unguided(x, 2).x0), start(backbone), tolerance)
            check_gradient(denoiser.encode, images(backbone), tolerance)
    assert not any(weight.is_inference() or weight.requires_grad for weight in backbone.parameters())


def check_gradient(function: Callable[[Tensor], Tensor], x: Tensor, tolerance: float) -> None:
    """Compare the gradient of the mean with a central difference, along a direction that the mean rises in."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).double().mean(), x)
    assert gradient.isfinite().all()
    size = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).abs()
    direction, step = size * gradient.sign(), 3e-4
    with torch.no_grad():
        up, down = (function(x + sign * step * direction).double().mean() for sign in (1, -1))
    slope = (gradient * direction).sum().double()
    assert slope > 1e-3
    torch.testing.assert_close((up - down) / (2 * step), slope, rtol=tolerance, atol=0)


def test_networks_that_move_in_inference_mode_keep_their_ordinary_weights() -> None:
    """As networks do that wait in main memory between their calls."""
    backbone = sized("SD")
    for network in (backbone.network, backbone.pipeline.vae.decoder):
        network.register_forward_pre_hook(lambda module, _: module.double().float() and None)
    with torch.inference_mode():
        denoiser = bound(backbone, WAYS["SD"])
        denoiser.decode(denoiser.denoise(start(backbone), 1).x0)
    assert not any(weight.is_inference() for weight in backbone.parameters())
