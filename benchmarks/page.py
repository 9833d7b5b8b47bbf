"""How long a reader waits for a page, beside the plain chat of Streamlit's tutorial.

python -m benchmarks.page [--json] [--runs N] [measure ...]

switch   milliseconds from the press on a conversation's row until its last message is in view: the first
         time in a page that was just loaded, the app having read nothing of it; and again
refresh  from the reload of a conversation of 500 messages until the last of them is in view
list     from the reload of a fresh page until one can write and sees the list, 1,000 conversations kept
cold     the same in a browser that has never been there, two conversations kept
stream   a reply of 200 tokens a second: tokens shown a second, and milliseconds from the moment when the
         model said one until it is shown
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, Page, expect

from benchmarks import rig
from benchmarks.rig import EMAIL, Figures
from tests.journeys.people import DESK, PASSWORD
from tests.journeys.seeds import converse, hold, let_talk_fast, second_process
from tests.model_server import STAMP_TURN

SHORT, LONG = 30, 500  # messages
KEPT = 1000  # conversations, of which the app draws so many at first:
ROWS = 30
KEEPER = "keeper@daybook.test"
RATE, TOKENS = 200, 600

# the moment of the first frame in which what is looked for is in view
WATCH = """
  const inView = (element) => {
    const box = element?.getBoundingClientRect();
    return box && box.height > 0 && box.bottom > 0 && box.top < innerHeight;
  };
  const isThere = {
    message: (text) => {
      const last = [...document.querySelectorAll('.stChatMessage, .db-message')].at(-1);
      return last?.textContent.includes(text) && inView(last);
    },
    rows: (count) => {
      const field = document.querySelector('[data-testid="stChatInput"] textarea');
      const rows = document.querySelectorAll('[class*="st-key-open-"] button');
      return inView(field) && !field.disabled && rows.length >= count;
    },
  };
  window.watch = (what, value) => new Promise((resolve) => {
    const look = () => {
      if (isThere[what](value)) resolve(performance.now());
      else requestAnimationFrame(() => setTimeout(look)); // after what the page does within the frame
    };
    look();
  });
"""
# the milliseconds from the next press until a message is in view
PRESS = """(text) => {
  window.took = new Promise((resolve) => addEventListener("pointerdown", async () => {
    const pressed = performance.now();
    resolve(await watch("message", text) - pressed);
  }, { once: true, capture: true }));
}"""
# the model's words as they were shown, and for each change the moment and how many it showed
FLOW = """(count) => {
  const flow = [];
  window.flow = new Promise((resolve) => new MutationObserver(() => {
    const last = [...document.querySelectorAll('.stChatMessage, .db-message')].at(-1);
    const words = last?.textContent.match(/\\d{5}/g) ?? [];
    if (words.length > (flow.at(-1)?.[1] ?? 0)) flow.push([Date.now(), words.length]);
    if (words.length === count) resolve([words, flow]);
  }).observe(document, { childList: true, subtree: true, characterData: true }));
}"""


@dataclass(frozen=True, slots=True)
class Site:
    """Where to measure: the app, or the plain chat."""

    fresh: str  # the address of a page without a message
    crowded: str  # the same beside KEPT conversations
    long: str  # of the conversation of LONG messages
    rows: dict[int, str]  # by length, what stands in the list for a conversation
    rows_drawn: int  # of KEPT
    context: BrowserContext  # of a browser that has been there
    new_context: Callable[[], BrowserContext]  # of one that has not
    forget: Callable[[str], None]  # have whose address it is be somebody of whom nothing is at hand

    def page(self, what: str, value: object) -> Page:
        """A tab where `took` is when that was in view, after every load."""
        return _page(self.context, what, value)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=9, help="of each; the median counts")
    chosen = parser.parse_args()

    figures = measure(chosen.measures or list(MEASURES), chosen.runs)
    if chosen.json:
        print(json.dumps(figures))
        return
    print(f"medians of {chosen.runs}              Daybook   plain Streamlit")
    for name, ours in figures["daybook"].items():
        print(f"  {name:<28} {ours:>8.0f} {figures['plain'][name]:>17.0f}")


def measure(measures: list[str], runs: int) -> dict[str, Figures]:
    """The figures by name, of both."""

    def of(site: Site) -> Figures:
        found: Figures = {}
        for name in measures:
            found |= MEASURES[name](site, runs)
        return found

    with rig.model() as endpoint, rig.chromium() as browser:
        with _plain(browser, endpoint) as site:
            plain = of(site)
        with _daybook(browser, endpoint) as site:
            return {"daybook": of(site), "plain": plain}


def _switch(site: Site, runs: int) -> Figures:
    figures: Figures = {}
    page = site.context.new_page()
    for length in (SHORT, LONG):
        first: list[float] = []
        again: list[float] = []
        for _ in range(runs):
            site.forget(site.fresh)
            page.goto(site.fresh)
            rig.settle(page)
            for times in (first, again):
                times.append(_press(page, site.rows[length], f"message {length - 1} "))
                page.locator(".st-key-new-chat button").click()
                expect(page.locator(".stChatMessage, .db-message")).to_have_count(0)
                rig.settle(page)
        figures[f"switch_{length}_first_ms"] = statistics.median(first)
        figures[f"switch_{length}_again_ms"] = statistics.median(again)
    page.close()
    return figures


def _press(page: Page, row: str, text: str) -> float:
    page.evaluate(PRESS, text)
    page.locator(row).click()
    took = page.evaluate("window.took")
    rig.settle(page)
    return float(took)


def _refresh(site: Site, runs: int) -> Figures:
    site.forget(site.long)
    return {"refresh_ms": _reload(site.page("message", f"message {LONG - 1} "), site.long, runs)}


def _list(site: Site, runs: int) -> Figures:
    site.forget(site.crowded)
    return {"list_ms": _reload(site.page("rows", site.rows_drawn), site.crowded, runs)}


def _reload(page: Page, address: str, runs: int) -> float:
    page.goto(address)

    def reload() -> float:
        rig.settle(page)
        page.reload(wait_until="commit")
        return float(page.evaluate("window.took"))

    took = rig.median(runs, reload)
    page.close()
    return took


def _cold(site: Site, runs: int) -> Figures:
    def open_cold() -> float:
        with site.new_context() as context:
            page = _page(context, "rows", len(site.rows))
            page.goto(site.fresh, wait_until="commit")
            return float(page.evaluate("window.took"))

    return {"cold_ms": rig.median(runs, open_cold)}


def _stream(site: Site, runs: int) -> Figures:
    rates: list[float] = []
    lags: list[float] = []
    page = site.context.new_page()
    for _ in range(runs):
        page.goto(site.fresh)
        rig.settle(page)
        page.evaluate(FLOW, TOKENS)
        composer = page.get_by_test_id("stChatInput").locator("textarea")
        composer.fill(f"Tell me. [[tokens={TOKENS} rate={RATE} stamped=1]]")
        composer.press("Enter")
        words, flow = page.evaluate("window.flow")
        rig.settle(page)
        shown = _moments(flow)
        rates.append((TOKENS - 1) / (shown[-1] - shown[0]) * 1000)
        pairs = zip(shown, map(int, words), strict=True)
        lags.append(statistics.median((seen - said) % STAMP_TURN for seen, said in pairs))
    page.close()
    return {
        "stream_tokens_per_second": statistics.median(rates),
        "stream_lag_ms": statistics.median(lags),
    }


def _moments(flow: list[tuple[int, int]]) -> list[int]:
    """When each token was shown, from when how many were."""
    moments: list[int] = []
    for moment, count in flow:
        moments += [moment] * (count - len(moments))
    return moments


MEASURES = {
    "switch": _switch,
    "refresh": _refresh,
    "list": _list,
    "cold": _cold,
    "stream": _stream,
}


def _page(context: BrowserContext, what: str, value: object) -> Page:
    page = context.new_page()
    page.add_init_script(f"window.took = watch({json.dumps(what)}, {json.dumps(value)});")
    return page


def _context(browser: Browser) -> BrowserContext:
    context = browser.new_context(viewport=DESK)
    context.add_init_script(WATCH)
    return context


@contextmanager
def _daybook(browser: Browser, endpoint: rig.Endpoint) -> Iterator[Site]:
    with rig.daybook(endpoint) as app, second_process(app) as sessions:
        _, reader = sessions.sign_up(EMAIL, PASSWORD)
        _, keeper = sessions.sign_up(KEEPER, PASSWORD)
        let_talk_fast(app)
        kept = {length: converse(reader, rig.past(length)) for length in (SHORT, LONG)}
        hold(keeper, (f"Conversation {number}" for number in range(KEPT)))
        context = _context(browser)
        crowded = f"{app.url}/?of=many"

        def forget(address: str, context: BrowserContext = context) -> None:
            email = KEEPER if address == crowded else EMAIL
            rig.sign_in(context, app.url, rig.new_cookie(app, sessions, email))

        def new_context() -> BrowserContext:
            made = _context(browser)
            forget(app.url, made)
            return made

        yield Site(
            fresh=app.url,
            crowded=crowded,
            long=f"{app.url}/?c={kept[LONG]}",
            rows={length: f".st-key-open-{kept[length]} button" for length in kept},
            rows_drawn=ROWS,
            context=context,
            new_context=new_context,
            forget=forget,
        )
        context.close()


@contextmanager
def _plain(browser: Browser, endpoint: rig.Endpoint) -> Iterator[Site]:
    with rig.plain_chat(endpoint) as (url, _):
        context = _context(browser)
        others = f"{url}/?others={SHORT},{LONG}"
        yield Site(
            fresh=others,
            crowded=f"{url}/?others={','.join(['0'] * KEPT)}",
            long=f"{others}&messages={LONG}",
            rows={SHORT: ".st-key-open-0 button", LONG: ".st-key-open-1 button"},
            rows_drawn=KEPT,
            context=context,
            new_context=lambda: _context(browser),
            forget=lambda _: None,
        )
        context.close()


if __name__ == "__main__":
    main()
