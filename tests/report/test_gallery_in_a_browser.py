"""The page as its readers have it: dragged, keyed, small, dark, read aloud, and with hostile prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from benchmarks.browser import BROWSER, DRIVER, MISSING, open_browser, prefer, resize, show
from srsoup_lightning.report.gallery import write_gallery
from srsoup_lightning.runs.reading import read_run
from tests.report.runs import change_first_row, write_elsewhere, write_run
from tests.report.test_page import HOSTILE

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not (BROWSER and DRIVER), reason=MISSING)]

HOSTILE_MARKUP = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'><!--"
CONTRAST = """
const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
  .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const behind = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  return colour === "rgba(0, 0, 0, 0)" && element.parentElement ? behind(element.parentElement) : colour;
};
const words = [...document.body.querySelectorAll("*")].filter((element) => !element.closest("script, noscript, title")
  && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && element.checkVisibility());
return words.map((element) => {
  const style = getComputedStyle(element);
  const ink = luminance(element.closest("svg") ? style.fill : style.color), paper = luminance(behind(element));
  return [element.textContent, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)];
});
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    fine = write_run(root / "fine", divisions=4, prompts=["a cat", "a dog"], seeds=[0, 1])
    coarse = write_run(root / "coarse", divisions=2, prompts=["a cat"], seeds=[0])
    change_first_row(Path(coarse) / "ledger.jsonl", hits={"red": 4}, failures={"blue": 1})
    change_first_row(Path(coarse) / "samples.jsonl", failed=["blue"])
    three, four = (write_run(root / str(size), ["red", "green", "blue", "grey"][:size], 2) for size in (3, 4))
    hostile = write_run(root / "hostile", divisions=1, prompts=[HOSTILE_MARKUP, HOSTILE.removesuffix("\ud800")])
    runs = {
        "two": [fine, coarse, write_elsewhere(root / "in" / "elsewhere.jsonl")],
        "one": [fine],
        "three": [three],
        "four": [four],
        "hostile": [f"<b>&={hostile}"],
        "elsewhere": [write_elsewhere(root / "in" / "alone.jsonl")],
        "four methods": [f"{name}={coarse}" for name in "abcd"],
    }
    return {name: write_gallery(names, str(root / f"{name}.html")) for name, names in runs.items()}


class Reader:
    """A reader of the pages, with a browser."""

    def __init__(self, browser: Chrome, pages: dict[str, Path]) -> None:
        self.browser, self.pages, self.run = browser, pages, browser.execute_script

    def show(self, name: str) -> None:
        show(self.browser, self.pages[name])

    def find(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Texts of elements, with plain spaces."""
        return [element.text.replace("\xa0", " ") for element in self.find_all(selector)]

    def attribute(self, selector: str, name: str) -> str:
        return self.find(selector).get_attribute(name).replace("\xa0", " ")

    def style(self, selector: str, name: str) -> str:
        return self.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)

    @property
    def made_for(self) -> list[str]:
        return [text.removeprefix("made for ") for text in self.texts(".made-for")]

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def focus(self, selector: str) -> None:
        self.run("arguments[0].focus()", self.find(selector))

    def choose(self, selector: str, text: str) -> None:
        Select(self.find(selector)).select_by_visible_text(text)

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one point to another, both in shares of the element's box."""
        element = self.find(selector)
        width, height = element.size["width"], element.size["height"]
        (x, y), (across, down) = (((right - 0.5) * width, (low - 0.5) * height) for right, low in (start, end))
        chain = ActionChains(self.browser, duration=20).move_to_element_with_offset(element, int(x), int(y))
        chain.click_and_hold().move_by_offset(int(across - x), int(down - y)).release().perform()

    def spoken(self) -> list[tuple[str, str]]:
        """Role and name of nodes that a screen reader meets, without the blanks around them, which browsers vary."""
        deadline, before, found = time.monotonic() + 10, None, self._tree()
        while found != before or len(found) < 10:  # the browser builds the tree a moment after the page
            assert time.monotonic() < deadline
            time.sleep(0.3)
            before, found = found, self._tree()
        return found

    def _tree(self) -> list[tuple[str, str]]:
        nodes = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [
            tuple(str(node.get(key, {}).get("value", "")).replace("\xa0", " ").strip() for key in ("role", "name"))
            for node in nodes
            if not node["ignored"]
        ]


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def reader(chrome: Chrome, pages: dict[str, Path]) -> Iterator[Reader]:
    """The browser at a desktop's size; nothing that a test does may be complained about in its console."""
    resize(chrome, 1200, 900)
    prefer(chrome, color_scheme="light")
    chrome.get_log("browser")
    yield Reader(chrome, pages)
    assert chrome.get_log("browser") == []


def test_the_slider_snaps_to_preferences_and_each_run_shows_the_picture_nearest_to_it(reader: Reader) -> None:
    reader.show("two")
    assert reader.made_for == ["red 0.5, blue 0.5", "red 0.5, blue 0.5"]
    slider = "input[type=range]"
    reader.drag(slider, (0.5, 0.5), (0.68, 0.5))
    assert reader.attribute(slider, "value") == "0.75"
    assert reader.made_for == ["red 0.25, blue 0.75", "red 0.5, blue 0.5"]
    assert reader.texts(".card:nth-child(1) dd:not(.bar, .failed)") == ["2.500", "7.500"]
    assert reader.attribute(".card:nth-child(1) .frame img.current", "alt") == (
        "a cat, for red 0.25, blue 0.75, by fine, seed 0. Scores: red 2.500, blue 7.500"
    )
    reader.drag(slider, (0.75, 0.5), (0.01, 0.5))
    assert reader.made_for == ["red 1, blue 0", "red 1, blue 0"]
    assert reader.attribute(slider, "aria-valuetext") == "red 1, blue 0"
    reader.press(Keys.PAGE_UP)
    assert reader.attribute(slider, "value") == "0.25"


def test_the_picture_in_view_is_the_one_of_the_file(reader: Reader) -> None:
    reader.show("two")
    reader.press(Keys.ARROW_RIGHT)
    seen = reader.run(
        "const image = document.querySelector('.frame img.current'), canvas = document.createElement('canvas');"
        "[canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];"
        "const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
        "return [...context.getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    run = read_run(reader.pages["two"].parent / "fine")
    row = next(row for row in run.images if row.key == ("a cat", 0) and row.preference["red"] == 0.25)
    with Image.open(run.picture(row)) as picture:
        assert seen == [level for pixel in picture.convert("RGBA").getdata() for level in pixel]


def test_arrows_go_along_the_front_and_between_prompts_and_seeds(reader: Reader) -> None:
    reader.show("two")
    reader.press(Keys.ARROW_RIGHT)
    assert reader.made_for[0] == "red 0.25, blue 0.75"
    assert reader.run("return document.getElementById('status').textContent.includes('0.75')")
    reader.press(*[Keys.ARROW_RIGHT] * 3)
    assert reader.made_for[0] == "red 0, blue 1"
    reader.focus("input[type=range]")
    reader.press(Keys.ARROW_LEFT)
    assert reader.made_for[0] == "red 0.25, blue 0.75"
    reader.press(Keys.ARROW_DOWN)
    assert reader.texts("h2") == ["a dog"]
    assert reader.made_for == ["red 0.25, blue 0.75"]
    ActionChains(reader.browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_DOWN).key_up(Keys.SHIFT).perform()
    assert reader.attribute("#seed-select", "value") == "1"
    reader.press(Keys.ARROW_UP, Keys.ARROW_UP)
    assert reader.texts("h2") == ["a cat"]
    assert reader.attribute("#seed-select", "value") == "1"
    reader.focus("#seed-select")  # a focused choice keeps its arrows
    reader.press(Keys.ARROW_DOWN)
    assert reader.texts("h2") == ["a cat"]


def test_prompts_seeds_and_methods_can_be_chosen(reader: Reader) -> None:
    reader.show("two")
    reader.choose("#seed-select", "1")
    assert reader.made_for == ["red 0.5, blue 0.5"]
    assert reader.texts(".none") == ["No picture of this prompt with this seed"]
    reader.choose("#prompt-select", "a dog")
    assert "a dog" in reader.attribute(".frame img.current", "alt")
    assert len(reader.texts(".none")) == 2
    reader.choose("#prompt-select", "a cat")
    reader.choose("#seed-select", "0")
    assert len(reader.texts("#plot .point")) == 5 + 3 + 1
    reader.find("#methods li:nth-child(1) input").click()
    assert reader.texts("h3") == ["coarse", "elsewhere"]
    assert len(reader.texts("#plot .point")) == 3 + 1
    fine, coarse, elsewhere = reader.texts("#methods p")
    assert fine == "Per soup: 200 queries (100 red, 100 blue) · 40 network evaluations · 1.5 s"
    assert coarse.endswith("· 1.5 s · 4 hits · 1 failure")
    assert elsewhere == "cost unknown"


def test_frames_fit_all_pictures_failures_are_told_and_points_and_thumbnails_lead_to_pictures(reader: Reader) -> None:
    """The prompt has pictures of 8 x 8 and of 12 x 6 pixels: frames are 12 x 8 whichever is in view."""
    reader.show("two")
    assert reader.texts(".failed") == ["", ""]
    for key in (Keys.ARROW_RIGHT, *[Keys.ARROW_LEFT] * 3):
        size = reader.find(".frame").size
        assert size["width"] / size["height"] == pytest.approx(12 / 8, abs=0.02)
        reader.press(key)
    assert reader.texts(".failed") == ["", "No score from blue: the worst of its soup stands."]
    reader.press(Keys.ARROW_RIGHT)
    ActionChains(reader.browser).click(reader.find_all("#plot .run-0.point")[0]).perform()
    assert reader.made_for[0] == "red 1, blue 0"
    titles = "return [...document.querySelectorAll('#plot .current title')].map((title) => title.textContent)"
    marked = reader.run(titles)
    assert len(marked) == 2
    assert all("red\xa01, blue\xa00" in title for title in marked)
    reader.find_all(".strip img")[4].click()
    assert reader.made_for[0] == "red 0, blue 1"


def test_a_picture_opens_in_full_size_and_is_saved_with_its_numbers(reader: Reader, tmp_path: Path) -> None:
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    reader.browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    reader.show("two")
    assert not reader.find("#large").is_displayed()
    reader.find(".frame").click()
    reader.press(Keys.ARROW_RIGHT)
    told = ["a cat", "fine, seed 0", "made for red 0.25, blue 0.75", "scores: red 2.500, blue 7.500"]
    assert reader.texts("#large-numbers p") == told
    assert reader.find("#large img").size["height"] > 400
    reader.find("#large-save").click()
    path, deadline = tmp_path / "a-cat-fine-0-0.25-0.75.png", time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run = read_run(reader.pages["two"].parent / "fine")
    row = next(row for row in run.images if row.key == ("a cat", 0) and row.preference["red"] == 0.25)
    with Image.open(path) as saved, Image.open(run.picture(row)) as picture:
        assert saved.width == 512
        assert saved.height > 512 + 4 * 16
        assert saved.convert("RGB").crop((0, 0, 512, 512)).tobytes() == picture.resize((512, 512), 0).tobytes()
    reader.press(Keys.ESCAPE)
    assert not reader.find("#large").is_displayed()


def test_thumbnails_of_three_rewards_stand_as_their_preferences_and_four_methods_side_by_side(reader: Reader) -> None:
    reader.show("three")
    boxes = [element.rect for element in reader.find_all(".strip img")]
    tops = sorted({round(box["y"]) for box in boxes})
    assert [sum(round(box["y"]) == top for box in boxes) for top in tops] == [1, 2, 3]
    blue, both, green = boxes[5]["x"], boxes[4]["x"], boxes[3]["x"]
    assert blue < both < green
    assert both == pytest.approx(boxes[0]["x"], abs=1)  # red alone, at the top
    reader.show("four methods")
    assert len({round(element.rect["y"]) for element in reader.find_all(".card")}) == 1


def test_pictures_without_a_preference_are_tiles_and_hollow_points(reader: Reader) -> None:
    reader.show("elsewhere")
    assert reader.texts(".loose figcaption") == ["red 2.500, blue 3.500"]
    assert not reader.find("#preference").is_displayed()
    assert len(reader.texts("#plot .loose-point")) == 1
    box = reader.find(".loose img").size
    assert box["width"] - 2 == pytest.approx(2 * (box["height"] - 2), abs=2)  # 12 x 6 pixels, in a border of 1


def test_the_triangle_can_be_dragged_by_a_mouse_and_by_a_finger_without_scrolling(reader: Reader) -> None:
    corners = {"red 1, green 0, blue 0": (0.5, 0.08), "red 0, green 1, blue 0": (0.97, 0.93)}
    for preference, corner in corners.items():
        reader.show("three")
        reader.drag(".triangle", (0.5, 0.6), corner)
        assert reader.made_for == [preference]
        weights = [float(element.get_attribute("value")) for element in reader.find_all("input")[-4:-1]]
        assert sum(weights) == pytest.approx(1, abs=0.02)
    resize(reader.browser, 360, 700, touch=True)
    reader.show("three")
    box = reader.find(".triangle").rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 - reader.run("return scrollY")
    for kind, rise in (("Start", 0), ("Move", 10), ("Move", box["height"] / 2), ("End", None)):
        points = [] if rise is None else [{"x": x, "y": y - rise}]
        reader.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    assert reader.made_for == ["red 1, green 0, blue 0"]
    assert reader.run("return scrollY") == 0


def test_weights_of_more_rewards_keep_their_proportions(reader: Reader) -> None:
    reader.show("four")
    slider = reader.find_all(".weights input")[1]
    reader.run("arguments[0].value = 0.4; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert reader.texts(".weights output") == ["0.2", "0.4", "0.2", "0.2"]
    reader.focus(".weights input")
    reader.press(Keys.END)
    assert reader.made_for == ["red 1, green 0, blue 0, grey 0"]
    reader.press(Keys.HOME)
    assert reader.texts(".weights output") == ["0", "0.33", "0.33", "0.33"]


def test_hostile_texts_stay_texts(reader: Reader) -> None:
    reader.show("hostile")
    assert reader.texts("h2") == [HOSTILE_MARKUP]
    assert "onerror" in reader.attribute(".frame img.current", "alt")
    assert reader.texts("#methods label") == ["<b>&"]
    reader.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert "alert(1)" in reader.texts("h2")[0]
    assert reader.run("return [typeof broken, document.scripts.length]") == ["undefined", 2]


def test_the_policy_stops_a_script_that_would_get_in(chrome: Chrome, pages: dict[str, Path]) -> None:
    show(chrome, pages["hostile"])
    chrome.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.broken = 1';"
        "const image = new Image(); image.src = 'http://127.0.0.1:9/'; document.body.append(script, image);"
        "document.body.setAttribute('onclick', 'window.broken = 1'); document.body.click();"
    )
    assert chrome.execute_script("return typeof broken") == "undefined"
    messages = [entry["message"] for entry in chrome.get_log("browser")]
    assert sum("Content Security Policy" in message for message in messages) == 3


def test_nothing_is_asked_of_the_network(reader: Reader) -> None:
    reader.browser.get_log("performance")
    for name in reader.pages:
        reader.show(name)
        reader.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    events = [json.loads(entry["message"])["message"] for entry in reader.browser.get_log("performance")]
    requests = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {request["url"].split(":")[0] for request in requests} == {"file", "data"}


@pytest.mark.parametrize("name", ["two", "three", "four", "hostile", "elsewhere"])
def test_all_words_stand_out_and_a_phone_scrolls_in_one_direction_only(reader: Reader, name: str) -> None:
    for scheme in ("light", "dark"):
        prefer(reader.browser, color_scheme=scheme)
        reader.show(name)
        found = dict(reader.run(CONTRAST))
        assert len(found) > 8
        assert {text: contrast for text, contrast in found.items() if contrast < 4.5} == {}
    for width in (320, 390):
        resize(reader.browser, width, 700, scale=2, touch=True)
        reader.show(name)
        assert reader.run("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("name", ["one", "two", "three", "four"])
def test_names_of_rewards_stay_on_one_line_at_every_width(reader: Reader, name: str) -> None:
    for width in (390, 840, 1000, 1400):
        resize(reader.browser, width, 800)
        reader.show(name)
        lines = reader.run(
            "return [...document.querySelectorAll('.scores dt')]"
            ".map((name) => name.getBoundingClientRect().height / parseFloat(getComputedStyle(name).lineHeight))"
        )
        assert lines
        assert max(lines) < 1.5, width


def test_light_and_dark_motion_and_crispness_follow_the_reader(reader: Reader) -> None:
    seen = []
    for scheme in ("light", "dark"):
        prefer(reader.browser, color_scheme=scheme)
        reader.show("two")
        seen.append(reader.style("body", "backgroundColor"))
    reader.find("#theme").click()
    assert reader.style("body", "backgroundColor") == seen[0] != seen[1]
    assert reader.style(".frame img", "imageRendering") == "pixelated"
    reader.find("#crisp").click()
    assert reader.style(".frame img", "imageRendering") == "auto"
    assert reader.style(".bar span", "transitionDuration") != "0s"
    prefer(reader.browser, reduced_motion="reduce")
    reader.show("two")
    assert reader.style(".bar span", "transitionDuration") == "0s"


def test_a_screen_reader_and_the_keyboard_find_their_way(reader: Reader) -> None:
    reader.show("two")
    tree = reader.spoken()
    assert {("banner", ""), ("main", ""), ("contentinfo", ""), ("complementary", "Scores")} <= set(tree)
    assert {("heading", "a cat"), ("heading", "fine"), ("region", "Preference"), ("region", "Pictures")} <= set(tree)
    assert {("combobox", "Prompt"), ("combobox", "Seed"), ("checkbox", "fine"), ("button", "Dark mode")} <= set(tree)
    assert ("button", "Full size of the picture by fine") in tree
    assert ("slider", "Preference from red to blue") in tree
    assert {name for role, name in tree if role == "image"} == {  # other preferences and thumbnails say nothing
        "a cat, for red 0.5, blue 0.5, by fine, seed 0. Scores: red 5.000, blue 5.000",
        "a cat, for red 0.5, blue 0.5, by coarse, seed 0. Scores: red 5.000, blue 5.000",
        "a cat, without a preference, by elsewhere, seed 0. Scores: red 2.500, blue 3.500",
        "Scores of this prompt's pictures: red from 0.000 to 10.00; blue from 0.000 to 10.00",
    }
    seen = []
    for _ in range(10):
        reader.press(Keys.TAB)
        element = reader.browser.switch_to.active_element
        assert element.value_of_css_property("outline-style") == "solid"
        seen.append(element.get_attribute("id") or element.get_attribute("type"))
    assert seen == ["theme", *["checkbox"] * 3, "prompt-select", "seed-select", "range", *["button"] * 2, "crisp"]
