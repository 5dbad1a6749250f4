"""No text in the data can leave its place, and the page allows itself nothing but what it has."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.report.page import ASSETS, as_script_data, render

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
