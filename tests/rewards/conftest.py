"""Tiny networks of every reward in the official formats. Their random weights give scores that differ."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchmetrics.image import TotalVariation
from transformers import (
    BatchEncoding,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import rewards
from benchmarks.reward_networks import (
    CHAT,
    LETTERS,
    SIGLIP_TOKENS,
    BlipSize,
    head_weights,
    image_reward_weights,
    save_bert,
    save_llava,
    save_siglip,
    speaker,
)
from rewards import AestheticScore, CLIPScore, HPSv2, ImageReward, PickScore, Reward, VQAScore
from tests.rewards.judges import asking, colourful_judge

SIZE, LENGTH, WIDTH = 16, 8, 8
PROMPTS = ["a cat", "cat", "a dog", "zebra in the fog at noon with a hat"]


def tiny_tokenizer() -> CLIPTokenizer:
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")])


def spread(network: PreTrainedModel, std: float = 0.3) -> PreTrainedModel:
    """Draw the matrices anew, wide enough for scores that differ."""
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=std)
    return network.eval()


TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
EYE = TOWER | {"image_size": SIZE, "patch_size": 4, "attention_dropout": 0.5}
FRAME = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}


def tiny_network(tokenizer: CLIPTokenizer) -> CLIPModel:
    marks = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH} | marks
    torch.manual_seed(0)
    return spread(CLIPModel(CLIPConfig(text_config=text, vision_config=EYE, projection_dim=WIDTH)))


def save_tiny_clip(folder: Path, **processor_options: object) -> str:
    tokenizer = tiny_tokenizer()
    tiny_network(tokenizer).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(**FRAME | processor_options), tokenizer).save_pretrained(folder)
    return str(folder)


def save_tiny_siglip(folder: Path, **processor_options: object) -> str:
    text = TOWER | {"vocab_size": len(SIGLIP_TOKENS), "max_position_embeddings": LENGTH}
    torch.manual_seed(0)
    network = spread(SiglipModel(SiglipConfig(text_config=text, vision_config=EYE)))
    save_siglip(folder, network, **processor_options)
    return str(folder)


BLIP = BlipSize(edge=SIZE, patch=4, vision=128, text=64, feed=48, layers=2, std=0.2)


def outspoken(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A network whose "Yes" is neither certain nor out of the question."""
    spread(network).get_output_embeddings().weight.data[tokenizer.convert_tokens_to_ids(["Yes", "\u0120Yes"])] *= -2
    return network


SPEAKER = TOWER | {"max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def save_tiny_llava(folder: Path, chat_template: str | None = CHAT) -> str:
    tokenizer = speaker("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**EYE),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **SPEAKER),
        image_token_index=len(tokenizer) - 1,
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    save_llava(folder, outspoken(LlavaForConditionalGeneration(config), tokenizer), tokenizer, chat_template)
    return str(folder)


class Files(NamedTuple):
    """Paths of the tiny networks."""

    clip: str
    head: str
    siglip: str
    blip: str
    bert: str
    llava: str


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("networks")
    clip, siglip = save_tiny_clip(folder / "clip"), save_tiny_siglip(folder / "siglip")
    head, blip, bert = folder / "linearMSE.safetensors", folder / "ImageReward.safetensors", folder / "bert"
    save_file(head_weights(WIDTH), head)
    save_file(image_reward_weights(BLIP), blip)
    save_bert(bert)
    return Files(clip, str(head), siglip, str(blip), str(bert), save_tiny_llava(folder / "llava"))


@pytest.fixture(scope="session")
def clip_folder(files: Files) -> str:
    return files.clip


@pytest.fixture(scope="session")
def legacy_folder(clip_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP model with its image preprocessing as it was written in 2022."""
    legacy = {
        "feature_extractor_type": "CLIPFeatureExtractor", "crop_size": SIZE, "size": SIZE, "resample": 3,
        "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3],
    }  # fmt: skip
    folder = copied(clip_folder, tmp_path_factory.mktemp("legacy") / "clip", "processor_config.json")
    (folder / "preprocessor_config.json").write_text(json.dumps(legacy))
    return str(folder)


def copied(folder: str, target: Path, *without: str, **changes: dict[str, object]) -> Path:
    """A copy of a model's folder, without the files of these patterns, with changes to its JSON files by their stem."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*without))
    for stem, options in changes.items():
        file = target / f"{stem}.json"
        file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | options))
    return target


def smooth(height: int, width: int, count: int = 4) -> Tensor:
    """Images of whole 8-bit levels, so that PIL sees the same pixels."""
    rng = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(count, 3, 6, 6, generator=rng)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (images * 255).round() / 255


def pictures(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]


def official_pixels(folder: str, images: Tensor) -> Tensor:
    return CLIPImageProcessorPil.from_pretrained(folder)(pictures(images), return_tensors="pt").pixel_values


@cache
def official_network(folder: str) -> CLIPModel:
    return CLIPModel.from_pretrained(folder)


def tokens_of(prompts: list[str]) -> BatchEncoding:
    options = {"padding": "max_length", "truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
    return tiny_tokenizer()(prompts, **options)


def raw_embeddings(folder: str, pixels: Tensor, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """CLIPModel's embeddings, divided by their length, of pixel values and of prompts."""
    network = official_network(folder)
    with torch.no_grad():
        seen = network.get_image_features(pixel_values=pixels).pooler_output
        read = network.get_text_features(**tokens_of(prompts)).pooler_output
    return seen / seen.norm(dim=-1, keepdim=True), read / read.norm(dim=-1, keepdim=True)


@contextmanager
def one_line(error: type[Exception], message: str) -> Iterator[pytest.ExceptionInfo]:
    """Expect an error with a message of one line that matches."""
    with pytest.raises(error, match=message) as caught:
        yield caught
    assert "\n" not in str(caught.value)


def check_gradient(reward: Reward) -> None:
    """Compare the gradient with finite differences, along itself mixed with random directions, in float64."""
    images = (0.1 + 0.8 * smooth(24, 20, 2)).double()
    for network in reward.networks:
        network.double()
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reward.score(point, PROMPTS[:2]).sum(), point)
    size = 0.02 / max(1.0, gradient.norm().item()) ** 0.5
    for seed in range(3):
        direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        direction = direction / direction.norm() + gradient / gradient.norm()
        ahead, behind = (reward.score(images + step * direction, PROMPTS[:2]).double().sum() for step in (size, -size))
        slope, slack = (ahead - behind) / (2 * size), 5e-3 * gradient.norm().item()
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=5e-3, atol=slack)


def redness(images: Tensor, prompts: list[str]) -> Tensor:
    """A user's function."""
    return images[:, 0].mean((1, 2))


NETWORKS: dict[str, Callable[..., Reward]] = {
    "clip": lambda files, **options: CLIPScore(files.clip, **options),
    "siglip": lambda files, **options: CLIPScore(files.siglip, **options),
    "pick": lambda files, **options: PickScore(files.clip, **options),
    "hps": lambda files, **options: HPSv2(files.clip, **options),
    "aesthetic": lambda files, **options: AestheticScore(files.clip, head=files.head, **options),
    "vqa": lambda files, **options: VQAScore(files.llava, **options),
    "image": lambda files, **options: ImageReward(files.blip, tokenizer=files.bert, **options),
}
REWARDS: dict[str, Callable[[Files], Reward]] = NETWORKS | {
    "jpeg": lambda files: rewards.JPEGCompressibility(workers=2),
    "jpeg incompressibility": lambda files: rewards.JPEGIncompressibility(workers=2),
    "jpeg size": lambda files: rewards.JPEGSize(1.0, workers=2),
    "brightness": lambda files: rewards.Brightness(),
    "brightness target": lambda files: rewards.Brightness(target=0.6),
    "contrast": lambda files: rewards.Contrast(),
    "sharpness": lambda files: rewards.Sharpness(),
    "symmetry": lambda files: rewards.Symmetry(),
    "function": lambda files: rewards.FunctionReward("tests.rewards.conftest.redness"),
    "differentiable function": lambda files: rewards.FunctionReward(redness, is_differentiable=True),
    "metric": lambda files: rewards.MetricReward(TotalVariation(reduction="mean")),
    "colorfulness": lambda files: rewards.Colorfulness(),
    "http": lambda files: asking(colourful_judge(), timeout=5.0, connect_timeout=5.0),
}


@cache
def built(name: str, files: Files) -> Reward:
    """The reward of a row, made once; tests take copies of it."""
    return REWARDS[name](files)


@pytest.fixture(params=REWARDS)
def reward(request: pytest.FixtureRequest, files: Files) -> Reward:
    return copy.deepcopy(built(request.param, files))


@pytest.fixture(params=NETWORKS)
def network_reward(request: pytest.FixtureRequest, files: Files) -> Reward:
    return copy.deepcopy(built(request.param, files))


@pytest.fixture(params=["clip", "pick", "hps", "aesthetic"])
def make_network_reward(request: pytest.FixtureRequest, files: Files) -> Callable[..., Reward]:
    """A reward with a CLIP network of another folder, with its head if it needs one."""
    return lambda model, **options: NETWORKS[request.param](files._replace(clip=model), **options)
