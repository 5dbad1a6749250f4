"""HPSv2 against the cosine behind the authors' preprocessing, and from a file of open_clip's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rewards import HPSv2
from rewards.networks.clip import CLIP_H
from rewards.networks.clip_pixels import CLIPPixels
from tests.rewards.conftest import (
    LENGTH,
    PROMPTS,
    SIZE,
    TOWER,
    WIDTH,
    Files,
    built,
    check_gradient,
    copied,
    official_pixels,
    pictures,
    raw_embeddings,
    smooth,
    tiny_tokenizer,
    tokens_of,
)

INNER, HEADS = TOWER["hidden_size"], TOWER["num_attention_heads"]


TORCH_NAMES = {
    ".resblocks.": ".layers.", ".ln_1.": ".norm1.", ".ln_2.": ".norm2.", ".attn.": ".self_attn.",
    ".mlp.c_fc.": ".linear1.", ".mlp.c_proj.": ".linear2.",
}  # fmt: skip
"""Names of open_clip's layers, and of the same in torch's transformer."""


def transformer() -> nn.TransformerEncoder:
    """Layers that normalise first, with the activation that the tiny configuration names."""
    options = {"dropout": 0.0, "batch_first": True, "norm_first": True}
    layer = nn.TransformerEncoderLayer(
        INNER, HEADS, TOWER["intermediate_size"], activation=lambda x: x * (1.702 * x).sigmoid(), **options
    )
    return nn.TransformerEncoder(layer, TOWER["num_hidden_layers"], enable_nested_tensor=False)


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, INNER, 4, 4, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(INNER))
        self.positional_embedding = nn.Parameter(torch.randn(1 + (SIZE // 4) ** 2, INNER))
        self.ln_pre, self.ln_post = nn.LayerNorm(INNER), nn.LayerNorm(INNER)
        self.transformer = transformer()
        self.proj = nn.Parameter(torch.randn(INNER, WIDTH))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).mT
        tokens = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        tokens = self.transformer(self.ln_pre(tokens + self.positional_embedding))
        return self.ln_post(tokens[:, 0]) @ self.proj


class OpenCLIP(nn.Module):
    """The network of the authors' file, by torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = Visual()
        self.token_embedding = nn.Embedding(len(tiny_tokenizer()), INNER)
        self.positional_embedding = nn.Parameter(torch.randn(LENGTH, INNER))
        self.transformer = transformer()
        self.ln_final = nn.LayerNorm(INNER)
        self.text_projection = nn.Parameter(torch.randn(INNER, WIDTH))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def read(self, ids: Tensor) -> Tensor:
        ahead = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)
        tokens = self.transformer(self.token_embedding(ids) + self.positional_embedding, ahead)
        last = ids.argmax(-1)  # the end of the text has the highest number
        return self.ln_final(tokens)[torch.arange(len(ids)), last] @ self.text_projection


def tiny_open_clip() -> OpenCLIP:
    torch.manual_seed(0)
    network = OpenCLIP().eval()
    for weight in network.parameters():
        if weight.ndim:
            nn.init.normal_(weight, std=0.3)
    return network


def open_clip_name(key: str) -> str:
    for theirs, ours in TORCH_NAMES.items():
        key = key.replace(ours, theirs)
    return key


NETWORK = tiny_open_clip()
WEIGHTS = {open_clip_name(key): weight for key, weight in NETWORK.state_dict().items()}


@pytest.fixture
def processor(clip_folder: str, tmp_path: Path) -> str:
    """Configuration, tokenizer and image preprocessing, without weights."""
    return str(copied(clip_folder, tmp_path / "processor", "*.safetensors"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_file(WEIGHTS, tmp_path / "HPS.safetensors")
    return str(tmp_path / "HPS.safetensors")


def test_the_formula_through_open_clip_s_own_layers(file: str, processor: str) -> None:
    images = smooth(SIZE, SIZE)
    with torch.no_grad():
        seen = NETWORK.visual(official_pixels(processor, images))
        expected = 100 * nn.functional.cosine_similarity(seen, NETWORK.read(tokens_of(PROMPTS)["input_ids"]))
    assert expected.std() > 1
    torch.testing.assert_close(HPSv2(file, processor=processor).score(images, PROMPTS), expected, rtol=0, atol=1e-3)


def test_every_weight_is_loaded_once_and_gradients_are_right(file: str, processor: str) -> None:
    """Each number of the file is somewhere in the network, and none is there twice."""
    reward = HPSv2(file, processor=processor, dtype="float64")
    loaded, saved = (
        torch.cat([weight.flatten() for weight in weights]).sort().values
        for weights in (reward.networks[0].parameters(), WEIGHTS.values())
    )
    torch.testing.assert_close(loaded, saved.double())
    check_gradient(reward)


QUERY = "visual.transformer.resblocks.1.attn.in_proj_weight"
WRONG = {
    "missing": ({key: weight for key, weight in WEIGHTS.items() if key != QUERY}, r"lacks vision_model.*1\.self_attn"),
    "shape": (WEIGHTS | {"text_projection": torch.ones(3, 4)}, r"text_projection.weight of shape \(4, 3\), want"),
    "nan": (WEIGHTS | {QUERY: torch.full((3 * INNER, INNER), torch.nan)}, "NaN or infinite in float32"),
    "others": ({"weight": torch.ones(1)}, "lacks"),
}


def test_a_configuration_of_another_model(file: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is a bert model"):
        HPSv2(file, processor=tmp_path)


def test_by_default_the_configuration_is_that_of_the_network_it_was_trained_from(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=f"model '{CLIP_H}'"):
        HPSv2(file)


def test_a_folder_may_be_called_like_a_file(clip_folder: str, tmp_path: Path) -> None:
    assert isinstance(HPSv2(copied(clip_folder, tmp_path / "odd.pt")).networks[0], CLIPModel)


SHAPES = [(64, 64), (50, 75), (75, 51), (SIZE, 9), (12, 9), (5, SIZE), (40, 7)]


def placed(picture: Image.Image, edge: int) -> np.ndarray:
    """The longest side resized to the edge, black around it, the odd line of which is last."""
    width, height = (round(side * edge / max(picture.size)) for side in picture.size)
    canvas = Image.new(picture.mode, (edge, edge))
    canvas.paste(picture.resize((width, height), Image.Resampling.BICUBIC), ((edge - width) // 2, (edge - height) // 2))
    return np.asarray(canvas)


def official(folder: str, images: Tensor, floats: bool) -> Tensor:
    """Pixel values by Pillow, from its images of floats, as the authors resize, or from its 8-bit images."""
    if floats:
        planes = [[placed(Image.fromarray(plane.numpy()), SIZE) for plane in image] for image in images]
        padded = np.stack([np.stack(image, axis=-1) for image in planes])
    else:
        padded = np.stack([placed(picture, SIZE) for picture in pictures(images)]) / np.float32(255)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    mean, std = (np.asarray(value, dtype=np.float32) for value in (processor.image_mean, processor.image_std))
    return torch.from_numpy((padded - mean) / std).permute(0, 3, 1, 2)


# Rounded to 8 bits and with overshoot cut off: at most 0.42 points on these, that spread over 30 and more.
@pytest.mark.parametrize("shape", SHAPES)
def test_the_papers_formula(files: Files, shape: tuple[int, int]) -> None:
    images, reward = smooth(*shape), built("hps", files)
    pixels = official(files.clip, images, floats=True)
    torch.testing.assert_close(reward._pixels(images), pixels, rtol=0, atol=1e-4)
    scores = reward.score(images, PROMPTS)
    for inputs, slack in {pixels: 1e-2, official(files.clip, images, floats=False): 1.0}.items():
        looks, words = raw_embeddings(files.clip, inputs, PROMPTS)
        torch.testing.assert_close(scores, 100 * (looks * words).sum(-1), rtol=0, atol=slack)


def test_squares_are_framed_as_clip_frames_them_and_others_on_request(files: Files) -> None:
    padding, clip = built("hps", files), built("clip", files)
    for edge, slack in ((SIZE, {}), (50, {"rtol": 0, "atol": 0.5})):
        images = smooth(edge, edge)
        torch.testing.assert_close(padding.score(images, PROMPTS), clip.score(images, PROMPTS), **slack)
    images = smooth(50, 75)
    cropped = HPSv2(files.clip, fit="crop").score(images, PROMPTS)
    torch.testing.assert_close(cropped, clip.score(images, PROMPTS), rtol=0, atol=0)
    assert (cropped - padding.score(images, PROMPTS)).abs().max() > 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 24))
def test_nothing_of_an_image_is_lost(height: int, width: int, edge: int) -> None:
    pixels = CLIPPixels(size=5, mode="bilinear", crop=(7, 9), scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3).padded(edge)
    framed = pixels(torch.ones(1, 3, height, width))
    assert framed.shape == (1, 3, edge, edge)
    rows, columns = (framed[0, 0] > 0.5).any(1), (framed[0, 0] > 0.5).any(0)
    for lines, side in ((rows, height), (columns, width)):
        assert lines.sum() == max(1, round(side * (edge / max(height, width))))
        before = int(lines.int().argmax())
        after = edge - before - int(lines.sum())
        assert after - before in (0, 1)
