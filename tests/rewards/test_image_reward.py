"""ImageReward against its forward pass written out from the file's weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.reward_networks import BERT_TOKENS, image_reward_weights
from tests.rewards.conftest import BLIP, FRAME, SIZE, Files, built, pictures, smooth

WEIGHTS = image_reward_weights(BLIP)
PROMPTS = ["a cat", "dogs in the fog", "Zebra", "the unheard-of"]
IDS = [[2, 5, 8, 3], [2, 9, 12, 6, 7, 11, 3], [2, 10, 3], [2, 7, 1, 1, 1, 3]]


class Part:
    """Weights below a prefix, applied in float64."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __getitem__(self, key: str) -> Tensor:
        return WEIGHTS[self.prefix + key].double()

    def linear(self, key: str, inputs: Tensor) -> Tensor:
        return inputs @ self[f"{key}.weight"].T + self[f"{key}.bias"]

    def norm(self, key: str, inputs: Tensor, epsilon: float) -> Tensor:
        centred = inputs - inputs.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
        return scaled * self[f"{key}.weight"] + self[f"{key}.bias"]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one sequence, (L, D) to (S, D), in heads of 64 channels."""
    heads = zip(*(part.split(64, dim=-1) for part in (query, key, value)), strict=True)
    return torch.cat([(q @ k.T / 8).softmax(-1) @ v for q, k, v in heads], dim=-1)


def look(pixels: Tensor) -> Tensor:
    """The image encoder, a ViT that normalises before each layer: all its tokens (1 + patches, 128)."""
    part = Part("blip.visual_encoder.")
    kernel = part["patch_embed.proj.weight"]
    patches = pixels.double().unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).reshape(-1, kernel[0].numel())
    tokens = torch.cat([part["cls_token"][0], patches @ kernel.flatten(1).T + part["patch_embed.proj.bias"]])
    tokens = tokens + part["pos_embed"][0]
    for block in ("blocks.0", "blocks.1"):
        query, key, value = part.linear(f"{block}.attn.qkv", part.norm(f"{block}.norm1", tokens, 1e-6)).chunk(3, dim=-1)
        tokens = tokens + part.linear(f"{block}.attn.proj", attend(query, key, value))
        inner = F.gelu(part.linear(f"{block}.mlp.fc1", part.norm(f"{block}.norm2", tokens, 1e-6)))
        tokens = tokens + part.linear(f"{block}.mlp.fc2", inner)
    return part.norm("norm", tokens, 1e-6)


def read(ids: list[int], seen: Tensor) -> Tensor:
    """The text encoder, a BERT with cross attention: its first token (64,)."""
    part = Part("blip.text_encoder.")
    tokens = part["embeddings.word_embeddings.weight"][ids] + part["embeddings.position_embeddings.weight"][: len(ids)]
    tokens = part.norm("embeddings.LayerNorm", tokens, 1e-12)
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for name in ("attention", "crossattention"):
            context = tokens if name == "attention" else seen
            query = part.linear(f"{layer}.{name}.self.query", tokens)
            key, value = (part.linear(f"{layer}.{name}.self.{role}", context) for role in ("key", "value"))
            out = part.linear(f"{layer}.{name}.output.dense", attend(query, key, value))
            tokens = part.norm(f"{layer}.{name}.output.LayerNorm", tokens + out, 1e-12)
        out = part.linear(f"{layer}.output.dense", F.gelu(part.linear(f"{layer}.intermediate.dense", tokens)))
        tokens = part.norm(f"{layer}.output.LayerNorm", tokens + out, 1e-12)
    return tokens[0]


def official(images: Tensor) -> Tensor:
    pixels = CLIPImageProcessorPil(**FRAME)(pictures(images), return_tensors="pt").pixel_values
    head, scores = Part("mlp.layers."), []
    for one, ids in zip(pixels, IDS, strict=True):
        score = read(ids, look(one))
        for layer in "02467":
            score = head.linear(layer, score)
        scores.append((score - 0.16717362830052426) / 1.0333394966054072)
    return torch.cat(scores).float()


# Resized pixels are rounded to 8 bits by PIL: at most 0.1 on these, that spread over 3 and more.
@pytest.mark.parametrize(
    ("shape", "slack"), [((SIZE, SIZE), 1e-4), ((16, 33), 1e-4), ((64, 64), 0.3), ((50, 75), 0.3), ((75, 51), 0.3)]
)
def test_the_published_formula(files: Files, shape: tuple[int, int], slack: float) -> None:
    images = smooth(*shape)
    expected = official(images)
    assert expected.std() > 0.3
    scores = built("image", files).score(images, PROMPTS)
    torch.testing.assert_close(scores, expected, rtol=0, atol=slack)


def test_tokens_are_those_of_bert_and_two_marks(files: Files) -> None:
    tokenizer = built("image", files)._tokenizer
    assert tokenizer(PROMPTS)["input_ids"] == IDS
    assert tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [len(BERT_TOKENS), len(BERT_TOKENS) + 1]


def test_prompts_are_cut_after_35_tokens(files: Files) -> None:
    reward, image = built("image", files), smooth(SIZE, SIZE, 1)
    filled, longer, changed = "cat " * 33, "cat " * 33 + "dog", "cat " * 32 + "dog"
    scores = [reward.score(image, [prompt]) for prompt in (filled, longer, changed)]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_both_the_prompt_and_the_image_matter(files: Files) -> None:
    reward, images = built("image", files), smooth(SIZE, SIZE, 3)
    assert reward.score(images, ["a cat"] * 3).std() > 0.05
    assert reward.score(images[:1].expand(3, -1, -1, -1), ["a cat", "dog", "the fog"]).std() > 0.05


def only(chosen: Callable[[str], bool]) -> dict[str, Tensor]:
    return {key: weight for key, weight in WEIGHTS.items() if chosen(key)}


QUERY = "blip.text_encoder.encoder.layer.1.crossattention.self.query.weight"
PATCH = "blip.visual_encoder.patch_embed.proj.weight"
WRONG = {
    "no blip": (only(lambda key: key.startswith("mlp")), r"no keys blip\.visual_encoder\.\*"),
    "no head": (only(lambda key: key.startswith("blip")), r"no keys mlp\.\*"),
    "no size": (only(lambda key: key != PATCH), r"lacks embeddings\.patch_embedding\.weight"),
    "no query": (only(lambda key: key != QUERY), r"lacks .*1\.crossattention\.self\.query"),
    "shape": (WEIGHTS | {QUERY: torch.ones(3, 4)}, r"query\.weight of shape \(3, 4\), want \(64, 64\)"),
    "width": (WEIGHTS | {PATCH: torch.ones(100, 3, 4, 4)}, r"width 100: BLIP's attention heads have 64"),
    "nan": (WEIGHTS | {QUERY: torch.full((64, 64), torch.nan)}, r"NaN or infinite in float32, .*crossattention"),
}
