"""A picture is the same image whatever the kind of its file, for scores, references and reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rewards import Brightness
from rewards.metric_reward import _image
from rewards.pictures import MOST_PIXELS, as_rgb, load_image, open_picture, picture_size
from srsoup_lightning.report.page import Embedder

RAMP = np.tile(np.arange(256, dtype=np.uint8), (32, 1))  # black to white


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def kinds(folder: Path) -> dict[str, Path]:
    """Files of the same ramp, in every kind that can hold it exactly."""
    grey, sixteen = Image.fromarray(RAMP), Image.fromarray(RAMP.astype(np.uint16) * 257)
    clear = Image.fromarray(np.stack([np.zeros_like(RAMP), 255 - RAMP], -1), "LA")  # black that lets white through
    turned = Image.fromarray(RAMP.T[:, ::-1].copy())
    exif = Image.Exif()
    exif[0x0112] = 7  # transposed along the other diagonal
    return {
        "grey": save(folder / "grey.png", grey),
        "rgb": save(folder / "rgb.webp", grey.convert("RGB"), lossless=True),
        "16 bits": save(folder / "sixteen.png", sixteen),
        "16 bits, TIFF": save(folder / "sixteen.tif", sixteen),
        "16 bits, big endian": save(folder / "big.tif", Image.fromarray(RAMP.astype(">u2") * 257)),
        "floats": save(folder / "floats.tif", Image.fromarray(RAMP.astype(np.float32) / 255)),
        "palette": save(folder / "palette.gif", grey),
        "alpha": save(folder / "alpha.png", clear),
        "turned": save(folder / "turned.png", turned.transpose(Image.Transpose.ROTATE_180), exif=exif),
    }


def test_the_same_picture_in_files_of_any_kind_is_the_same_image(tmp_path: Path) -> None:
    expected = torch.from_numpy(RAMP).float().div(255).expand(3, -1, -1)
    for kind, path in kinds(tmp_path).items():
        assert picture_size(path) == (256, 32), kind
        image = load_image(path)
        torch.testing.assert_close(image, expected, atol=1e-6, rtol=0, msg=lambda text, kind=kind: f"{kind}: {text}")
        assert torch.equal(_image(path), image)
        assert Brightness().score(image[None], [""]).item() == pytest.approx(0.5)
    embedder = Embedder(256)
    assert {embedder.add(path) for path in kinds(tmp_path).values()} == {0}


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4), 2.0, np.float32), "has floats from 2 to 2"),
        (np.full((4, 4), np.nan, np.float32), "has floats from nan"),
        (np.full((4, 4), 1 << 20, np.int32), "has whole numbers of more than 16 bits"),
    ],
)
def test_pixels_without_a_known_white_are_refused(tmp_path: Path, pixels: np.ndarray, message: str) -> None:
    path = save(tmp_path / "odd.tif", Image.fromarray(pixels))
    with pytest.raises(ValueError, match=rf"odd\.tif {message}"):
        load_image(path)


def test_transparency_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    path = save(tmp_path / "clear.png", Image.fromarray(np.array([[0, 512]], np.uint16)), transparency=512)
    with open_picture(path) as picture:
        assert np.asarray(as_rgb(picture))[..., 0].tolist() == [[0, 255]]


def test_a_large_picture_is_refused_by_its_header(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5)
    for width, fits in ((side, True), (side + 1, False)):
        path = save(tmp_path / f"{fits}.png", Image.new("1", (width, side)))
        if fits:
            assert picture_size(path) == (side, side)
        else:
            with pytest.raises(ValueError, match=r"False\.png has more than 16\.8 megapixels"):
                picture_size(path)
