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

from srsoup_lightning.report.page import ASSETS, Embedder, as_script_data, render
from srsoup_lightning.runs.data_uris import EXACT_SIDE

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


@settings(max_examples=50)
@given(st.lists(st.text(max_size=9) | st.sampled_from([HOSTILE, "<!--", "</SCRIPT "]), max_size=3))
def test_data_is_ascii_without_a_less_than_and_says_the_same(value: list[str]) -> None:
    written = as_script_data({"value": value})
    assert json.loads(written) == {"value": value}
    assert "<" not in written
    assert written.isascii()


def test_a_hostile_prompt_adds_no_element_a_title_stays_text_and_no_nan_is_written() -> None:
    prompts, harmless = [{"text": HOSTILE, "pictures": []}], Elements(render("x", EMPTY))
    hostile = Elements(render("x", EMPTY | {"prompts": prompts}))
    assert hostile.tags == harmless.tags
    assert json.loads(hostile.texts["script"][0])["prompts"] == prompts
    title = "</title><script>alert(1)</script> & $data"
    page = Elements(render(title, EMPTY))
    assert page.tags == harmless.tags
    assert "".join(page.texts["title"]) == title
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_script_data({"value": float("nan")})


def test_the_policy_names_exactly_the_style_and_the_script_that_are_there_and_the_page_points_nowhere() -> None:
    elements = Elements(page := render("x", EMPTY))
    style, script = (
        base64.b64encode(hashlib.sha256(elements.texts[tag][-1].encode()).digest()).decode()
        for tag in ("style", "script")
    )
    assert [at["content"] for _, at in elements.tags if at.get("http-equiv") == "Content-Security-Policy"] == [
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    ]
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, never loaded
    for _, attributes in elements.tags:
        assert not {"src", "href", "style"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)


@pytest.mark.parametrize("name", ["gallery.css", "gallery.html", "gallery.js"])
def test_the_assets_can_stand_in_the_page_as_they_are(name: str) -> None:
    text = (ASSETS / name).read_bytes().decode()
    assert "\r" not in text  # browsers would hash another text
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|setTimeout", text)
    if name != "gallery.html":
        assert not re.search(r"</(script|style)|<!--", text, re.IGNORECASE)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def embedded(path: Path, max_side: int = 512) -> tuple[np.ndarray, Embedder]:
    """The pixels that a browser would see, and the embedder."""
    embedder = Embedder(max_side)
    image = embedder.images[embedder.add(path)]
    kind, encoded = image["source"].split(",")
    assert kind == "data:image/webp;base64"
    with Image.open(BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.size == (image["width"], image["height"])
        return np.asarray(picture), embedder


def test_small_pictures_keep_every_pixel(tmp_path: Path) -> None:
    pixels = noise(EXACT_SIDE, 31)
    seen, embedder = embedded(saved(tmp_path / "a.png", pixels))
    assert (seen == pixels).all()
    assert embedder.exact


def test_large_pictures_are_compressed_and_look_alike(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, EXACT_SIDE + 1, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 128), 2).astype(np.uint8)
    seen, embedder = embedded(saved(tmp_path / "a.png", pixels))
    assert 0 < np.abs(seen.astype(float) - pixels).mean() < 3
    assert not embedder.exact


def test_pictures_stand_upright_and_are_made_smaller_in_proportion_but_never_larger(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held a quarter turn to the left
    for name, size, options, shape in (
        ("a.png", (300, 150), {}, (50, 100, 3)),
        ("b.png", (20, 10), {}, (10, 20, 3)),
        ("c.jpg", (20, 10), {"exif": turned}, (20, 10, 3)),
    ):
        assert embedded(saved(tmp_path / name, noise(*size), **options), 100)[0].shape == shape


def test_a_picture_is_kept_once(tmp_path: Path) -> None:
    embedder = Embedder(512)
    paths = [saved(tmp_path / f"{name}.png", noise(8 + (name == "c"), 8)) for name in "abc"]
    assert [embedder.add(path) for path in [*paths, paths[0]]] == [0, 0, 1, 0]
    assert len(embedder.images) == 2


def test_the_noisiest_picture_of_64_pixels_leaves_500_of_them_below_15_megabytes(tmp_path: Path) -> None:
    assert 500 * len(embedded(saved(tmp_path / "a.png", noise(64, 64)))[1].images[0]["source"]) < 15e6
