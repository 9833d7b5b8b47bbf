"""How long a reader waits from Enter to the first character in the browser, the model's own time left out.

python -m benchmarks.first_character [--json] [--runs N]

The model answers at once, so what is measured is everything else: the socket, the script's run, the
stored prompt and its reservation, the request, the way back and the drawing. Beside it, in the same
run, the chat of Streamlit's tutorial, which stores nothing.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

from services import embedded
from services.embedded.folders import free_port
from tests.journeys.conftest import CHROMIUM, FLAGS
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.stack.apps import ROOT, App, running, until

LENGTHS = (0, 100, 500)
EMAIL = "reader@daybook.test"
SECONDS = 60.0
MARK = "[[tokens=12 rate=40]]"
FIRST, LAST = "word1", "word12"  # of the reply
_numbers = itertools.count(1)

# the milliseconds from Enter until the reply's first word stands below the prompt
STOPWATCH = """([prompt, word]) => {
  window.took = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("no reply in a minute")), 60_000);
    let pressed = null;
    const down = (event) => { if (event.key === "Enter") pressed = performance.now(); };
    const observer = new MutationObserver(() => {
      const messages = [...document.querySelectorAll('[data-testid="stChatMessage"]')];
      const [asked, said] = messages.slice(-2).map((message) => message.textContent);
      if (pressed === null || !asked?.includes(prompt) || !said?.includes(word)) return;
      resolve(performance.now() - pressed);
      observer.disconnect();
      document.removeEventListener("keydown", down, true);
    });
    document.addEventListener("keydown", down, true);
    observer.observe(document, { childList: true, subtree: true, characterData: true });
  });
}"""


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_character")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=9, help="of each; the median counts")
    chosen = parser.parse_args()

    figures = measure(chosen.runs)
    if chosen.json:
        print(json.dumps(figures))
        return
    print(f"milliseconds from Enter to the first character, medians of {chosen.runs}")
    print("                          Daybook   plain Streamlit")
    for length in LENGTHS:
        name = f"{length} messages before" if length else "a new conversation"
        ours, plain = (figures[which][str(length)] for which in ("daybook_ms", "plain_ms"))
        print(f"  {name:<22} {ours:>8.0f} {plain:>17.0f}")
    print(f"  the first after a start {figures['daybook_ms']['first']:>7.0f}")


def measure(runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds by length of the conversation."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daybook-")))
        endpoint = {"OPENAI_BASE_URL": stack.enter_context(_model()), "OPENAI_API_KEY": "scripted"}
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        plain = _plain(browser, endpoint, runs)
        cache = embedded.chosen(None, None).cache.parent
        app = App(base, cache, environment=endpoint | {"DAYBOOK_MODEL": "scripted"})
        return {"daybook_ms": _daybook(browser, app, runs), "plain_ms": plain}


def _daybook(browser: Browser, app: App, runs: int) -> dict[str, float]:
    with running(app):
        app.until_ready()
        with second_process(app) as sessions:
            _, session = sessions.sign_up(EMAIL, PASSWORD)
            let_talk_fast(app)
            asked = {length: converse(session, _past(length)) for length in LENGTHS if length}
        page = browser.new_page()
        page.goto(app.url)
        form = page.locator('form[action="/session"]')
        form.locator('[name="email"]').fill(EMAIL)
        form.locator('[name="password"]').fill(PASSWORD)
        form.get_by_role("button").click()
        _wait(page)
        figures = {"0": _median(page, runs, lambda: _begin_new_chat(page))}
        for length, conversation in asked.items():
            page.goto(f"{app.url}/?c={conversation}")
            figures[str(length)] = _median(page, runs)

    def start_again() -> None:
        app.kill()
        until(lambda: not app.left())
        app.start().until_ready()
        page.goto(app.url)

    with running(app):
        figures["first"] = _median(page, runs, start_again)
    page.close()
    return figures


def _plain(browser: Browser, endpoint: dict[str, str], runs: int) -> dict[str, float]:
    figures = {}
    with _plain_chat(endpoint) as url:
        page = browser.new_page()
        for length in LENGTHS:
            page.goto(f"{url}/?messages={length}")
            figures[str(length)] = _median(page, runs)
        page.close()
    return figures


def _median(page: Page, runs: int, prepare: Callable[[], object] = lambda: None) -> float:
    times = []
    for _ in range(runs):
        prepare()
        times.append(_milliseconds(page))
    return round(statistics.median(times), 1)


def _milliseconds(page: Page) -> float:
    """Ask, and wait until the reply is over and stored."""
    _wait(page)
    composer = page.get_by_test_id("stChatInput").locator("textarea")
    prompt = f"Question {next(_numbers)}: how deep do they go?"
    composer.fill(f"{prompt} {MARK}")
    expect(page.get_by_test_id("stChatInputSubmitButton")).to_be_enabled()
    page.evaluate(STOPWATCH, [prompt, FIRST])
    composer.press("Enter")
    took = float(page.evaluate("window.took"))
    expect(page.get_by_test_id("stChatMessage").last).to_contain_text(LAST, timeout=SECONDS * 1000)
    _wait(page)
    return took


def _begin_new_chat(page: Page) -> None:
    page.locator(".st-key-new-chat button").click()
    expect(page.get_by_test_id("stChatMessage")).to_have_count(0)


def _wait(page: Page) -> None:
    """Until the page is there and nothing of it is still to come."""
    expect(page.get_by_test_id("stChatInput")).to_be_visible(timeout=SECONDS * 1000)
    expect(page.locator(".stApp")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=SECONDS * 1000
    )
    expect(page.locator(".st-key-stop button")).to_have_count(0, timeout=SECONDS * 1000)


def _past(length: int) -> list[tuple[str, str]]:
    texts = [f"message {n} " + "lorem ipsum " * 20 for n in range(length)]
    return list(zip(texts[::2], texts[1::2], strict=True))


@contextmanager
def _model() -> Iterator[str]:
    """The address of a model in a process of its own, so that it waits for nobody here."""
    command = [sys.executable, "-m", "tests.model_server", "--while-stdin"]
    with Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@contextmanager
def _plain_chat(endpoint: dict[str, str]) -> Iterator[str]:
    port = free_port()
    script = ["streamlit", "run", "benchmarks/plain_chat.py", "--server.port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with Popen(
        [sys.executable, "-m", *script],
        cwd=ROOT,
        env=os.environ | endpoint,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
    ) as process:
        try:
            until(lambda: _answers(f"{url}/_stcore/health"))
            yield url
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
