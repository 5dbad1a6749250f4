"""A headless Chromium, for looking at pages as their readers do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "needs Chromium and its driver: install Debian's chromium and chromium-driver"


@contextmanager
def open_browser() -> Iterator[webdriver.Chrome]:
    """Start a browser without a window that keeps a log of its console and its network requests.

    Raises:
        FileNotFoundError: Chromium or its driver isn't installed.
    """
    if BROWSER is None or DRIVER is None:
        raise FileNotFoundError(MISSING)
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    # No sandbox, so that it runs as root in a container: it opens pages made here and nothing else.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def resize(browser: webdriver.Chrome, width: int, height: int, scale: float = 1, touch: bool = False) -> None:
    """Give the page a viewport of `width` x `height` CSS pixels, each `scale` device pixels a side."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": touch}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})


def prefer(browser: webdriver.Chrome, **features: str) -> None:
    """Set media features by name, such as ``color_scheme="dark"``."""
    pairs = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": pairs})


def show(browser: webdriver.Chrome, page: Path) -> None:
    """Open a page from its file."""
    browser.get(page.resolve().as_uri())
