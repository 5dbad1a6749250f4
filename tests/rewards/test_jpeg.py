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


@pytest.mark.parametrize("quality", [1, 30, 95, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_kilobytes_of_a_file_on_disk(tmp_path: Path, quality: int, subsampling: str) -> None:
    images = torch.stack([picture(seed) for seed in range(3)])
    scores = JPEGCompressibility(quality, subsampling).score(images, [""] * 3)
    for image, score in zip(images, scores, strict=True):
        file = tmp_path / "image.jpg"
        pixels = np.rint(image.permute(1, 2, 0).double().numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, quality=quality, subsampling=subsampling)
        assert score.item() == pytest.approx(-file.stat().st_size / 1000, rel=1e-6)


def test_default_is_pillows_own_chroma(tmp_path: Path) -> None:
    image = picture()
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(tmp_path / "image.jpg", quality=95)
    expected = -(tmp_path / "image.jpg").stat().st_size / 1000
    assert JPEGCompressibility().score(image[None], [""]).item() == pytest.approx(expected, rel=1e-6)


def test_flat_beats_smooth_beats_noise() -> None:
    images = torch.stack([torch.full((3, 64, 64), 0.3), picture(0, 64, 64), torch.rand(3, 64, 64)])
    flat, smooth, noise = JPEGCompressibility().score(images, [""] * 3)
    assert 0 > flat > smooth > noise


def test_lower_quality_is_smaller() -> None:
    low, mid, high = (JPEGCompressibility(quality).score(picture()[None], [""]).item() for quality in (10, 50, 95))
    assert low > mid > high


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_threads_keep_the_order(workers: int | None) -> None:
    images = torch.stack([picture(seed) for seed in range(12)])
    alone = torch.cat([JPEGCompressibility().score(image[None], [""]) for image in images])
    together = JPEGCompressibility(workers=workers).score(images, [""] * 12)
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_half_levels_are_rounded_not_cut() -> None:
    levels = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    judge = JPEGCompressibility()
    exact = judge.score(levels / 255, [""])
    torch.testing.assert_close(judge.score((levels - 0.4).clamp_min(0) / 255, [""]), exact, rtol=0, atol=0)
    torch.testing.assert_close(judge.score((levels + 0.4).clamp_max(255) / 255, [""]), exact, rtol=0, atol=0)


@pytest.mark.parametrize("quality", [0, 101, -5, 50.5])
def test_bad_quality(quality: float) -> None:
    with pytest.raises(ValueError, match=f"quality is {quality}.*1 .*100"):
        JPEGCompressibility(quality)


def test_bad_subsampling_and_workers() -> None:
    with pytest.raises(ValueError, match=r"'4:1:1'.*4:4:4, 4:2:2, 4:2:0"):
        JPEGCompressibility(subsampling="4:1:1")
    with pytest.raises(ValueError, match="workers is 0"):
        JPEGCompressibility(workers=0)


def test_the_family_by_files_on_disk(tmp_path: Path) -> None:
    images = torch.stack([torch.full((3, 40, 56), 0.3), picture(), torch.rand(3, 40, 56)])
    kilobytes = []
    for image in images:
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "image.jpg", quality=30, subsampling="4:4:4")
        kilobytes.append((tmp_path / "image.jpg").stat().st_size / 1000)
    options = {"quality": 30, "subsampling": "4:4:4"}
    target = kilobytes[1]
    scores = {
        JPEGIncompressibility(**options): kilobytes,
        JPEGSize(target, **options): [kilobytes[0] - target, 0, target - kilobytes[2]],
    }
    for judge, expected in scores.items():
        assert judge.score(images, [""] * 3).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert jpeg_kilobytes(images, **options).tolist() == pytest.approx(kilobytes, rel=1e-6)


@pytest.mark.parametrize("target", [0.0, -3.0, float("inf"), float("nan")])
def test_bad_target(target: float) -> None:
    with pytest.raises(ValueError, match=f"target is {target}: give a size in kilobytes"):
        JPEGSize(target)
