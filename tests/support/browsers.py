"""
A real browser, for tests of pages.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

needsBrowser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")) and "CI" not in os.environ,
    reason="not installed: chromium chromium-driver",
)


@contextmanager
def chromium(profile: Path, width: int = 1280) -> Iterator[Chrome]:
    """
    Run Chromium, and end it.

    @param profile: the folder of its settings.
    @param width: that of its window, in pixels.
    """
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    # What a page fetches, and what it complains of.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--window-size={width},900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    # By its path, or selenium would look for one to fetch.
    browser = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()
