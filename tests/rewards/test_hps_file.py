"""HPSv2 from a file of open_clip's against open_clip's forward pass written out, and the files that it refuses."""

from __future__ import annotations

import json
import shutil
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
    official_pixels,
    smooth,
    tiny_tokenizer,
)

INNER, HEADS = TOWER["hidden_size"], TOWER["num_attention_heads"]


class QuickGELU(nn.Module):
    """The activation that the tiny configuration names."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (1.702 * inputs).sigmoid()


class Block(nn.Module):
    """Layer norms first, attention of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(INNER), nn.LayerNorm(INNER)
        self.attn = nn.MultiheadAttention(INNER, HEADS, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(INNER, TOWER["intermediate_size"]))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(TOWER["intermediate_size"], INNER))

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        inner = self.ln_1(tokens)
        tokens = tokens + self.attn(inner, inner, inner, need_weights=False, attn_mask=mask)[0]
        return tokens + self.mlp(self.ln_2(tokens))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block() for _ in range(TOWER["num_hidden_layers"]))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            tokens = block(tokens, mask)
        return tokens


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, INNER, 4, 4, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(INNER))
        self.positional_embedding = nn.Parameter(torch.randn(1 + (SIZE // 4) ** 2, INNER))
        self.ln_pre, self.ln_post = nn.LayerNorm(INNER), nn.LayerNorm(INNER)
        self.transformer = Transformer()
        self.proj = nn.Parameter(torch.randn(INNER, WIDTH))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).mT
        tokens = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        tokens = self.transformer(self.ln_pre(tokens + self.positional_embedding))
        return self.ln_post(tokens[:, 0]) @ self.proj


class OpenCLIP(nn.Module):
    """The module whose ``state_dict`` the authors' file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = Visual()
        self.token_embedding = nn.Embedding(len(tiny_tokenizer()), INNER)
        self.positional_embedding = nn.Parameter(torch.randn(LENGTH, INNER))
        self.transformer = Transformer()
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


NETWORK = tiny_open_clip()
WEIGHTS = NETWORK.state_dict()


def official(folder: str, images: Tensor) -> Tensor:
    tokens = tiny_tokenizer()(PROMPTS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        seen, read = NETWORK.visual(official_pixels(folder, images)), NETWORK.read(tokens["input_ids"])
    return 100 * nn.functional.cosine_similarity(seen, read)


@pytest.fixture
def processor(clip_folder: str, tmp_path: Path) -> str:
    """Configuration, tokenizer and image preprocessing, without weights."""
    return shutil.copytree(clip_folder, tmp_path / "processor", ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_file(WEIGHTS, tmp_path / "HPS.safetensors")
    return str(tmp_path / "HPS.safetensors")


def test_the_formula_through_open_clip_s_own_layers(file: str, processor: str) -> None:
    images = smooth(SIZE, SIZE)
    expected = official(processor, images)
    assert expected.std() > 1
    torch.testing.assert_close(HPSv2(file, processor=processor).score(images, PROMPTS), expected, rtol=0, atol=1e-3)


def test_gradient_by_finite_differences(file: str, processor: str) -> None:
    check_gradient(HPSv2(file, processor=processor, dtype="float64"))


def test_every_weight_has_its_place(file: str, processor: str) -> None:
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


def test_what_is_no_file_or_lacks_its_configuration(file: str, clip_folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sha256 is for a file, but model is .*: leave it out"):
        HPSv2(clip_folder, sha256="00")
    with pytest.raises(FileNotFoundError, match=r"no file of weights 'nowhere\.pt'"):
        HPSv2("nowhere.pt", processor=clip_folder, sha256="00")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="is a bert model"):
        HPSv2(file, processor=tmp_path / "bert")


def test_by_default_the_configuration_is_that_of_the_network_it_was_trained_from(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=f"no model '{CLIP_H}'"):
        HPSv2(file)


def test_a_folder_may_be_called_like_a_file(clip_folder: str, tmp_path: Path) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "odd.pt")
    assert isinstance(HPSv2(folder).networks[0], CLIPModel)
