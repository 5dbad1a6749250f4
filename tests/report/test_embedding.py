from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srsoup_lightning.report.embedding import EXACT_SIDE, Embedder


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def embedded(embedder: Embedder, path: Path) -> np.ndarray:
    """The pixels that a browser would see."""
    image = embedder.images[embedder.add(path)]
    kind, encoded = image["source"].split(",")
    assert kind == "data:image/webp;base64"
    with Image.open(BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.size == (image["width"], image["height"])
        return np.asarray(picture)


@pytest.mark.parametrize("channels", [3, 4])
def test_small_pictures_keep_every_pixel(tmp_path: Path, channels: int) -> None:
    pixels = noise(EXACT_SIDE, 31, channels)
    if channels == 4:
        pixels[..., 3] |= 1  # colours that nobody can see may change
    embedder = Embedder(512)
    assert (embedded(embedder, saved(tmp_path / "a.png", pixels)) == pixels).all()
    assert embedder.exact


def test_large_pictures_are_compressed_and_look_alike(tmp_path: Path) -> None:
    side = EXACT_SIDE + 1
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128), 2).astype(np.uint8)
    embedder = Embedder(512)
    seen = embedded(embedder, saved(tmp_path / "a.png", pixels)).astype(float)
    assert 0 < np.abs(seen - pixels).mean() < 3
    assert not embedder.exact


def test_pictures_are_made_smaller_in_proportion_but_never_larger(tmp_path: Path) -> None:
    large, small = saved(tmp_path / "a.png", noise(300, 150)), saved(tmp_path / "b.png", noise(20, 10))
    assert embedded(Embedder(100), large).shape == (50, 100, 3)
    assert embedded(Embedder(100), small).shape == (10, 20, 3)


def test_a_picture_is_kept_once(tmp_path: Path) -> None:
    embedder = Embedder(512)
    paths = [saved(tmp_path / f"{name}.png", noise(8, 8)) for name in "ab"] + [saved(tmp_path / "c.png", noise(9, 8))]
    assert [embedder.add(path) for path in [*paths, paths[0]]] == [0, 0, 1, 0]
    assert len(embedder.images) == 2


def test_photographs_stand_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held a quarter turn to the left
    assert embedded(Embedder(512), saved(tmp_path / "a.jpg", noise(20, 10), exif=turned)).shape == (20, 10, 3)


def test_the_noisiest_picture_of_64_pixels_leaves_500_of_them_below_15_megabytes(tmp_path: Path) -> None:
    embedder = Embedder(512)
    embedder.add(saved(tmp_path / "a.png", noise(64, 64)))
    assert 500 * len(embedder.images[0]["source"]) < 15e6
