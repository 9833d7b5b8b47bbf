"""Time from Enter to the first character in the browser, without the model's own time.

python -m benchmarks.first_character [--json] [--runs N]

The model answers at once, so the time is that of all other parts: the socket, the script's run, storing the prompt
and its reservation, the request, the way back and the drawing. The same run also measures the chat of Streamlit's
tutorial, which stores nothing.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect

from benchmarks import rig
from benchmarks.rig import EMAIL, SECONDS, Endpoint, Figures
from tests.chromium import chromium
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.stack.apps import App, until

LENGTHS = (0, 100, 500)
MARK = "[[tokens=12 rate=40]]"
FIRST, LAST = "word1", "word12"  # the first and the last word of the reply
_numbers = itertools.count(1)

# the milliseconds from Enter until the reply's first word is below the prompt
STOPWATCH = """([prompt, word]) => {
  window.took = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("no reply in a minute")), 60_000);
    let pressed = null;
    const down = (event) => { if (event.key === "Enter") pressed = performance.now(); };
    const observer = new MutationObserver(() => {
      const messages = [...document.querySelectorAll('.stChatMessage, .db-message')];
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


def measure(runs: int) -> dict[str, Figures]:
    """Return milliseconds by the length of the conversation."""
    with rig.model() as endpoint, chromium() as browser:
        plain = _plain(browser, endpoint, runs)
        with rig.daybook(endpoint) as app:
            return {"daybook_ms": _daybook(browser, app, runs), "plain_ms": plain}


def _daybook(browser: Browser, app: App, runs: int) -> Figures:
    with second_process(app) as sessions:
        _, session = sessions.sign_up_with(EMAIL, PASSWORD)
        let_talk_fast(app)
        asked = {length: converse(session, rig.past(length)) for length in LENGTHS if length}
        cookie = rig.new_cookie(app, sessions)
    page = browser.new_page()
    rig.sign_in(page.context, app.url, cookie)
    page.goto(app.url)
    rig.settle(page)
    figures = {"0": _median(page, runs, lambda: _begin_new_chat(page))}
    for length, conversation in asked.items():
        page.goto(f"{app.url}/?c={conversation}")
        figures[str(length)] = _median(page, runs)

    def start_again() -> None:
        app.kill()
        until(lambda: not app.left())
        app.start().until_ready()
        page.goto(app.url)

    figures["first"] = _median(page, runs, start_again)
    page.close()
    return figures


def _plain(browser: Browser, endpoint: Endpoint, runs: int) -> Figures:
    figures: Figures = {}
    with rig.plain_chat(endpoint) as (url, _):
        page = browser.new_page()
        for length in LENGTHS:
            page.goto(f"{url}/?messages={length}")
            figures[str(length)] = _median(page, runs)
        page.close()
    return figures


def _median(page: Page, runs: int, prepare: Callable[[], object] = lambda: None) -> float:
    def once() -> float:
        prepare()
        return milliseconds(page)

    return rig.median(runs, once)


def milliseconds(page: Page) -> float:
    """Send a prompt, wait until the reply is stored, and return the milliseconds to the first word."""
    return reply_milliseconds(page, MARK, LAST)[0]


def reply_milliseconds(page: Page, mark: str, last: str) -> tuple[float, float]:
    """Send a prompt, wait until the reply is stored, and return the milliseconds to its first word, and from there to *last*."""
    rig.settle(page)
    composer = page.get_by_test_id("stChatInput").locator("textarea")
    prompt = f"Question {next(_numbers)}: how deep do they go?"
    composer.fill(f"{prompt} {mark}")
    expect(page.get_by_test_id("stChatInputSubmitButton")).to_be_enabled()
    page.evaluate(STOPWATCH, [prompt, FIRST])
    composer.press("Enter")
    took = float(page.evaluate("window.took"))
    begun = time.monotonic()
    expect(page.locator(".stChatMessage, .db-message").last).to_contain_text(
        last, timeout=SECONDS * 1000
    )
    streamed = 1000 * (time.monotonic() - begun)
    rig.settle(page)
    return took, streamed


def _begin_new_chat(page: Page) -> None:
    page.locator(".st-key-new-chat button").click()
    expect(page.locator(".stChatMessage, .db-message")).to_have_count(0)


if __name__ == "__main__":
    main()
