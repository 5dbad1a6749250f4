"""8-bit pixels and PNG files, against Pillow on its own and against files broken at random."""

from __future__ import annotations

import contextlib
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rewards.eight_bit import from_eight_bit, png_size, read_png, to_eight_bit, write_png

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
PNG = write_png(PIXELS)


def saved(mode: str, form: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, form)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def claiming(width: int, height: int, depth: int = 8, colours: int = 2) -> bytes:
    """A PNG with an honest checksum and next to no pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_every_level_there_and_back_rounded_to_the_nearest() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = from_eight_bit(levels)
    torch.testing.assert_close(images[0, 0].flatten(), torch.arange(256) / 255, rtol=0, atol=0)
    assert (to_eight_bit(images) == levels).all()
    values = torch.tensor([-5e-4, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 1.0005])
    for dtype in (torch.float32, torch.float64):
        assert to_eight_bit(values.to(dtype).expand(1, 3, 1, 6))[0, 0, :, 1].tolist() == [0, 0, 1, 254, 255, 255]


def test_a_png_is_lossless_and_its_size_known_without_unpacking() -> None:
    assert (np.array(Image.open(BytesIO(PNG))) == PIXELS).all()
    assert all((read_png(file) == PIXELS).all() for file in (PNG, saved("RGB")))
    assert png_size(PNG) == (5, 7)
    assert png_size(claiming(2**31 - 1, 2**31 - 1)) == (2**31 - 1, 2**31 - 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no PNG file"),
        (PNG[:20], "is no PNG file"),
        (saved("RGB", "JPEG"), "is no PNG file"),
        (saved("RGB", "GIF"), "is no PNG file"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a\0b") + PNG[8:], "is no PNG file"),
        (saved("L"), "bit depth 8 and colour type 0, not of 8-bit RGB"),
        (saved("RGBA"), "colour type 6"),
        (saved("P"), "colour type 3"),
        (claiming(4, 4, depth=16), "bit depth 16"),
        (claiming(0, 4), "a PNG of 4x0 pixels"),
        (claiming(4, 4), "broken PNG"),
        (PNG[:-30], "broken PNG"),
        (PNG[:40], "broken PNG"),
        (PNG.replace(b"IDAT", b"IDAX"), "broken PNG"),
    ],
)
def test_other_files_are_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_png(content)


@settings(max_examples=50, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(26, len(PNG) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_files_broken_at_random_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    broken = bytearray(PNG)
    for index, byte in changes:
        broken[index] = byte
    with contextlib.suppress(ValueError):
        assert read_png(bytes(broken)).shape == PIXELS.shape
