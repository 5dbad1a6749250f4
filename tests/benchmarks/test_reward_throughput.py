"""The bare forward that rewards are timed against does what their networks do while they score, no more and no less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.reward_networks import image_reward_weights, save_aesthetic_head, save_bert
from benchmarks.reward_throughput import _row, bare_forward, score
from rewards import AestheticScore, CLIPScore, HPSv2, ImageReward, PickScore, Reward, VQAScore
from tests.rewards.conftest import BLIP, SIZE, WIDTH, save_tiny_clip, save_tiny_llava, save_tiny_siglip


def tiny_image_reward(folder: Path) -> Reward:
    save_bert(folder)
    save_file(image_reward_weights(BLIP), folder / "blip.safetensors")
    return ImageReward(folder / "blip.safetensors", tokenizer=folder)


REWARDS: dict[str, Callable[[Path], Reward]] = {
    "clip": lambda folder: CLIPScore(save_tiny_clip(folder)),
    "pick": lambda folder: PickScore(save_tiny_clip(folder)),
    "hps": lambda folder: HPSv2(save_tiny_clip(folder)),
    "aesthetic": lambda folder: AestheticScore(save_tiny_clip(folder), head=save_aesthetic_head(folder, WIDTH)),
    "siglip": lambda folder: CLIPScore(save_tiny_siglip(folder)),
    "image": tiny_image_reward,
    "vqa": lambda folder: VQAScore(save_tiny_llava(folder)),
}


def work(call: Callable[[], object], layers: dict[str, nn.Linear]) -> list[tuple[str, torch.Size]]:
    """The layers that a call goes through, in their order, and the shape of what comes out of them."""
    done: list[tuple[str, torch.Size]] = []

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda layer, inputs, output: done.append((name, output.shape))

    hooks = [layer.register_forward_hook(note(name)) for name, layer in layers.items()]
    with torch.inference_mode():
        call()
    for hook in hooks:
        hook.remove()
    return done


@pytest.mark.parametrize("make", REWARDS.values(), ids=REWARDS)
def test_the_same_layers_over_the_same_shapes(tmp_path: Path, make: Callable[[Path], Reward]) -> None:
    reward, images = make(tmp_path), torch.rand(3, 3, SIZE, SIZE)
    score(reward, images)  # the prompt's embedding is kept from here on
    layers = {
        f"{index} {name}": layer
        for index, network in enumerate(reward.networks)
        if hasattr(network, "config")  # all but the small heads
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
    }
    expected = work(lambda: score(reward, images), layers)
    assert len(expected) > 10
    assert work(lambda: bare_forward(reward, 3)(images), layers) == expected


def test_a_row_by_hand() -> None:
    row = _row([(0.2, 0.25), (0.3, 0.24), (0.21, 0.42)], count=4)
    assert row == pytest.approx({"ratio": 0.8, "least": 0.5, "most": 1.25, "milliseconds": 62.5})
