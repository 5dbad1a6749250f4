"""CLIPScore with CLIP and with SigLIP: its range, its prompts, and the models that it and its kin refuse."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPProcessor, Siglip2Config
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from rewards import CLIPScore
from tests.rewards.conftest import PROMPTS, SIZE, Files, built, copied, one_line, pictures, smooth


def test_scores_stay_within_100_and_reach_below_0(files: Files) -> None:
    scores = built("clip", files).score(torch.rand(64, 3, SIZE, SIZE), PROMPTS * 16)
    assert scores.abs().max() <= 100
    assert scores.min() < 0


def test_a_prompt_is_embedded_once(clip_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reward, asked = CLIPScore(clip_folder), []
    network = reward.networks[0]
    embed = network.get_text_features

    def counting(input_ids: Tensor, **options: Tensor) -> object:
        asked.append(len(input_ids))
        return embed(input_ids=input_ids, **options)

    monkeypatch.setattr(network, "get_text_features", counting)
    images = smooth(SIZE, SIZE)
    for _ in range(3):
        reward.score(images, ["cat", "a dog", "cat", "cat"])
    reward.score(images[:2], ["cat", "zebra"])
    assert asked == [2, 1]
    assert len(reward._texts) == 2


def test_a_processor_saved_as_one_file_or_as_several(tmp_path: Path, files: Files) -> None:
    folder, images = copied(files.clip, tmp_path / "several", "*processor*"), smooth(20, 31)
    CLIPProcessor.from_pretrained(files.clip).image_processor.save_pretrained(folder)
    expected = built("clip", files).score(images, PROMPTS)
    torch.testing.assert_close(CLIPScore(folder).score(images, PROMPTS), expected)


def test_pixels_of_siglip_are_those_of_the_official_processor(files: Files) -> None:
    images = smooth(41, 23)
    expected = SiglipImageProcessorPil.from_pretrained(files.siglip)(pictures(images), return_tensors="pt")
    pixels = built("siglip", files)._pixels(images)
    # One level of 255 is 2 / 255 after the division by 0.5.
    torch.testing.assert_close(pixels, expected.pixel_values, rtol=0, atol=2.5 * 2 / 255)
    assert pixels.shape == (4, 3, SIZE, SIZE)


def test_padding_of_siglip_is_part_of_the_text_and_neighbours_are_not(files: Files) -> None:
    reward, image = CLIPScore(files.siglip), smooth(SIZE, SIZE, 1)
    alone = reward.score(image, ["cat"])
    with_longer = CLIPScore(files.siglip).score(image.expand(2, -1, -1, -1), ["cat", "zebra in the fog"])[:1]
    torch.testing.assert_close(alone, with_longer, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        tokens = reward._tokenizer(["cat"], return_tensors="pt")
        unpadded = reward.networks[0].get_text_features(input_ids=tokens.input_ids).pooler_output
    assert torch.cosine_similarity(unpadded, reward._embed_prompts(["cat"])).item() < 0.99


def test_capitals_are_lowered_for_siglip_whatever_the_tokenizer_does(files: Files) -> None:
    reward, image = CLIPScore(files.siglip), smooth(SIZE, SIZE, 1)
    reward._tokenizer.backend_tokenizer.normalizer = None
    first, second = reward.score(image.expand(2, -1, -1, -1), ["CAT", "cat"])
    assert first == second


def test_naflex_is_refused(files: Files, tmp_path: Path) -> None:
    folder = copied(files.siglip, tmp_path / "naflex")
    Siglip2Config().save_pretrained(folder)
    with pytest.raises(ValueError, match="naflex is a siglip2 model: give one of type clip or siglip"):
        CLIPScore(folder)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_that_needs_another_package(files: Files, tmp_path: Path) -> None:
    folder = copied(files.siglip, tmp_path / "first", tokenizer_config={"tokenizer_class": "SiglipTokenizer"})
    with one_line(ModuleNotFoundError, r"first can't be read yet, .*SentencePiece.*pip"):
        CLIPScore(folder)
