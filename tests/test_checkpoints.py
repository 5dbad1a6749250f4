"""The checkpoints agree with their model cards and have the formats of diffusers and transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from transformers import AutoTokenizer, CLIPModel, CLIPTextModel

from rewards import CLIPScore
from srsoup_lightning import Loading, Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.diffusion.loading.pipeline import load_backbone
from srsoup_lightning.samplers import BaseModel
from tests.conftest import quiet_trainer

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
NAMES = ("tiny-animals", "tiny-clip", "tiny-animals-preview", "tiny-animals-flow")
PIPELINE, CLIP, PREVIEW, FLOW = (CHECKPOINTS / name for name in NAMES)


def animals() -> list[str]:
    return (PIPELINE / "animals.txt").read_text().split()


def prompts_of(names: list[str]) -> list[str]:
    return [f"an {name}" if name[0] in "aeiou" else f"a {name}" for name in names]


def test_they_know_the_papers_animals_are_small_and_hold_no_pickle() -> None:
    assert {"hippopotamus", "snail", "leopard", "crocodile", "lobster", "octopus"} <= set(animals())
    assert 24 <= len(animals()) <= 48
    files = [path for folder in (PIPELINE, CLIP, PREVIEW, FLOW) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40_000_000
    assert sum(path.stat().st_size for path in files if path.is_relative_to(FLOW)) <= 15_000_000
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]


def test_plain_diffusers_loads_and_runs_the_pipeline() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(PIPELINE, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    (image,) = pipeline("a lobster", num_inference_steps=3, generator=torch.Generator().manual_seed(0)).images
    assert image.size == (64, 64)
    parts = {"text_encoder_3": None, "tokenizer_3": None}
    flow = StableDiffusion3Pipeline.from_pretrained(FLOW, dtype=torch.float32, local_files_only=True, **parts)
    flow.set_progress_bar_config(disable=True)
    (image,) = flow("a lobster", num_inference_steps=3, generator=torch.Generator().manual_seed(0)).images
    assert image.size == (64, 64)


@pytest.mark.parametrize("folder", [PIPELINE / "tokenizer", CLIP])
def test_an_unknown_word_has_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer.tokenize("a Zyzzyva, naïve 象")
    assert len(tokens) > 4
    assert tokenizer.unk_token not in tokens


def test_the_text_encoder_is_tiny_clips_text_tower() -> None:
    tower = CLIPModel.from_pretrained(CLIP).text_model.state_dict()
    encoder = CLIPTextModel.from_pretrained(PIPELINE / "text_encoder").state_dict()
    assert all(torch.equal(encoder[name.removeprefix("text_model.")], value) for name, value in tower.items())


@pytest.mark.long
@pytest.mark.parametrize(("pipeline", "eta"), [("tiny-animals", 1.0), ("tiny-animals-flow", 0.0)])
def test_pictures_show_the_animal_that_was_asked_for(pipeline: str, eta: float) -> None:
    names = ["lobster", "frog", "zebra", "bird", "fox", "pig"]
    reward, sampler = CLIPScore("tiny-clip"), BaseModel(num_inference_steps=8, eta=eta)
    module = SRSoupModule(pipeline, {"clip": reward}, sampler, Preferences(["clip"], [[1]]))
    soups = quiet_trainer().predict(module, PromptDataModule(prompts_of(names), [0, 1]))
    texts = prompts_of(animals())
    scores = torch.stack([reward.score(soup.images.expand(len(texts), -1, -1, -1), texts) for soup in soups])
    named = [animals()[index] for index in scores.argmax(1)]
    asked = [name for name in names for _ in range(2)]
    assert sum(a == b for a, b in zip(named, asked, strict=True)) >= 0.75 * len(asked)


def test_the_preview_decoder_shows_rewards_nearly_what_the_pipeline_would() -> None:
    backbone = load_backbone("tiny-animals", Loading(preview_decoder="tiny-animals-preview"))
    denoiser = backbone.bind("a lobster", num_inference_steps=4, guidance_scale=5.0, eta=1.0)
    x = torch.randn(4, *denoiser.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for step in range(3):
            x = denoiser.denoise(x, step).x0 if step == 2 else denoiser.kernel.mean(step, x, denoiser.denoise(x, step))
        seen, drawn = denoiser.decode_preview(x), denoiser.decode(x)
    blank = drawn.mean((0, 2, 3), keepdim=True)
    assert (seen - drawn).abs().mean() < 0.25 * (drawn - blank).abs().mean()
