"""The page as its readers have it: dragged, keyed, small, dark, read aloud, and with hostile prompts."""

from __future__ import annotations

import json
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
from tests.report.runs import change_first_row, write_elsewhere, write_run
from tests.report.test_page import HOSTILE

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not (BROWSER and DRIVER), reason=MISSING)]

HOSTILE_MARKUP = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'><!--"
CONTRAST = """
const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
  .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
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
        "three": [three],
        "four": [four],
        "hostile": [f"<b>&={hostile}"],
        "elsewhere": [write_elsewhere(root / "in" / "alone.jsonl")],
    }
    return {name: write_gallery(names, str(root / f"{name}.html")) for name, names in runs.items()}


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def browser(chrome: Chrome) -> Iterator[Chrome]:
    """The browser at a desktop's size; nothing that a test does may be complained about in its console."""
    resize(chrome, 1200, 900)
    prefer(chrome, color_scheme="light")
    chrome.get_log("browser")
    yield chrome
    assert chrome.get_log("browser") == []


def find(browser: Chrome, selector: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, selector)


def texts(browser: Chrome, selector: str) -> list[str]:
    """Texts of elements, with plain spaces."""
    return [element.text.replace("\xa0", " ") for element in browser.find_elements(By.CSS_SELECTOR, selector)]


def made_for(browser: Chrome) -> list[str]:
    return [text.removeprefix("made for ") for text in texts(browser, ".made-for")]


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def focus(browser: Chrome, selector: str) -> None:
    browser.execute_script("arguments[0].focus()", find(browser, selector))


def drag(browser: Chrome, element: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag from one place to another, both in shares of the element's box."""
    width, height = element.size["width"], element.size["height"]
    (x, y), (across, down) = (((right - 0.5) * width, (low - 0.5) * height) for right, low in (start, end))
    chain = ActionChains(browser, duration=20).move_to_element_with_offset(element, int(x), int(y)).click_and_hold()
    chain.move_by_offset(int(across - x), int(down - y)).release().perform()


def test_each_run_shows_the_picture_nearest_to_the_slider(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    assert made_for(browser) == ["red 0.5, blue 0.5", "red 0.5, blue 0.5"]
    slider = find(browser, "input[type=range]")
    drag(browser, slider, (0.5, 0.5), (0.78, 0.5))
    assert made_for(browser) == ["red 0.25, blue 0.75", "red 0, blue 1"]
    assert texts(browser, ".card:nth-child(1) dd:not(.bar, .failed)") == ["2.500", "7.500"]
    assert find(browser, ".card:nth-child(1) .frame img.current").get_attribute("alt").replace("\xa0", " ") == (
        "a cat, for red 0.25, blue 0.75, by fine, seed 0. Scores: red 2.500, blue 7.500"
    )
    drag(browser, slider, (0.78, 0.5), (0.01, 0.5))
    assert made_for(browser) == ["red 1, blue 0", "red 1, blue 0"]
    assert slider.get_attribute("aria-valuetext").replace("\xa0", " ") == "red 1, blue 0"


def test_the_picture_in_view_is_the_one_of_the_file(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    press(browser, Keys.ARROW_RIGHT)
    seen = browser.execute_script(
        "const image = document.querySelector('.frame img.current'), canvas = document.createElement('canvas');"
        "[canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];"
        "const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
        "return [...context.getImageData(0, 0, canvas.width, canvas.height).data]"
    )
    (path,) = (pages["two"].parent / "fine" / "samples").glob("a-cat-*/0/red0.25-blue0.75.png")
    with Image.open(path) as picture:
        assert seen == [level for pixel in picture.convert("RGBA").getdata() for level in pixel]


def test_arrows_go_along_the_front_and_between_prompts_and_seeds(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    press(browser, Keys.ARROW_RIGHT)
    assert made_for(browser)[0] == "red 0.25, blue 0.75"
    assert browser.execute_script("return document.getElementById('status').textContent.includes('0.75')")
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert made_for(browser)[0] == "red 0, blue 1"
    focus(browser, "input[type=range]")
    press(browser, Keys.ARROW_LEFT)
    assert made_for(browser)[0] == "red 0.25, blue 0.75"
    press(browser, Keys.ARROW_DOWN)
    assert texts(browser, "h2") == ["a dog"]
    assert made_for(browser) == ["red 0.25, blue 0.75"]
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_DOWN).key_up(Keys.SHIFT).perform()
    assert find(browser, "#seed-select").get_attribute("value") == "1"
    press(browser, Keys.ARROW_UP, Keys.ARROW_UP)
    assert texts(browser, "h2") == ["a cat"]
    assert find(browser, "#seed-select").get_attribute("value") == "1"


def test_a_focused_choice_keeps_its_arrows(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    focus(browser, "#seed-select")
    press(browser, Keys.ARROW_DOWN)
    assert texts(browser, "h2") == ["a cat"]


def test_prompts_seeds_and_methods_can_be_chosen(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    Select(find(browser, "#seed-select")).select_by_visible_text("1")
    assert made_for(browser) == ["red 0.5, blue 0.5"]
    assert texts(browser, ".none") == ["No picture of this prompt with this seed"]
    Select(find(browser, "#prompt-select")).select_by_visible_text("a dog")
    assert "a dog" in find(browser, ".frame img.current").get_attribute("alt")
    assert len(texts(browser, ".none")) == 2
    Select(find(browser, "#prompt-select")).select_by_visible_text("a cat")
    Select(find(browser, "#seed-select")).select_by_visible_text("0")
    assert len(texts(browser, "#plot .point")) == 5 + 3 + 1
    find(browser, "#methods li:nth-child(1) input").click()
    assert texts(browser, "h3") == ["coarse", "elsewhere"]
    assert len(texts(browser, "#plot .point")) == 3 + 1
    assert (
        texts(browser, "#methods p")[0] == "Per soup: 200 queries (100 red, 100 blue) · 40 network evaluations · 1.5 s"
    )
    assert texts(browser, "#methods p")[1].endswith("· 1.5 s · 4 hits · 1 failure")
    assert texts(browser, "#methods p")[2] == "cost unknown"


def test_a_failed_reward_is_told(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    assert texts(browser, ".failed") == ["", ""]
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert texts(browser, ".failed") == ["", "No score from blue: the worst of its soup stands."]


def test_pictures_of_all_sizes_fit_in_one_frame(browser: Chrome, pages: dict[str, Path]) -> None:
    """The prompt has pictures of 8 x 8 and of 12 x 6 pixels: frames are 12 x 8 whichever is in view."""
    show(browser, pages["two"])
    for _ in range(2):
        size = find(browser, ".frame").size
        assert size["width"] / size["height"] == pytest.approx(12 / 8, abs=0.02)
        press(browser, Keys.ARROW_RIGHT)


def test_points_and_thumbnails_lead_to_their_pictures(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    ActionChains(browser).click(browser.find_elements(By.CSS_SELECTOR, "#plot .run-0.point")[0]).perform()
    assert made_for(browser)[0] == "red 1, blue 0"
    marked = browser.execute_script(
        "return [...document.querySelectorAll('#plot .current title')].map((title) => title.textContent)"
    )
    assert len(marked) == 2
    assert all("red\xa01, blue\xa00" in title for title in marked)
    browser.find_elements(By.CSS_SELECTOR, ".strip img")[4].click()
    assert made_for(browser)[0] == "red 0, blue 1"


def test_pictures_without_a_preference_are_tiles_and_hollow_points(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["elsewhere"])
    assert texts(browser, ".loose figcaption") == ["red 2.500, blue 3.500"]
    assert not find(browser, "#preference").is_displayed()
    assert len(texts(browser, "#plot .loose-point")) == 1
    box = find(browser, ".loose img").size
    assert box["width"] - 2 == pytest.approx(2 * (box["height"] - 2), abs=2)  # 12 x 6 pixels, in a border of 1


CORNERS = {"red 1, green 0, blue 0": (0.5, 0.08), "red 0, green 1, blue 0": (0.97, 0.93)}


@pytest.mark.parametrize(("preference", "corner"), CORNERS.items())
def test_the_triangle_can_be_dragged(
    browser: Chrome, pages: dict[str, Path], preference: str, corner: tuple[float, float]
) -> None:
    show(browser, pages["three"])
    drag(browser, find(browser, ".triangle"), (0.5, 0.6), corner)
    assert made_for(browser) == [preference]
    inputs = [
        float(element.get_attribute("value")) for element in browser.find_elements(By.CSS_SELECTOR, "input")[-4:-1]
    ]
    assert sum(inputs) == pytest.approx(1, abs=0.02)


def test_a_finger_drags_in_the_triangle_without_scrolling(browser: Chrome, pages: dict[str, Path]) -> None:
    resize(browser, 360, 700, touch=True)
    show(browser, pages["three"])
    box = find(browser, ".triangle").rect
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    scrolled = "return scrollY"
    y -= browser.execute_script(scrolled)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        ("touchMove", [{"x": x, "y": y - 10}]),
        ("touchMove", [{"x": x, "y": y - box["height"] / 2}]),
        ("touchEnd", []),
    ):
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert made_for(browser) == ["red 1, green 0, blue 0"]
    assert browser.execute_script(scrolled) == 0


def test_weights_of_more_rewards_keep_their_proportions(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["four"])
    sliders = browser.find_elements(By.CSS_SELECTOR, ".weights input")
    browser.execute_script("arguments[0].value = 0.4; arguments[0].dispatchEvent(new Event('input'))", sliders[1])
    assert texts(browser, ".weights output") == ["0.2", "0.4", "0.2", "0.2"]
    focus(browser, ".weights input")
    press(browser, Keys.END)
    assert made_for(browser) == ["red 1, green 0, blue 0, grey 0"]
    press(browser, Keys.HOME)
    assert texts(browser, ".weights output") == ["0", "0.33", "0.33", "0.33"]


def test_hostile_texts_stay_texts(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["hostile"])
    assert texts(browser, "h2") == [HOSTILE_MARKUP]
    assert "onerror" in find(browser, ".frame img.current").get_attribute("alt")
    assert texts(browser, "#methods label") == ["<b>&"]
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert "alert(1)" in texts(browser, "h2")[0]
    assert browser.execute_script("return [typeof broken, document.scripts.length]") == ["undefined", 2]


def test_the_policy_stops_what_would_get_in(chrome: Chrome, pages: dict[str, Path]) -> None:
    show(chrome, pages["hostile"])
    chrome.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.broken = 1';"
        "const image = new Image(); image.src = 'http://127.0.0.1:9/'; document.body.append(script, image);"
        "document.body.setAttribute('onclick', 'window.broken = 1'); document.body.click();"
    )
    assert chrome.execute_script("return typeof broken") == "undefined"
    messages = [entry["message"] for entry in chrome.get_log("browser")]
    assert sum("Content Security Policy" in message for message in messages) == 3


def test_nothing_is_asked_of_the_network(browser: Chrome, pages: dict[str, Path]) -> None:
    browser.get_log("performance")
    for page in pages.values():
        show(browser, page)
        press(browser, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = {
        event["params"]["request"]["url"].split(":")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert requested == {"file", "data"}


@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.parametrize("name", ["two", "three", "four", "hostile", "elsewhere"])
def test_a_phone_scrolls_in_one_direction_only(browser: Chrome, pages: dict[str, Path], name: str, width: int) -> None:
    resize(browser, width, 700, scale=2, touch=True)
    show(browser, pages[name])
    assert browser.execute_script("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("name", ["two", "three", "hostile", "elsewhere"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_stand_out(browser: Chrome, pages: dict[str, Path], name: str, scheme: str) -> None:
    prefer(browser, color_scheme=scheme)
    show(browser, pages[name])
    found = dict(browser.execute_script(CONTRAST))
    assert len(found) > 8
    assert {text: contrast for text, contrast in found.items() if contrast < 4.5} == {}


def test_light_and_dark_follow_the_reader(browser: Chrome, pages: dict[str, Path]) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    seen = []
    for scheme in ("light", "dark"):
        prefer(browser, color_scheme=scheme)
        show(browser, pages["two"])
        seen.append(browser.execute_script(background))
    find(browser, "#theme").click()
    assert browser.execute_script(background) == seen[0] != seen[1]


def test_motion_can_be_turned_off(browser: Chrome, pages: dict[str, Path]) -> None:
    duration = "return getComputedStyle(document.querySelector('.bar span')).transitionDuration"
    show(browser, pages["two"])
    assert browser.execute_script(duration) != "0s"
    prefer(browser, reduced_motion="reduce")
    show(browser, pages["two"])
    assert browser.execute_script(duration) == "0s"


def test_crisp_pixels_can_be_turned_off(browser: Chrome, pages: dict[str, Path]) -> None:
    rendering = "return getComputedStyle(document.querySelector('.frame img')).imageRendering"
    show(browser, pages["two"])
    assert browser.execute_script(rendering) == "pixelated"
    find(browser, "#crisp").click()
    assert browser.execute_script(rendering) == "auto"


def spoken(browser: Chrome) -> list[tuple[str, str, str]]:
    """Role, name and value of what a screen reader meets, without the blanks around them, which browsers differ in."""
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        tuple(str(node.get(key, {}).get("value", "")).replace("\xa0", " ").strip() for key in ("role", "name", "value"))
        for node in nodes
        if not node["ignored"]
    ]


def test_a_screen_reader_finds_its_way(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    tree = spoken(browser)
    found = {(role, name) for role, name, _ in tree}
    assert {("banner", ""), ("main", ""), ("contentinfo", ""), ("complementary", "Scores")} <= found
    assert {("heading", "a cat"), ("heading", "fine"), ("region", "Preference"), ("region", "Pictures")} <= found
    assert {("combobox", "Prompt"), ("combobox", "Seed"), ("checkbox", "fine"), ("button", "Dark mode")} <= found
    assert ("slider", "Preference from red to blue") in found
    assert {name for role, name, _ in tree if role == "image"} == {  # other preferences and thumbnails say nothing
        "a cat, for red 0.5, blue 0.5, by fine, seed 0. Scores: red 5.000, blue 5.000",
        "a cat, for red 0.5, blue 0.5, by coarse, seed 0. Scores: red 5.000, blue 5.000",
        "a cat, without a preference, by elsewhere, seed 0. Scores: red 2.500, blue 3.500",
        "Scores of this prompt's pictures: red from 0.000 to 10.00; blue from 0.000 to 10.00",
    }


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Chrome, pages: dict[str, Path]) -> None:
    show(browser, pages["two"])
    seen = []
    for _ in range(8):
        press(browser, Keys.TAB)
        element = browser.switch_to.active_element
        assert element.value_of_css_property("outline-style") == "solid"
        seen.append(element.get_attribute("id") or element.get_attribute("type"))
    assert seen == ["theme", *["checkbox"] * 3, "prompt-select", "seed-select", "range", "crisp"]
