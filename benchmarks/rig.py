"""A rig for timing: the whole app, a plain Streamlit chat, a scripted model and a browser."""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import httpx
from playwright.sync_api import BrowserContext, Page, expect

from services.embedded.folders import choose_folders, free_port
from tests.journeys.people import PASSWORD
from tests.stack.apps import ROOT, App, running, until
from tests.stores import WholeAccounts

EMAIL = "reader@daybook.test"
SECONDS = 60.0  # the longest wait: the machine may be busy
Endpoint = dict[str, str]  # the environment variables that connect an app to a model
Figures = dict[str, float]


def median(runs: int, measure: Callable[[], float]) -> float:
    """Return the median of *runs* measurements."""
    return round(statistics.median(measure() for _ in range(runs)), 1)


def past(length: int) -> list[tuple[str, str]]:
    """Return *length* messages as prompts and replies, the same with which `plain_chat` begins."""
    texts = [f"message {n} " + "lorem ipsum " * 20 for n in range(length)]
    return list(zip(texts[::2], texts[1::2], strict=True))


@contextmanager
def model() -> Iterator[Endpoint]:
    """Yield a scripted model in a process of its own, so that it never waits for the measuring process."""
    command = [sys.executable, "-m", "tests.model_server", "--while-stdin"]
    with Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        yield {
            "OPENAI_BASE_URL": process.stdout.readline().strip(),
            "OPENAI_API_KEY": "scripted",
        }
        process.stdin.close()


@contextmanager
def daybook(endpoint: Endpoint, **settings: str) -> Iterator[App]:
    """Yield the whole app, ready, with folders of its own and *settings* in its environment."""
    cache = choose_folders(None, None).cache
    with tempfile.TemporaryDirectory(prefix="daybook-") as base:
        app = App(
            Path(base), cache, environment=endpoint | {"DAYBOOK_MODEL": "scripted"} | settings
        )
        with running(app):
            app.until_ready()
            yield app


@contextmanager
def plain_chat(endpoint: Endpoint) -> Iterator[tuple[str, int]]:
    """Yield the address of `plain_chat`, and its process."""
    with _streamlit("plain_chat", endpoint) as (url, process):
        yield url, process


@contextmanager
def empty_page() -> Iterator[str]:
    """Yield the address of `empty_page`."""
    with _streamlit("empty_page", {}) as (url, _):
        yield url


@contextmanager
def _streamlit(name: str, environment: Endpoint) -> Iterator[tuple[str, int]]:
    port = free_port()
    script = ["streamlit", "run", f"benchmarks/{name}.py", "--server.port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with Popen(
        [sys.executable, "-m", *script],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
    ) as process:
        try:
            until(lambda: _answers(f"{url}/_stcore/health"))
            yield url, process.pid
        finally:
            process.terminate()


def new_cookie(app: App, sessions: WholeAccounts, email: str = EMAIL) -> str:
    """Return the cookie of *email* on one more device, for which the app has only opened the session."""
    return opened(app, sessions.sign_in_with(email, PASSWORD)[0])


def opened(app: App, cookie: str) -> str:
    """Make *app* open the session of *cookie*; return the cookie's header."""
    text = f"__Host-sid={cookie}"
    httpx.get(f"{app.url}/media/none", headers={"Cookie": text}, trust_env=False)
    return text


def sign_in(context: BrowserContext, url: str, cookie: str) -> None:
    """Make the browser send *cookie*, as if the sign-in form had set it."""
    name, value = cookie.split("=")
    # a `__Host-` cookie must be secure; from this machine, a browser accepts it even over http
    safe = url.replace("http:", "https:")
    context.add_cookies([{"name": name, "value": value, "url": safe, "httpOnly": True}])


def settle(page: Page) -> None:
    """Wait until the page is drawn and nothing is pending."""
    expect(page.get_by_test_id("stChatInput")).to_be_visible(timeout=SECONDS * 1000)
    settle_script(page)
    expect(page.locator(".st-key-stop button")).to_have_count(0, timeout=SECONDS * 1000)


def settle_script(page: Page) -> None:
    """Wait until the page's script has run."""
    expect(page.locator(".stApp")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=SECONDS * 1000
    )


def main_thread(page: Page) -> Callable[[], float]:
    """Return a clock of the milliseconds that the page's main thread has computed, whatever else the machine does."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(1000 * each["value"] for each in metrics if each["name"] == "TaskDuration")

    return read


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False
