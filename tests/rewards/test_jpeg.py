"""The encoder's bytes, counted separately."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rewards import JPEGCompressibility, JPEGIncompressibility, JPEGSize
from rewards.functional import jpeg_kilobytes


def picture(seed: int = 0, height: int = 40, width: int = 56) -> Tensor:
    """Smooth colours with some noise."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 7, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return (smooth + 0.05 * torch.randn(3, height, width, generator=rng)).clamp(0, 1)


def on_disk(image: Tensor, file: Path, **options: object) -> float:
    """Kilobytes of an image that Pillow writes."""
    Image.fromarray(np.rint(image.permute(1, 2, 0).double().numpy() * 255).astype(np.uint8)).save(file, **options)
    return file.stat().st_size / 1000


@pytest.mark.parametrize("quality", [1, 30, 95, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_kilobytes_of_a_file_on_disk(tmp_path: Path, quality: int, subsampling: str) -> None:
    options = {"quality": quality, "subsampling": subsampling}
    noise = torch.randint(0, 256, (3, 40, 56), generator=torch.Generator().manual_seed(0)) / 255
    images = torch.stack([torch.full((3, 40, 56), 0.3), picture(), noise, picture(1)])
    kilobytes = [on_disk(image, tmp_path / "image.jpg", **options) for image in images]
    target = kilobytes[1]
    scores = {
        JPEGCompressibility(**options): [-size for size in kilobytes],
        JPEGIncompressibility(**options): kilobytes,
        JPEGSize(target, **options): [-abs(size - target) for size in kilobytes],
    }
    for reward, expected in scores.items():
        assert reward.score(images, [""] * 4).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert jpeg_kilobytes(images, **options).tolist() == pytest.approx(kilobytes, rel=1e-6)


def test_default_is_pillows_own_chroma(tmp_path: Path) -> None:
    expected = -on_disk(picture(), tmp_path / "image.jpg", quality=95)
    assert JPEGCompressibility().score(picture()[None], [""]).item() == pytest.approx(expected, rel=1e-6)


def test_flat_beats_smooth_beats_noise_and_low_quality_beats_high() -> None:
    images = torch.stack([torch.full((3, 64, 64), 0.3), picture(0, 64, 64), torch.rand(3, 64, 64)])
    flat, smooth, noise = JPEGCompressibility().score(images, [""] * 3)
    assert 0 > flat > smooth > noise
    low, mid, high = (JPEGCompressibility(quality).score(picture()[None], [""]).item() for quality in (10, 50, 95))
    assert low > mid > high


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_threads_keep_the_order(workers: int | None) -> None:
    images = torch.stack([picture(seed) for seed in range(12)])
    alone = torch.cat([JPEGCompressibility().score(image[None], [""]) for image in images])
    together = JPEGCompressibility(workers=workers).score(images, [""] * 12)
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_half_levels_are_rounded_not_cut() -> None:
    levels, reward = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.manual_seed(0)), JPEGCompressibility()
    exact = reward.score(levels / 255, [""])
    for shifted in ((levels - 0.4).clamp_min(0), (levels + 0.4).clamp_max(255)):
        torch.testing.assert_close(reward.score(shifted / 255, [""]), exact, rtol=0, atol=0)
