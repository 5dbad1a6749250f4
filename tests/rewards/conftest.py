"""Tiny networks of every reward in the official formats, with random weights that make scores spread."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from torchmetrics.image import TotalVariation
from transformers import (
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from rewards import (
    AestheticScore,
    Brightness,
    CLIPScore,
    Colorfulness,
    Contrast,
    FunctionReward,
    HPSv2,
    ImageReward,
    JPEGCompressibility,
    JPEGIncompressibility,
    JPEGSize,
    MetricReward,
    PickScore,
    Reward,
    Sharpness,
    Symmetry,
    VQAScore,
)
from tests.rewards.judges import asking, colourful_judge

SIZE, LENGTH, WIDTH = 16, 8, 8
PROMPTS = ["a cat", "cat", "a dog", "zebra in the fog at noon with a hat"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


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


def tiny_network(tokenizer: CLIPTokenizer) -> CLIPModel:
    text = TOWER | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = TOWER | {"image_size": SIZE, "patch_size": 4, "attention_dropout": 0.5}
    torch.manual_seed(0)
    return spread(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)))


def save_tiny_clip(folder: Path, **processor_options: object) -> str:
    tokenizer = tiny_tokenizer()
    options = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}} | processor_options
    tiny_network(tokenizer).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(**options), tokenizer).save_pretrained(folder)
    return str(folder)


def save_tiny_siglip(folder: Path, **processor_options: object) -> str:
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS, "ca", "cat"]
    tokenizer = Siglip2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[("c", "a"), ("ca", "t")],
        padding_side="right",
    )
    text = TOWER | {"vocab_size": len(tokens), "max_position_embeddings": LENGTH}
    vision = TOWER | {"image_size": SIZE, "patch_size": 4, "attention_dropout": 0.5}
    torch.manual_seed(0)
    spread(SiglipModel(SiglipConfig(text_config=text, vision_config=vision))).save_pretrained(folder)
    options = {"size": {"height": SIZE, "width": SIZE}} | processor_options
    SiglipProcessor(SiglipImageProcessorPil(**options), tokenizer).save_pretrained(folder)
    return str(folder)


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "in", "the", "cat", "dog", "zebra", "fog", "##s"]


def save_tiny_bert(folder: Path) -> str:
    BertTokenizer(vocab={token: index for index, token in enumerate(BERT)}).save_pretrained(folder)
    return str(folder)


def tiny_image_reward() -> dict[str, Tensor]:
    """The official file's keys, for an image encoder of width 128 and a text encoder of 64, with 2 layers each."""
    rng = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}

    def matrix(key: str, *shape: int) -> None:
        weights[key] = 0.2 * torch.randn(shape, generator=rng)

    def linear(key: str, outs: int, *ins: int) -> None:
        matrix(f"{key}.weight", outs, *ins)
        matrix(f"{key}.bias", outs)

    def norm(key: str, width: int) -> None:
        linear(key, width)
        weights[f"{key}.weight"] += 1

    vision, text, patch, feed = 128, 64, 4, 48
    matrix("blip.visual_encoder.cls_token", 1, 1, vision)
    matrix("blip.visual_encoder.pos_embed", 1, 1 + (SIZE // patch) ** 2, vision)
    linear("blip.visual_encoder.patch_embed.proj", vision, 3, patch, patch)
    norm("blip.visual_encoder.norm", vision)
    matrix("blip.text_encoder.embeddings.word_embeddings.weight", len(BERT) + 2, text)
    matrix("blip.text_encoder.embeddings.position_embeddings.weight", 40, text)
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    norm("blip.text_encoder.embeddings.LayerNorm", text)
    for index in range(2):
        block, layer = f"blip.visual_encoder.blocks.{index}", f"blip.text_encoder.encoder.layer.{index}"
        norm(f"{block}.norm1", vision)
        norm(f"{block}.norm2", vision)
        linear(f"{block}.attn.qkv", 3 * vision, vision)
        linear(f"{block}.attn.proj", vision, vision)
        linear(f"{block}.mlp.fc1", feed, vision)
        linear(f"{block}.mlp.fc2", vision, feed)
        for attention, seen in {"attention": text, "crossattention": vision}.items():
            linear(f"{layer}.{attention}.self.query", text, text)
            linear(f"{layer}.{attention}.self.key", text, seen)
            linear(f"{layer}.{attention}.self.value", text, seen)
            linear(f"{layer}.{attention}.output.dense", text, text)
            norm(f"{layer}.{attention}.output.LayerNorm", text)
        linear(f"{layer}.intermediate.dense", feed, text)
        linear(f"{layer}.output.dense", text, feed)
        norm(f"{layer}.output.LayerNorm", text)
    linear("blip.vision_proj", 8, vision)
    linear("blip.text_proj", 8, text)
    return weights | {f"mlp.{key}": weight for key, weight in tiny_head(text).items()}


CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def tiny_speaker(*special: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE of letters in which "Yes" is one token, and " Yes" another."""
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *LETTERS, "Y", "\u0120", "Ye", "Yes", "\u0120Yes"]
    merges = [("Y", "e"), ("Ye", "s"), ("\u0120", "Yes")]
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_tokens(list(special), special_tokens=True)
    return tokenizer


def outspoken(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A network whose "Yes" is neither certain nor out of the question."""
    spread(network).get_output_embeddings().weight.data[tokenizer.convert_tokens_to_ids(["Yes", "\u0120Yes"])] *= -2
    return network


SPEAKER = TOWER | {"max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
EYE = TOWER | {"image_size": SIZE, "patch_size": 4}


def save_tiny_llava(folder: Path, chat_template: str | None = CHAT) -> str:
    tokenizer = tiny_speaker("<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**EYE),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **SPEAKER),
        image_token_index=len(tokenizer) - 1,
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    outspoken(LlavaForConditionalGeneration(config), tokenizer).save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}),
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    ).save_pretrained(folder)
    return str(folder)


def make_legacy(folder: str) -> None:
    """Write the image preprocessing of a saved CLIP as it was written in 2022."""
    legacy = {
        "feature_extractor_type": "CLIPFeatureExtractor", "crop_size": SIZE, "size": SIZE, "resample": 3,
        "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3],
    }  # fmt: skip
    (Path(folder) / "processor_config.json").unlink(missing_ok=True)
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(legacy))


def tiny_head(width: int = WIDTH) -> dict[str, Tensor]:
    """The official file's keys and shapes, for embeddings of another width."""
    rng, widths = torch.Generator().manual_seed(0), (width, 1024, 128, 64, 16, 1)
    head = {}
    for index, ins, outs in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False):
        head[f"layers.{index}.weight"] = 1.5 * torch.randn(outs, ins, generator=rng) / ins**0.5
        head[f"layers.{index}.bias"] = torch.randn(outs, generator=rng)
    return head


class Files(NamedTuple):
    """Where the tiny networks lie."""

    clip: str
    head: str
    siglip: str
    blip: str
    bert: str
    llava: str


@pytest.fixture(scope="session")
def files(
    clip_folder: str, head_file: str, siglip_folder: str, blip_file: str, bert_folder: str, llava_folder: str
) -> Files:
    return Files(clip_folder, head_file, siglip_folder, blip_file, bert_folder, llava_folder)


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def blip_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("blip") / "ImageReward.safetensors"
    save_file(tiny_image_reward(), file)
    return str(file)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("head") / "linearMSE.safetensors"
    save_file(tiny_head(), file)
    return str(file)


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


def raw_embeddings(folder: str, pixels: Tensor, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """CLIPModel's embeddings, divided by their length, of pixel values and of prompts."""
    network = CLIPModel.from_pretrained(folder)
    tokens = tiny_tokenizer()(prompts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        seen = network.get_image_features(pixel_values=pixels).pooler_output
        read = network.get_text_features(**tokens).pooler_output
    return seen / seen.norm(dim=-1, keepdim=True), read / read.norm(dim=-1, keepdim=True)


def check_gradient(judge: Reward) -> None:
    """The gradient of a float64 judge along random directions, by finite differences."""
    images = (0.1 + 0.8 * smooth(24, 20, 2)).double()
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(judge.score(point, PROMPTS[:2]).sum(), point)
    for seed in range(3):
        direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-3 * direction
        ahead, behind = (judge.score(images + sign * step, PROMPTS[:2]).double().sum() for sign in (1, -1))
        slope = (ahead - behind) / 2e-3
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=5e-3, atol=5e-2)


def redness(images: Tensor, prompts: list[str]) -> Tensor:
    """A user's function."""
    return images[:, 0].mean((1, 2))


REWARDS: dict[str, Callable[[Files], Reward]] = {
    "jpeg": lambda files: JPEGCompressibility(workers=2),
    "jpeg incompressibility": lambda files: JPEGIncompressibility(workers=2),
    "jpeg size": lambda files: JPEGSize(1.0, workers=2),
    "brightness": lambda files: Brightness(),
    "brightness target": lambda files: Brightness(target=0.6),
    "contrast": lambda files: Contrast(),
    "sharpness": lambda files: Sharpness(),
    "symmetry": lambda files: Symmetry(),
    "function": lambda files: FunctionReward("tests.rewards.conftest.redness"),
    "differentiable function": lambda files: FunctionReward(redness, is_differentiable=True),
    "metric": lambda files: MetricReward(TotalVariation(reduction="mean")),
    "colorfulness": lambda files: Colorfulness(),
    "http": lambda files: asking(colourful_judge(), timeout=5.0),
    "clip": lambda files: CLIPScore(files.clip),
    "siglip": lambda files: CLIPScore(files.siglip),
    "pick": lambda files: PickScore(files.clip),
    "hps": lambda files: HPSv2(files.clip),
    "aesthetic": lambda files: AestheticScore(files.clip, head=files.head),
    "vqa": lambda files: VQAScore(files.llava),
    "image": lambda files: ImageReward(files.blip, tokenizer=files.bert),
}
NETWORKS = ["clip", "siglip", "pick", "hps", "aesthetic", "vqa", "image"]


@pytest.fixture(params=REWARDS)
def reward(request: pytest.FixtureRequest, files: Files) -> Reward:
    return REWARDS[request.param](files)


@pytest.fixture(params=NETWORKS)
def network_reward(request: pytest.FixtureRequest, files: Files) -> Reward:
    return REWARDS[request.param](files)


@pytest.fixture(params=["clip", "pick", "hps", "aesthetic"])
def make_network_reward(request: pytest.FixtureRequest, head_file: str) -> Callable[..., Reward]:
    """The class of a reward with a CLIP network, its head given if it needs one."""
    kinds = {"clip": CLIPScore, "pick": PickScore, "hps": HPSv2, "aesthetic": partial(AestheticScore, head=head_file)}
    return kinds[request.param]
