"""How large the gallery's page is and how fast it answers: ``python -m benchmarks.gallery measure``.

500 pictures of 64 pixels: two runs of 25 preferences, 5 prompts and 2 seeds. They are noise, which no format makes
smaller, so no page of as many pictures is larger. A move of the slider is timed in headless Chromium from its event
until the frame is handed over for drawing: script, style, layout and paint. The page's thread's share of the processor
is told too, which doesn't depend on what else the machine does. ``python -m benchmarks.gallery screenshot``
makes the picture in docs/gallery.md, of what ``srsoup predict --config`` made of ``animals`` and ``animals_fast``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median, quantiles

from jsonargparse import auto_cli
from rich.console import Console
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from benchmarks.browser import open_browser, prefer, resize, show
from benchmarks.machine import describe
from benchmarks.noise import write_noise
from srsoup_lightning import Preferences
from srsoup_lightning.report.gallery import write_gallery

RUNS, PREFERENCES, PROMPTS, SEEDS, SIDE = 2, 25, 5, 2, 64
MOVES = 200
# A message posted in an animation frame arrives when that frame has been painted.
TIME_MOVES = """
const [moves, done] = arguments, slider = document.querySelector("input[type=range]"), times = [];
const channel = new MessageChannel();
let start;
channel.port1.onmessage = () => {
  times.push(performance.now() - start);
  if (times.length < moves) requestAnimationFrame(move); else done(times);
};
const move = () => {
  start = performance.now();
  slider.value = Math.abs(((times.length * 7) % 200) / 100 - 1);
  slider.dispatchEvent(new Event("input"));
  channel.port2.postMessage(null);
};
requestAnimationFrame(move);
"""
TIME_PROMPTS = """
const choice = document.getElementById("prompt-select");
return [...choice.options].map((_, place) => {
  const start = performance.now();
  choice.selectedIndex = place;
  choice.dispatchEvent(new Event("change"));
  document.body.getBoundingClientRect();
  return performance.now() - start;
});
"""


def measure(out: Path = Path("benchmarks/results/gallery.json")) -> None:
    """Measure a page of 500 pictures.

    Args:
        out: Where the results go.
    """
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        page = write_gallery(
            [_noise(Path(folder) / f"run {number}", number) for number in range(RUNS)], f"{folder}/page.html"
        )
        resize(browser, 1280, 900)
        show(browser, page)
        browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        before = _processor_seconds(browser)
        moves = browser.execute_async_script(TIME_MOVES, MOVES)
        processor = _processor_seconds(browser) - before
        prompts = browser.execute_script(TIME_PROMPTS)
        results = {
            "machine": f"{describe()}, Chromium {browser.capabilities['browserVersion']}, headless, no GPU",
            "pictures": RUNS * PREFERENCES * PROMPTS * SEEDS,
            "megabytes": page.stat().st_size / 1e6,
            "milliseconds": {
                "slider, median": median(moves),
                "slider, 95 %": quantiles(moves, n=20)[-1],
                "slider, worst": max(moves),
                "slider, processor, mean": 1_000 * processor / MOVES,
                "prompt, median": median(prompts),
            },
        }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    Console().print_json(data=results)


def screenshot(
    runs: tuple[str, ...] = ("SRSoup=runs/animals", "Fast=runs/animals_fast"),
    prompt: str = "a hippopotamus",
    out: Path = Path("docs/images/gallery.png"),
) -> None:
    """Make a picture of the page.

    Args:
        runs: Runs on the page, see :func:`srsoup_lightning.report.gallery.write_gallery`.
        prompt: The prompt in view.
        out: The PNG file.
    """
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        prefer(browser, color_scheme="light")
        resize(browser, 1120, 830)
        show(browser, write_gallery(runs, f"{folder}/page.html"))
        Select(browser.find_element(By.ID, "prompt-select")).select_by_visible_text(prompt)
        browser.save_screenshot(str(out))


def _processor_seconds(browser: Chrome) -> float:
    """What the thread that runs the page has taken so far, once Performance is enabled."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def _noise(root: Path, number: int) -> str:
    preferences, prompts = (
        Preferences.lattice(["red", "blue"], PREFERENCES - 1),
        [f"prompt {n}" for n in range(PROMPTS)],
    )
    return write_noise(root, preferences, prompts, SEEDS, SIDE, number)


if __name__ == "__main__":
    auto_cli([measure, screenshot])
