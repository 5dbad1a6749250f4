"""LoRAs that are merged, against their matrices, multiplied by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from srsoup_lightning import Loading, Preferences, SRSoupModule
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.diffusion.pipeline_backbone import PipelineBackbone
from srsoup_lightning.finetune import PolicyGradient, Training
from srsoup_lightning.samplers import BaseModel
from tests.conftest import Channel
from tests.diffusion.conftest import load, prediction, refused, same_picture, tiny_pipeline
from tests.diffusion.drawing import STEPS, WAYS, backbone_of, bound, by_sampler, start
from tests.diffusion.pipelines import make
from tests.rewards.conftest import one_line

RANK, ALPHA = 2, 6
CONFIG = {"r": RANK, "lora_alpha": ALPHA, "init_lora_weights": False}
FILE = "pytorch_lora_weights.safetensors"


def draw(part: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in part.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.3, generator=generator)


def products(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Products of a LoRA's two matrices, scaled by alpha, which it adds to the weights of each module."""
    modules = [name.removesuffix(".lora_A.weight") for name in state if name.endswith(".lora_A.weight")]
    return {name: ALPHA / RANK * state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"] for name in modules}


def save_lora(
    pipeline: DiffusionPipeline, folder: Path, part: str, seed: int = 0, *targets: str, safe: bool = True
) -> dict[str, Tensor]:
    """Save a LoRA of random matrices for a part, with its config where safetensors hold it; what it adds."""
    network = getattr(pipeline, part)
    network.add_adapter(LoraConfig(target_modules=list(targets or ("to_q", "to_v")), **CONFIG))
    draw(network, seed)
    state = get_peft_model_state_dict(network)
    layers = {f"{part}_lora_layers": state}
    if safe:
        layers[f"{part}_lora_adapter_metadata"] = network.peft_config["default"].to_dict()
    pipeline.save_lora_weights(folder, safe_serialization=safe, **layers)
    return products(state)


def add(part: nn.Module, added: dict[str, Tensor], weight: float) -> None:
    with torch.no_grad():
        for name, product in added.items():
            part.get_submodule(name).weight += weight * product


@pytest.mark.parametrize("family", ["SDXL", "SD 3", "FLUX.1 dev", "Sana"])
def test_a_lora_is_merged_into_the_network(family: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    expected = make(family)
    before = prediction(backbone_of(make(family)))
    part = "unet" if hasattr(expected, "unet") else "transformer"
    add(getattr(expected, part), save_lora(make(family), tmp_path / "lora", part), 0.7)
    loaded = load(saved(family), loras={str(tmp_path / "lora"): 0.7})
    torch.testing.assert_close(loaded.network.state_dict(), getattr(expected, part).state_dict())
    after = prediction(loaded)
    torch.testing.assert_close(after, prediction(backbone_of(expected)), rtol=0, atol=1e-4)
    assert (after - before).abs().max() > 0.01


@pytest.fixture
def lora(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """One for Stable Diffusion, and what it adds."""
    return tmp_path / "lora", save_lora(tiny_pipeline(), tmp_path / "lora", "unet")


def require_merged(folder: Path, source: Path | str, added: dict[str, Tensor]) -> None:
    expected = tiny_pipeline()
    add(expected.unet, added, 0.7)
    loaded = load(folder, loras={str(source): 0.7})
    torch.testing.assert_close(loaded.network.state_dict(), expected.unet.state_dict())
    torch.testing.assert_close(prediction(loaded), prediction(backbone_of(expected)))
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_a_lora_is_a_folder_or_a_file(pipeline_folder: Path, lora: tuple[Path, dict[str, Tensor]]) -> None:
    for source in (lora[0], lora[0] / FILE):
        require_merged(pipeline_folder, source, lora[1])


def test_a_lora_in_peft_s_own_format_keeps_its_alpha(
    pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = get_peft_model(tiny_pipeline().unet, LoraConfig(target_modules=["to_q", "to_v"], **CONFIG))
    draw(tuned, 0)
    tuned.save_pretrained(tmp_path)
    added = products(get_peft_model_state_dict(tuned))
    added = {name.removeprefix("base_model.model."): product for name, product in added.items()}
    require_merged(pipeline_folder, tmp_path, added)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda id_, file, revision: str(tmp_path / file))
    require_merged(pipeline_folder, "user/lora", added)


def test_a_lora_reaches_the_text_encoder_too(pipeline_folder: Path, tmp_path: Path) -> None:
    expected = tiny_pipeline()
    added = save_lora(tiny_pipeline(), tmp_path, "text_encoder", 0, "q_proj", "fc1")
    add(expected.text_encoder, added, 0.7)
    loaded = load(pipeline_folder, loras={str(tmp_path): 0.7})
    torch.testing.assert_close(loaded.text_encoder.state_dict(), expected.text_encoder.state_dict())
    torch.testing.assert_close(prediction(loaded), prediction(backbone_of(expected)))


def test_loras_add_up(pipeline_folder: Path, tmp_path: Path) -> None:
    expected, weights = tiny_pipeline(), {}
    for seed, (weight, target) in enumerate([(0.7, "to_q"), (-0.3, "to_q"), (1.5, "to_out.0")]):
        folder = tmp_path / str(seed)
        add(expected.unet, save_lora(tiny_pipeline(), folder, "unet", seed, target), weight)
        weights[str(folder)] = weight
    loaded = load(pipeline_folder, loras=weights)
    torch.testing.assert_close(loaded.network.state_dict(), expected.unet.state_dict())


def test_a_lora_that_is_not_there_or_has_no_file_that_diffusers_takes_is_named(
    pipeline_folder: Path, lora: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.move(lora[0] / FILE, lora[0] / "checkpoint-100.safetensors")
    for missing in (tmp_path / "none", tmp_path / "empty", Path("no-such-lora"), lora[0]):
        refused(pipeline_folder, FileNotFoundError, f"no LoRA '{missing}': give", loras={str(missing): 1.0})


def test_a_lora_in_a_pickle_or_of_another_model_is_named(pipeline_folder: Path, tmp_path: Path) -> None:
    save_lora(tiny_pipeline(), tmp_path / "pickle", "unet", safe=False)
    assert [path.suffix for path in (tmp_path / "pickle").iterdir()] == [".bin"]
    save_lora(make("FLUX.1 dev"), tmp_path / "flux", "transformer")
    save_lora(make("SDXL"), tmp_path / "sdxl", "unet", 0, "to_k")
    for name, error, message in (
        ("pickle", FileNotFoundError, "no LoRA .* with safetensors"),
        ("flux", ValueError, "flux' has no weights for any component of a StableDiffusionPipeline"),
        ("sdxl", ValueError, "sdxl' can't be loaded into a StableDiffusionPipeline"),
    ):
        refused(pipeline_folder, error, message, loras={str(tmp_path / name): 1.0})


def test_a_lora_with_weights_that_are_not_finite_is_named(pipeline_folder: Path, tmp_path: Path) -> None:
    save_lora(tiny_pipeline(), tmp_path / "good", "unet")
    weights = {key: weight * torch.nan for key, weight in load_file(tmp_path / "good" / FILE).items()}
    save_file(weights, tmp_path / "broken.safetensors")
    message = r"LoRA '.*broken.safetensors' has weights in .* that are not finite"
    refused(pipeline_folder, ValueError, message, loras={str(tmp_path / "broken.safetensors"): 1.0})


def test_a_pipeline_that_takes_no_loras_says_so(saved: Callable[[str], Path], lora: tuple[Path, object]) -> None:
    refused(saved("PixArt-Σ"), ValueError, "PixArtSigmaPipeline takes none", loras={str(lora[0]): 1.0})


def drawn_by_hand(tuned: PipelineBackbone, base: PipelineBackbone, base_steps: int) -> Tensor:
    """Images of a loop over two models, whose last steps are those of the second one."""
    first, then, x = bound(tuned, WAYS["SD"]), bound(base, WAYS["SD"]), start(tuned)
    for step in range(STEPS):
        model = first if step < STEPS - base_steps else then
        x = model.kernel.transition(step, x, model.denoise(x, step)).mean
    return first.decode(x)


def test_the_base_model_makes_the_last_steps(pipeline_folder: Path, tmp_path: Path, plain: PipelineBackbone) -> None:
    weights = {str(tmp_path / name): weight for name, weight in (("one", 0.7), ("two", -0.3))}
    for seed, source in enumerate(weights):
        save_lora(tiny_pipeline(), Path(source), "unet", seed)
    merged = load(pipeline_folder, loras=weights)
    pictures = [by_sampler(merged, WAYS["SD"])]
    same_picture(pictures[0], drawn_by_hand(merged, plain, 0))
    for base_steps in (2, 3, STEPS):
        loaded = load(pipeline_folder, loras=weights, base_steps=base_steps)
        assert not any(weight.requires_grad for weight in loaded.parameters())
        pictures.append(by_sampler(loaded, WAYS["SD"]))
        same_picture(pictures[-1], drawn_by_hand(merged, plain, base_steps))
        assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(pictures[-1], by_sampler(plain, WAYS["SD"]))
    assert all((one - other).abs().max() > 1e-3 for one, other in pairwise(pictures))  # above the tolerance
    last = load(pipeline_folder, loras=weights, base_steps=1)
    shorter = [bound(each, WAYS["SD"]).reschedule(2, 0.0) for each in (last, merged, plain)]
    for level, expected in enumerate(shorter[1:]):
        for name in ("denoise", "denoise_unguided"):
            x0, right = (getattr(each, name)(start(last), level).x0 for each in (shorter[0], expected))
            torch.testing.assert_close(x0, right, rtol=0, atol=1e-4)


def test_gradients_pass_a_lora_that_is_switched_off_later(
    pipeline_folder: Path, lora: tuple[Path, dict[str, Tensor]]
) -> None:
    """A gradient of the latents, with the activations computed anew, is that of the merged model, then of the base."""
    loaded = load(pipeline_folder, loras={str(lora[0]): 0.7}, base_steps=1)
    merged, base = load(pipeline_folder, loras={str(lora[0]): 0.7}), load(pipeline_folder)
    for level, expected in ((STEPS - 2, merged), (STEPS - 1, base)):
        found = []
        for backbone in (loaded, expected):
            x, denoiser = start(backbone).requires_grad_(), bound(backbone, WAYS["SD"])
            x0 = checkpoint(lambda x, of=denoiser, level=level: of.denoise(x, level).x0, x, use_reentrant=False)
            found += torch.autograd.grad(x0.square().sum(), x)
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_steps": -1, "loras": {"a": 1.0}}, "base_steps is -1: give a number of steps, at least 0"),
        ({"base_steps": 2}, "base_steps is 2, and there are no loras .*: give loras, or leave base_steps out"),
        ({"base_steps": 2, "loras": {"a": 1.0}, "compile": True}, "base_steps is 2, and compile is on: .* one of the"),
    ],
)
def test_base_steps_that_no_run_can_make_are_refused(options: dict[str, object], message: str) -> None:
    with one_line(ValueError, message):
        Loading(**options)


def test_base_steps_need_loras_of_the_network_and_no_fit(
    pipeline_folder: Path, tmp_path: Path, lora: tuple[Path, dict[str, Tensor]]
) -> None:
    save_lora(tiny_pipeline(), tmp_path / "text", "text_encoder", 0, "q_proj")
    message = "base_steps is given, and LoRA '.*text' adapts the text_encoder, which .* leave base_steps out"
    refused(pipeline_folder, ValueError, message, loras={str(tmp_path / "text"): 1.0}, base_steps=2)
    loading = Loading(loras={str(lora[0]): 1.0}, base_steps=2)
    training = Training(objective=PolicyGradient())
    for pipeline, options in (
        (str(pipeline_folder), {"loading": loading}),
        (load_backbone(str(pipeline_folder), loading), {}),
    ):
        with one_line(ValueError, "base_steps is 2, and a fit can't train these steps: leave it out"):
            SRSoupModule(
                pipeline, {"red": Channel(0)}, BaseModel(), Preferences(["red"], [[1.0]]), training=training, **options
            )
