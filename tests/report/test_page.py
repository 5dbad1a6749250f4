"""Pages: no text in the data can leave its place, nothing is loaded, and pictures are kept as they should be."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srsoup_lightning.report.page import ASSETS, EXACT_SIDE, Embedder, as_script_data, render

HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>\u2028\u2029\"'`${1}&lt;]]>\0\x7f\ud800"
EMPTY = {"rewards": [], "axes": [], "runs": [], "prompts": [], "images": [], "crisp": True}


class Elements(HTMLParser):
    """Start tags in order, and the texts within each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.inside = ""
        self.texts: dict[str, list[str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.inside, []).append(data)


def policy(page: str) -> str:
    (found,) = [at["content"] for tag, at in Elements(page).tags if at.get("http-equiv") == "Content-Security-Policy"]
    return found


@settings(max_examples=50)
@given(st.lists(st.text(max_size=9) | st.sampled_from([HOSTILE, "<!--", "</SCRIPT "]), max_size=3))
def test_data_is_ascii_without_a_less_than_and_says_the_same(value: list[str]) -> None:
    written = as_script_data({"value": value})
    assert json.loads(written) == {"value": value}
    assert "<" not in written
    assert written.isascii()


def test_a_number_that_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_script_data({"value": float("nan")})


def test_a_hostile_prompt_adds_no_element() -> None:
    prompts = [{"text": HOSTILE, "pictures": []}]
    harmless, hostile = (Elements(render("x", EMPTY | {"prompts": given})) for given in ([], prompts))
    assert hostile.tags == harmless.tags
    assert json.loads(hostile.texts["script"][0])["prompts"] == prompts


def test_a_hostile_title_stays_text() -> None:
    title = "</title><script>alert(1)</script> & $data"
    page = Elements(render(title, EMPTY))
    assert page.tags == Elements(render("x", EMPTY)).tags
    assert "".join(page.texts["title"]) == title


def test_the_policy_names_exactly_the_style_and_the_script_that_are_there() -> None:
    page = render("x", EMPTY)
    texts = Elements(page).texts
    hashes = {
        tag: base64.b64encode(hashlib.sha256(texts[tag][-1].encode()).digest()).decode() for tag in ("style", "script")
    }
    assert policy(page) == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; base-uri 'none'; form-action 'none'"
    )


def test_the_page_points_nowhere() -> None:
    page = render("x", EMPTY)
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, never loaded
    assert not any({"src", "href", "style"} & set(attributes) for _, attributes in Elements(page).tags)
    assert not any(name.startswith("on") for _, attributes in Elements(page).tags for name in attributes)


@pytest.mark.parametrize("name", ["gallery.css", "gallery.html", "gallery.js"])
def test_the_parts_can_stand_in_the_page_as_they_are(name: str) -> None:
    text = (ASSETS / name).read_bytes().decode()
    assert "\r" not in text  # browsers would hash another text
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|setTimeout", text)
    if name != "gallery.html":
        assert not re.search(r"</(script|style)|<!--", text, re.IGNORECASE)


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
