"""Networks of rewards with random weights in the official formats: of middling size to time, tiny ones to test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Siglip2Tokenizer,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from rewards.builtin import CLIP_MODELS

HEAD_WIDTHS = (1024, 128, 64, 16, 1)
HEAD_LAYERS = (0, 2, 4, 6, 7)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIGLIP_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS, "ca", "cat"]
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "in", "the", "cat", "dog", "zebra", "fog", "##s"]
SPOKEN_TOKENS = ["<pad>", "<s>", "</s>", "<unk>", *LETTERS, "Y", "\u0120", "Ye", "Yes", "\u0120Yes"]
CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def save_clip(folder: Path) -> None:
    """A CLIP of the size of ViT-B/32, and the builtin CLIP's words."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(str(CLIP_MODELS.find("tiny-clip")))
    text = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(folder)


def save_siglip(folder: Path, network: SiglipModel, **processor_options: object) -> None:
    """A SigLIP with its processor; the network has a row for each of SIGLIP_TOKENS."""
    tokenizer = Siglip2Tokenizer(
        vocab={token: index for index, token in enumerate(SIGLIP_TOKENS)},
        merges=[("c", "a"), ("ca", "t")],
        padding_side="right",
    )
    edge = network.config.vision_config.image_size
    options = {"size": {"height": edge, "width": edge}} | processor_options
    network.save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessorPil(**options), tokenizer).save_pretrained(folder)


def head_weights(width: int) -> dict[str, Tensor]:
    """The keys and shapes of the aesthetic predictor's file, and of ImageReward's MLP, for embeddings of a width."""
    rng, head = torch.Generator().manual_seed(0), {}
    for layer, ins, outs in zip(HEAD_LAYERS, (width, *HEAD_WIDTHS), HEAD_WIDTHS, strict=False):
        head[f"layers.{layer}.weight"] = 1.5 * torch.randn(outs, ins, generator=rng) / ins**0.5
        head[f"layers.{layer}.bias"] = torch.randn(outs, generator=rng)
    return head


def save_aesthetic_head(folder: Path, width: int) -> Path:
    """An aesthetic head for embeddings of that width."""
    save_file(head_weights(width), folder / "head.safetensors")
    return folder / "head.safetensors"


def save_bert(folder: Path) -> None:
    """BERT's tokenizer with a few words."""
    BertTokenizer(vocab={token: index for index, token in enumerate(BERT_TOKENS)}).save_pretrained(folder)


@dataclass(frozen=True, kw_only=True)
class BlipSize:
    """The size of ImageReward's networks, and the standard deviation of their weights."""

    edge: int
    patch: int
    vision: int
    text: int
    feed: int
    layers: int
    std: float = 0.02


class _Weights(dict[str, Tensor]):
    """Random weights by key."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std, self.rng = std, torch.Generator().manual_seed(0)

    def matrix(self, key: str, *shape: int) -> None:
        self[key] = self.std * torch.randn(shape, generator=self.rng)

    def linear(self, key: str, outs: int, *ins: int) -> None:
        self.matrix(f"{key}.weight", outs, *ins)
        self.matrix(f"{key}.bias", outs)

    def norm(self, key: str, width: int) -> None:
        self.linear(key, width)
        self[f"{key}.weight"] += 1


def image_reward_weights(size: BlipSize) -> dict[str, Tensor]:
    """The keys and shapes of ImageReward's file, in the words of BERT_TOKENS."""
    weights, vision, text = _Weights(size.std), size.vision, size.text
    weights.matrix("blip.visual_encoder.cls_token", 1, 1, vision)
    weights.matrix("blip.visual_encoder.pos_embed", 1, 1 + (size.edge // size.patch) ** 2, vision)
    weights.linear("blip.visual_encoder.patch_embed.proj", vision, 3, size.patch, size.patch)
    weights.norm("blip.visual_encoder.norm", vision)
    weights.matrix("blip.text_encoder.embeddings.word_embeddings.weight", len(BERT_TOKENS) + 2, text)
    weights.matrix("blip.text_encoder.embeddings.position_embeddings.weight", 40, text)
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    weights.norm("blip.text_encoder.embeddings.LayerNorm", text)
    for index in range(size.layers):
        _add_blip_layers(weights, size, index)
    weights.linear("blip.vision_proj", 8, vision)
    weights.linear("blip.text_proj", 8, text)
    return dict(weights) | {f"mlp.{key}": weight for key, weight in head_weights(text).items()}


def _add_blip_layers(weights: _Weights, size: BlipSize, index: int) -> None:
    vision, text = size.vision, size.text
    block, layer = f"blip.visual_encoder.blocks.{index}", f"blip.text_encoder.encoder.layer.{index}"
    weights.norm(f"{block}.norm1", vision)
    weights.norm(f"{block}.norm2", vision)
    weights.linear(f"{block}.attn.qkv", 3 * vision, vision)
    weights.linear(f"{block}.attn.proj", vision, vision)
    weights.linear(f"{block}.mlp.fc1", size.feed, vision)
    weights.linear(f"{block}.mlp.fc2", vision, size.feed)
    for attention, seen in {"attention": text, "crossattention": vision}.items():
        weights.linear(f"{layer}.{attention}.self.query", text, text)
        weights.linear(f"{layer}.{attention}.self.key", text, seen)
        weights.linear(f"{layer}.{attention}.self.value", text, seen)
        weights.linear(f"{layer}.{attention}.output.dense", text, text)
        weights.norm(f"{layer}.{attention}.output.LayerNorm", text)
    weights.linear(f"{layer}.intermediate.dense", size.feed, text)
    weights.linear(f"{layer}.output.dense", text, size.feed)
    weights.norm(f"{layer}.output.LayerNorm", text)


def speaker(*special: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE of letters in which "Yes" is one token, and " Yes" another."""
    merges = [("Y", "e"), ("Ye", "s"), ("\u0120", "Yes")]
    vocabulary = {token: index for index, token in enumerate(SPOKEN_TOKENS)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_tokens(list(special), special_tokens=True)
    return tokenizer


def save_llava(
    folder: Path,
    network: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    chat_template: str | None = CHAT,
) -> None:
    """A LLaVA with its processor."""
    eye = network.config.vision_config
    crop = {"height": eye.image_size, "width": eye.image_size}
    network.save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": eye.image_size}, crop_size=crop),
        tokenizer,
        patch_size=eye.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    ).save_pretrained(folder)
