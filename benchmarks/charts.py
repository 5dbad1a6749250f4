"""What TensorBoard costs a run, and how it looks: ``python -m benchmarks.charts measure``.

The demo's soups are made through a Trainer whose ParetoLogger has a clock around each of its hooks and around its
on_step callback, so that the time it took is a share of the very run it took part in. The first soup is left out,
because it imports and opens files for the others.

``python -m benchmarks.charts runs`` makes the runs of five methods that the pictures in docs/tensorboard.md show.
``python -m benchmarks.charts screenshot`` makes the first picture of them. ``python -m benchmarks.charts screenshot
--tab "custom_scalars&_smoothingWeight=0" --click "Ignore outliers in chart scaling" --out
docs/images/tensorboard_charts.png`` makes the second one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path

import lightning as L
from jsonargparse import auto_cli
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from rich.console import Console
from selenium.webdriver import Chrome
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.browser import open_browser, prefer, resize
from benchmarks.front import COMMON
from benchmarks.machine import describe
from rewards import CLIPScore, JPEGCompressibility
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.callbacks import ParetoLogger, SampleWriter
from srsoup_lightning.data import SoupRequest
from srsoup_lightning.samplers import FixedSoup, OnStep, Soup, SRSoup

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")
COLOURS = 256  # of the picture, which makes it a fraction of its size
PROMPTS = ["a snail", "a lobster", "an octopus"]
SHORT = {"num_inference_steps": 10, "candidates": 6, "sharing.init_args.end": 6}
METHODS = {  # run -> config, and options of its method
    "soup": ("animals", SHORT),
    "auto": ("animals_auto", {"num_inference_steps": 10, "candidates": 4, "surrogate.previews": 8}),
    "best_of_n": ("animals_best_of_n", {"num_inference_steps": 10, "pool": 48}),
    "fk": ("animals_fk", {"num_inference_steps": 10}),
    "demon": ("animals_demon", {"num_inference_steps": 10, "candidates": 6}),
}
# Elements by their text, whichever shadow tree they are in.
FIND = """
const found = [];
const look = (node) => {
  if (node.shadowRoot) look(node.shadowRoot);
  for (const child of node.children ?? []) look(child);
  if (!node.childElementCount && node.textContent.trim().toLowerCase() === arguments[0].toLowerCase()) found.push(node);
};
look(document.body);
return found;
"""


class Clocked(ParetoLogger):
    """A ParetoLogger that adds up the seconds it takes, soup by soup, and those it takes at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.soups: list[float] = [0.0]
        self.end = 0.0

    def on_run_start(self, trainer: L.Trainer, module: SRSoupModule) -> OnStep | None:
        """Open the files, and put a clock around the logging of steps."""
        with self._clock():
            on_step = super().on_run_start(trainer, module)
        return None if on_step is None else partial(self._timed, on_step)

    def on_soup_start(self, request: SoupRequest) -> None:
        """Start a soup's curves."""
        self._timed(super().on_soup_start, request)

    def on_soup_end(self, trainer: L.Trainer, soup: Soup, index: int) -> None:
        """Log a soup."""
        self._timed(super().on_soup_end, trainer, soup, index)
        self.soups.append(0.0)

    def on_run_end(self, trainer: L.Trainer, module: SRSoupModule) -> None:
        """Log the front."""
        start = time.perf_counter()
        super().on_run_end(trainer, module)
        self.end = time.perf_counter() - start

    def _timed(self, call: Callable[..., None], *arguments: object) -> None:
        with self._clock():
            call(*arguments)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.soups[-1] += time.perf_counter() - start


def measure(out: Path = Path("benchmarks/results/charts.json")) -> None:
    """Measure what charts cost the demo.

    Args:
        out: Where the results go.
    """
    rewards = {"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip")}
    sampler = SRSoup(**COMMON, candidates=10, sharing=FixedSoup(0, 8))
    module = SRSoupModule("tiny-animals", rewards, sampler, Preferences.lattice(["jpeg", "clip"], divisions=5))
    clocked = Clocked()
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder, "runs", "demo"))  # whatever lies beside it would be compared
        trainer = L.Trainer(
            logger=TensorBoardLogger(root, "tensorboard", ""),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=root,
            callbacks=[SampleWriter(), clocked],
        )
        soups: list[Soup] = trainer.predict(module, PromptDataModule(PROMPTS, [0]))
        size = sum(file.stat().st_size for file in Path(root, "tensorboard").rglob("events*"))
    of_soups = sum(soup.ledger.seconds for soup in soups[1:])
    results = {
        "machine": describe(),
        "soups": len(soups) - 1,
        "seconds a soup": of_soups / (len(soups) - 1),
        "percent of it for charts": 100 * sum(clocked.soups[1 : len(soups)]) / of_soups,
        "seconds for the first soup, with opening": clocked.soups[0],
        "seconds once, at the end": clocked.end,
        "kilobytes of event files": size / 1e3,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    Console().print_json(data=results)


def runs(folder: Path = Path("runs/charts")) -> None:
    """Make short runs of five methods, one after the other.

    Args:
        folder: The folder of the run directories.
    """
    for name, (config, options) in METHODS.items():
        given = [f"--model.sampler.init_args.{option}={value}" for option, value in options.items()]
        command = [sys.executable, "-m", "srsoup_lightning", "predict", "--config", config, *given]
        shared = ["--model.preferences.init_args.divisions=4", f"--data.prompts={json.dumps(PROMPTS)}"]
        subprocess.run([*command, *shared, f"--trainer.default_root_dir={folder / name}"], check=True)


def screenshot(
    runs: Path = Path("runs/charts"),
    tab: str = "images",
    click: str = "",
    out: Path = Path("docs/images/tensorboard.png"),
) -> None:
    """Make a picture of TensorBoard.

    Args:
        runs: The folder of the run directories.
        tab: The page, as in its address, with the runs in view.
        click: The view or option to click on, by its text.
        out: The PNG file.
    """
    with _tensorboard(runs) as address, open_browser() as browser:
        prefer(browser, color_scheme="light")
        resize(browser, 1560, 1000)
        browser.get(f"{address}#{tab}")
        if click:
            _element(browser, click).click()
        time.sleep(5)  # charts draw themselves in their own time
        picture = Image.open(BytesIO(browser.get_screenshot_as_png()))
        picture.convert("RGB").quantize(COLOURS).save(out, optimize=True)


def _element(browser: Chrome, text: str) -> WebElement:
    return WebDriverWait(browser, 60).until(lambda _: browser.execute_script(FIND, text))[0]


@contextmanager
def _tensorboard(folder: Path) -> Iterator[str]:
    """The address of a TensorBoard of its own, for as long as it is looked at."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = (ADDRESS.search(line) for line in iter(process.stderr.readline, ""))
            yield next(found[0] for found in told if found)
        finally:
            process.terminate()


if __name__ == "__main__":
    auto_cli([measure, runs, screenshot])
