"""Throughput of the rewards with a network, relative to a bare batched forward of that very network.

The networks have random weights, since the ratio is what counts, and sizes near ViT-B/32's. The bare forward is over
pixels that are ready for it, with the tokens ready too where the network reads and looks at once; elsewhere a reward
keeps the prompt's embedding from the first call on, as during a soup. The calls take turns on one thread, every other
round backwards, and each round gives one ratio of processor seconds: on a busy machine many short rounds agree better
than few long ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import process_time

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
)

from benchmarks.reward_networks import (
    SIGLIP_TOKENS,
    BlipSize,
    image_reward_weights,
    save_aesthetic_head,
    save_bert,
    save_clip,
    save_llava,
    save_siglip,
    speaker,
)
from rewards import AestheticScore, CLIPScore, HPSv2, ImageReward, PickScore, Reward, VQAScore

PROMPT = "a lobster"
EDGE = 224  # pixels, of all networks here
BLIP = BlipSize(edge=EDGE, patch=16, vision=512, text=512, feed=2048, layers=8)
Row = dict[str, float]
Forward = Callable[[Tensor], object]


@torch.inference_mode()
def throughput(images: Tensor, rounds: int) -> dict[str, dict[str, Row]]:
    """The bare forward's time over the reward's, by the images' size: the network's own, and that of those given.

    Args:
        images: ``(B, 3, H, W)`` in ``[0, 1]``, which the rewards resize.
        rounds: Rounds of timings of each reward.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: _ratios(reward, images, rounds) for name, reward in _rewards(Path(folder))}
    torch.set_num_threads(threads)
    return rows


def score(reward: Reward, images: Tensor) -> Tensor:
    """The scores (B,) of images that all have one prompt."""
    return reward.score(images, [PROMPT] * len(images))


def bare_forward(reward: Reward, count: int) -> Forward:
    """What the reward's network does with a batch, without what the reward does before and after.

    Args:
        reward: A reward with a network.
        count: The number B of images.

    Returns:
        A function of pixels ``(B, 3, h, w)`` as the network takes them.
    """
    if isinstance(reward, VQAScore):
        return _answering(reward, count)
    if isinstance(reward, ImageReward):
        return _reading(reward, count)
    network = reward.networks[0]
    if network.config.model_type == "siglip":
        return lambda pixels: network.vision_model(pixel_values=pixels)
    return lambda pixels: network.visual_projection(network.vision_model(pixel_values=pixels).pooler_output)


def _reading(reward: ImageReward, count: int) -> Forward:
    vision, text, _ = reward.networks
    tokens = reward._tokenizer([PROMPT] * count, return_tensors="pt")

    def forward(pixels: Tensor) -> object:
        seen = vision(pixel_values=pixels).last_hidden_state
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        return text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen, is_decoder=False)

    return forward


def _answering(reward: VQAScore, count: int) -> Forward:
    network = reward.networks[0]
    inputs = reward._encode([Image.new("RGB", (EDGE, EDGE))] * count, [PROMPT] * count)
    return lambda pixels: network(**inputs | {"pixel_values": pixels}, logits_to_keep=1)


def _rewards(folder: Path) -> Iterator[tuple[str, Reward]]:
    """The rewards by name, one after the other, so that one is in memory at a time."""
    torch.manual_seed(0)
    save_clip(folder)
    head = save_aesthetic_head(folder, 512)
    yield "CLIPScore", CLIPScore(folder)
    yield "PickScore", PickScore(folder)
    yield "HPSv2", HPSv2(folder)
    yield "AestheticScore", AestheticScore(folder, head=head)
    yield "CLIPScore of a SigLIP model", CLIPScore(_siglip(folder / "siglip"))
    save_bert(folder / "bert")
    save_file(image_reward_weights(BLIP), folder / "blip.safetensors")
    yield "ImageReward", ImageReward(folder / "blip.safetensors", tokenizer=folder / "bert")
    yield "VQAScore", VQAScore(_llava(folder / "llava"))


def _siglip(folder: Path) -> Path:
    """A SigLIP of the size of ViT-B/32."""
    text, vision = {"vocab_size": len(SIGLIP_TOKENS)}, {"image_size": EDGE, "patch_size": 32}
    save_siglip(folder, SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))
    return folder


def _llava(folder: Path) -> Path:
    """A LLaVA that sees by a ViT-B/32 and speaks by eight layers of width 512."""
    tokenizer = speaker("<image>")
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=EDGE, patch_size=32),
        text_config=text,
        image_token_index=len(tokenizer) - 1,
        vision_feature_layer=-1,
    )
    save_llava(folder, LlavaForConditionalGeneration(config), tokenizer)
    return folder


def _ratios(reward: Reward, images: Tensor, rounds: int) -> dict[str, Row]:
    ready = torch.rand(len(images), 3, EDGE, EDGE, generator=torch.Generator().manual_seed(0))
    forward = bare_forward(reward, len(images))
    calls: dict[str, Callable[[], object]] = {
        "bare": lambda: forward(ready),
        str(EDGE): lambda: score(reward, ready),
        str(images.shape[-1]): lambda: score(reward, images),
    }
    for call in calls.values():
        call()
    turns = [_round(calls, backwards=bool(index % 2)) for index in range(rounds)]
    return {size: _row([(turn["bare"], turn[size]) for turn in turns], len(images)) for size in list(calls)[1:]}


def _round(calls: dict[str, Callable[[], object]], backwards: bool) -> dict[str, float]:
    """Processor seconds of each call."""
    seconds = {}
    for name in reversed(calls) if backwards else calls:
        start = process_time()
        calls[name]()
        seconds[name] = process_time() - start
    return seconds


def _row(pairs: list[tuple[float, float]], count: int) -> Row:
    """What pairs of seconds, of the bare forward and of a reward over so many images, come to."""
    ratios = [forward / whole for forward, whole in pairs]
    return {
        "ratio": median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "milliseconds": 1_000 * median(whole for _, whole in pairs) / count,
    }
