"""Chromium for tests, benchmarks and pictures."""

from contextlib import contextmanager

from playwright.sync_api import sync_playwright

from tests.parts import CHROMIUM

_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # V8's optimizing compilers cost more than they save where a page lives for seconds
    "--js-flags=--no-maglev --no-opt",
]


@contextmanager
def chromium():
    """Yield a browser without a window. Without Chromium, skip the test, or fail in CI."""
    program = CHROMIUM.required()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()
