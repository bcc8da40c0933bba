"""A real browser for the tests, and what is read from its pages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
INSTALLED = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = (
    "no browser: the tests of pages need Chromium, which could not be installed by "
    "'playwright install chromium'; install it, with 'apt install chromium' say, and test again."
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or else Playwright's own, which is downloaded once."""
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, INSTALLED)), None)
        if path is None and not Path(playwright.chromium.executable_path).exists():
            install = [sys.executable, "-m", "playwright", "install", "chromium"]
            if subprocess.run(install, capture_output=True, check=False).returncode:
                pytest.fail(NO_BROWSER)
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, *, forgiven: str = "", **options: Any) -> Iterator[Page]:
    """A page that is complete; nothing may go wrong in its console, but what has some words.

    It has no network but the server that it came from.
    """
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: _noted(message.type, message.text, wrong))
    own = address.split("#")[0].rsplit("/", 1)[0]

    def guarded(route: Any) -> None:
        url = route.request.url
        if url.startswith((own, "data:", "blob:")):
            route.continue_()
        else:
            wrong.append(f"asked for {url}")
            route.abort()

    page.route("**/*", guarded)
    page.goto(address)
    try:
        page.wait_for_selector("[data-ready]", timeout=30_000, state="attached")
    except Error:
        pytest.fail(f"the page was not complete in 30 s; its console says: {wrong}")
    yield page
    context.close()
    wrong = [text for text in wrong if not forgiven or forgiven not in text]
    assert not wrong, wrong


HARMLESS = (
    "GPU stall due to ReadPixels",  # told where a processor stands in for the graphics card
    "Multiple readback operations",  # told since the tests read what the canvases show
)


def _noted(kind: str, text: str, wrong: list[str]) -> None:
    if kind in ("error", "warning") and not any(words in text for words in HARMLESS):
        wrong.append(f"{kind}: {text}")


def pixels(canvas: Locator) -> np.ndarray:
    """What a canvas shows: (H, W, 4), bytes."""
    flat = canvas.evaluate(
        "c => [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    return np.array(flat[2:], np.uint8).reshape(flat[1], flat[0], 4)


def grey(canvas: Locator) -> np.ndarray:
    """The grey levels of a canvas that shows images of one channel: (H, W), bytes."""
    shown = pixels(canvas)
    assert (shown[..., :3] == shown[..., :1]).all()
    assert (shown[..., 3] == 255).all()
    return shown[..., 0]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until something is so; fails where it does not become so."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.03)
