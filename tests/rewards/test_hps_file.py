"""HPSv2 from a file of open_clip's against open_clip's forward pass written out, and the files that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel

from rewards import HPSv2
from rewards.networks.clip import CLIP_H
from tests.rewards.conftest import (
    LENGTH,
    PROMPTS,
    SIZE,
    TOWER,
    WIDTH,
    check_gradient,
    copied,
    official_pixels,
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


def test_gradient_by_finite_differences(file: str, processor: str) -> None:
    check_gradient(HPSv2(file, processor=processor, dtype="float64"))


def test_every_weight_is_loaded_once(file: str, processor: str) -> None:
    """Each number of the file is somewhere in the network, and none is there twice."""
    loaded = torch.cat([weight.flatten() for weight in HPSv2(file, processor=processor).networks[0].parameters()])
    torch.testing.assert_close(
        loaded.sort().values, torch.cat([weight.flatten() for weight in WEIGHTS.values()]).sort().values
    )


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
    with pytest.raises(FileNotFoundError, match=f"no model '{CLIP_H}'"):
        HPSv2(file)


def test_a_folder_may_be_called_like_a_file(clip_folder: str, tmp_path: Path) -> None:
    assert isinstance(HPSv2(copied(clip_folder, tmp_path / "odd.pt")).networks[0], CLIPModel)
