"""CLIPScore of a SigLIP network against SiglipModel.forward behind its own image processor, and what it refuses."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoTokenizer, Siglip2Config, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from rewards import CLIPScore, HPSv2, PickScore
from tests.rewards.conftest import LENGTH, PROMPTS, SIZE, Files, built, pictures, save_tiny_siglip, smooth


def official(folder: str, images: Tensor, prompts: list[str]) -> Tensor:
    """The cosine, got back from the model's own logits."""
    network = SiglipModel.from_pretrained(folder)
    pixels = SiglipImageProcessorPil.from_pretrained(folder)(pictures(images), return_tensors="pt").pixel_values
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        logits = network(input_ids=tokens.input_ids, pixel_values=pixels).logits_per_image.diagonal()
        return 100 * (logits - network.logit_bias) / network.logit_scale.exp()


@pytest.fixture(scope="module", params=[2, 3])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SigLIP model with bilinear or bicubic interpolation."""
    return save_tiny_siglip(tmp_path_factory.mktemp("siglip"), resample=request.param)


# Resized pixels are rounded to 8 bits by PIL, and where it enlarges images, it also cuts off what overshoots between
# rows and columns: at most 0.5 points on these, whose standard deviation is 3 and more.
@pytest.mark.parametrize(
    ("shape", "slack"), [((SIZE, SIZE), 1e-3), ((64, 64), 0.6), ((50, 75), 0.6), ((75, 51), 0.6), ((12, 9), 1.0)]
)
def test_the_official_formula(folder: str, shape: tuple[int, int], slack: float) -> None:
    images = smooth(*shape)
    expected = official(folder, images, PROMPTS)
    assert expected.std() > 3
    torch.testing.assert_close(CLIPScore(folder).score(images, PROMPTS), expected, rtol=0, atol=slack)


def test_pixels_are_those_of_the_official_processor(files: Files) -> None:
    images = smooth(41, 23)
    expected = SiglipImageProcessorPil.from_pretrained(files.siglip)(pictures(images), return_tensors="pt")
    pixels = CLIPScore(files.siglip)._pixels(images)
    # One level of 255 is 2 / 255 after the division by 0.5.
    torch.testing.assert_close(pixels, expected.pixel_values, rtol=0, atol=2.5 * 2 / 255)
    assert pixels.shape == (4, 3, SIZE, SIZE)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31))
def test_the_score_ranks_as_the_probability(files: Files, seed: int) -> None:
    images = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).mul(255).round() / 255
    judge, prompts = built("siglip", files), ["a cat"] * 6
    network, pixels = judge.networks[0], judge._pixels(images)
    tokens = judge._tokenizer(prompts[:1], padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = network(input_ids=tokens.input_ids, pixel_values=pixels).logits_per_image.squeeze(1)
    scores = judge.score(images, prompts)
    probabilities = (network.logit_scale.exp() * scores / 100 + network.logit_bias).sigmoid()
    torch.testing.assert_close(probabilities, logits.sigmoid(), rtol=1e-4, atol=1e-5)


def test_padding_is_part_of_the_text_and_neighbours_are_not(files: Files) -> None:
    judge, image = CLIPScore(files.siglip), smooth(SIZE, SIZE, 1)
    alone = judge.score(image, ["cat"])
    with_longer = CLIPScore(files.siglip).score(image.expand(2, -1, -1, -1), ["cat", "zebra in the fog"])[:1]
    torch.testing.assert_close(alone, with_longer, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        tokens = judge._tokenizer(["cat"], return_tensors="pt")
        unpadded = judge.networks[0].get_text_features(input_ids=tokens.input_ids).pooler_output
    assert torch.cosine_similarity(unpadded, judge._embed_prompts(["cat"])).item() < 0.99


def test_capitals_are_lowered_whatever_the_tokenizer_does(files: Files) -> None:
    judge, images = CLIPScore(files.siglip), smooth(SIZE, SIZE, 2)
    judge._tokenizer.backend_tokenizer.normalizer = None
    first, second = judge.score(images[:1].expand(2, -1, -1, -1), ["CAT", "cat"])
    assert first == second


@pytest.mark.parametrize("kind", [PickScore, HPSv2])
def test_rewards_with_a_network_of_their_own_refuse_it(kind: type, files: Files) -> None:
    with pytest.raises(ValueError, match="is a siglip model: give one of type clip"):
        kind(files.siglip)


def test_naflex_is_refused(files: Files, tmp_path: Path) -> None:
    folder = shutil.copytree(files.siglip, tmp_path / "naflex")
    Siglip2Config().save_pretrained(folder)
    with pytest.raises(ValueError, match="naflex is a siglip2 model: give one of type clip or siglip"):
        CLIPScore(folder)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_that_needs_another_package(files: Files, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(files.siglip, tmp_path / "first"))
    options = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(options | {"tokenizer_class": "SiglipTokenizer"}))
    with pytest.raises(ModuleNotFoundError, match=r"first can't be read yet, .*SentencePiece.*pip") as caught:
        CLIPScore(folder)
    assert "\n" not in str(caught.value)
