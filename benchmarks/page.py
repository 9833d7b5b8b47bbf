"""Page load, switch and streaming times, beside the plain chat of Streamlit's tutorial.

python -m benchmarks.page [--json] [--runs N] [measure ...]

switch   milliseconds from a press on a conversation's row until its last message is in view: the first time, in a page
         that was just loaded by an app that has not read the conversation; and a second time
refresh  from the reload of a conversation of 500 messages until its last message is in view
list     from the reload of a new chat's page until the composer works and the list is in view, with 1,000 conversations
cold     the same in a browser that has never opened the app, with two conversations
tab      in a new tab, alternating with an empty page of Streamlit, and as a multiple of it: until the last of 500
         messages is in view; until the composer works beside 1,000 conversations; from the press on the button of the
         sign-in form until the composer works; busy: the computing time of the page's main thread
rows     the switch to 30 messages with 30 rows in the list, as a multiple of that with 15 rows, alternating
stream   a reply of 200 tokens a second: tokens shown per second, and milliseconds from the moment when the model sent
         a token until the page shows it
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from playwright.sync_api import Browser, BrowserContext, Page, expect

from benchmarks import rig
from benchmarks.rig import EMAIL, Figures
from tests.chromium import chromium
from tests.journeys.people import DESK, PASSWORD
from tests.journeys.seeds import converse, hold, let_talk_fast, second_process
from tests.model_server import STAMP_TURN

SHORT, LONG = 30, 500  # lengths of conversations in messages
LAST = f"message {LONG - 1} "
KEPT = 1000  # the number of conversations of a user; the app draws the first 30, as ROWS
# the number of rows in the list, and that of a user with fewer conversations
ROWS, FEW_ROWS = 30, 15
KEEPER = "keeper@daybook.test"
COOKIES = 40  # of each user over JSON files: one for each time that its cached data is dropped
AFTER = 500  # milliseconds that a page needs to draw the last elements of its script
Took = tuple[
    float, float
]  # milliseconds until in view, and milliseconds of the main thread's work until all is drawn
RATE, TOKENS = 200, 600

# the time of the first frame in which the awaited element is in view
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
      const rows = document.querySelectorAll('[data-act="open"], [class*="st-key-open-"] button');
      return inView(field) && !field.disabled && rows.length >= count;
    },
    text: () => inView(document.querySelector('[data-testid="stText"]')),
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
# the model's words as shown, and for each change the time and the number of words shown
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
    """A site to measure: the app, or the plain chat."""

    fresh: str  # the address of a page without a message
    crowded: str  # the same address for a user with KEPT conversations
    long: str  # the address of the conversation of LONG messages
    rows: dict[int, str]  # by length, the text of a conversation's row in the list
    rows_drawn: int  # the number of the KEPT conversations that the list draws
    # for ROWS and FEW_ROWS: the address, and the text of a row as in `rows`
    listed: list[tuple[str, str]]
    empty: str  # the address of an empty page
    # a signed-out browser that has opened the app before, with an account
    signed_out: BrowserContext | None
    context: BrowserContext  # a browser that has opened the app before
    new_context: Callable[[], BrowserContext]  # makes a browser that has never opened the app
    forget: Callable[[str], None]  # makes the app drop all cached data of the user at this address


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
        digits = 2 if name.endswith("_ratio") else 0
        print(f"  {name:<28} {ours:>8.{digits}f} {figures['plain'].get(name, 0):>17.{digits}f}")


def measure(measures: list[str], runs: int) -> dict[str, Figures]:
    """Return the figures by name, of the app and of the plain chat."""

    def of(site: Site) -> Figures:
        found: Figures = {}
        for name in measures:
            found |= MEASURES[name](site, runs)
        return found

    with rig.model() as endpoint, rig.empty_page() as empty, chromium() as browser:
        with plain(browser, endpoint, empty) as site:
            beside = of(site)
        with daybook(browser, endpoint, empty) as site:
            return {"daybook": of(site), "plain": beside}


def _switch(site: Site, runs: int) -> Figures:
    figures: Figures = {}
    page = site.context.new_page()
    for length, row in site.rows.items():
        took = [_twice(site, page, site.fresh, row, length) for _ in range(runs)]
        for name, times in zip(("first", "again"), zip(*took, strict=True), strict=True):
            figures[f"switch_{length}_{name}_ms"] = statistics.median(ms for ms, _ in times)
    page.close()
    return figures


def _rows(site: Site, runs: int) -> Figures:
    page = site.context.new_page()
    pairs = [[_twice(site, page, *each, SHORT) for each in site.listed] for _ in range(runs)]
    page.close()
    first, again = ([(many[n], few[n]) for many, few in pairs] for n in (0, 1))
    return _beside("rows_first", first) | _beside("rows_again", again)


def _beside(name: str, pairs: list[tuple[Took, Took]]) -> Figures:
    """Return the medians of both, and the median of the ratio of the first to the second."""
    figures: Figures = {}
    for number, what in enumerate(("", "_busy")):
        both = [(one[number], other[number]) for one, other in pairs]
        ours, others = map(statistics.median, zip(*both, strict=True))
        figures |= {f"{name}{what}_ms": ours, f"{name}_beside{what}_ms": others}
        figures[f"{name}{what}_ratio"] = statistics.median(one / other for one, other in both)
    return figures


def _twice(site: Site, page: Page, address: str, row: str, length: int) -> list[Took]:
    """Return the times of a first and of a second switch to *length* messages."""

    def press() -> Took:
        page.evaluate(PRESS, f"message {length - 1} ")
        read = rig.main_thread(page)
        before = read()
        page.locator(row).click()
        took = page.evaluate("window.took")
        rig.settle(page)
        page.wait_for_timeout(AFTER)
        busy = read() - before
        page.locator(".st-key-new-chat button").click()
        expect(page.locator(".stChatMessage, .db-message")).to_have_count(0)
        rig.settle(page)
        return float(took), busy

    site.forget(address)
    page.goto(address)
    rig.settle(page)
    return [press(), press()]


def _refresh(site: Site, runs: int) -> Figures:
    return {"refresh_ms": _reload(site, runs, site.long, "message", LAST)}


def _list(site: Site, runs: int) -> Figures:
    return {"list_ms": _reload(site, runs, site.crowded, "rows", site.rows_drawn)}


def _reload(site: Site, runs: int, address: str, what: str, value: object) -> float:
    site.forget(address)
    page = _page(site.context, what, value)
    page.goto(address)

    def reload() -> float:
        rig.settle(page)
        page.reload(wait_until="commit")
        return float(page.evaluate("window.took"))

    took = rig.median(runs, reload)
    page.close()
    return took


def _tab(site: Site, runs: int) -> Figures:
    site.forget(site.long)
    refresh = partial(_opened, site.context, site.long, "message", LAST)
    figures = _beside_empty(site, runs, "refresh", refresh)
    site.forget(site.crowded)
    opened = partial(_opened, site.context, site.crowded, "rows", site.rows_drawn)
    figures |= _beside_empty(site, runs, "list", opened)
    if site.signed_out:
        figures |= _beside_empty(site, runs, "sign_in", partial(_sign_in, site.signed_out, site))
    return figures


def _beside_empty(site: Site, runs: int, name: str, measure: Callable[[], Took]) -> Figures:
    pairs = [(measure(), _opened(site.context, site.empty, "text", "")) for _ in range(1 + runs)]
    return _beside(f"tab_{name}", pairs[1:])  # the first pair is left out, because it fills caches


def _opened(context: BrowserContext, address: str, what: str, value: object) -> Took:
    page = _page(context, what, value)
    read = rig.main_thread(page)
    page.goto(address, wait_until="commit")
    return _took(page, read)


def _took(page: Page, read: Callable[[], float]) -> Took:
    took = float(page.evaluate("window.took"))
    rig.settle_script(page)
    page.wait_for_timeout(AFTER)
    busy = read()
    page.close()
    return took, busy


def _sign_in(context: BrowserContext, site: Site) -> Took:
    """Sign in; the time begins with the press, when the browser begins to leave for the form's target."""
    context.clear_cookies()
    page = _page(context, "rows", len(site.rows))
    read = rig.main_thread(page)
    page.goto(site.fresh)
    form = page.locator('form[action="/session"]')
    form.locator('[name="email"]').fill(EMAIL)
    form.locator('[name="password"]').fill(PASSWORD)
    rig.settle_script(page)
    with page.expect_navigation(wait_until="commit"):
        form.locator("button[type=submit]").click()
    return _took(page, read)  # `read` counts from the navigation


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
    """Return the time at which each token was shown; *flow* has times and the number of tokens shown then."""
    moments: list[int] = []
    for moment, count in flow:
        moments += [moment] * (count - len(moments))
    return moments


MEASURES = {
    "switch": _switch,
    "refresh": _refresh,
    "list": _list,
    "cold": _cold,
    "tab": _tab,
    "rows": _rows,
    "stream": _stream,
}


def _row(conversation: object) -> str:
    return f'[data-act="open"][data-chat="{conversation}"], .st-key-open-{conversation} button'


def _page(context: BrowserContext, what: str, value: object) -> Page:
    page = context.new_page()
    page.add_init_script(f"window.took = watch({json.dumps(what)}, {json.dumps(value)});")
    return page


def _context(browser: Browser) -> BrowserContext:
    context = browser.new_context(viewport=DESK)
    context.add_init_script(WATCH)
    return context


@contextmanager
def daybook(
    browser: Browser, endpoint: rig.Endpoint, empty: str, **settings: str
) -> Iterator[Site]:
    """Yield the app with *settings* in its environment, and its users with their conversations."""
    with rig.daybook(endpoint, **settings) as app, ExitStack() as stack:
        # only one process may open JSON files, so the app ends while another process stores the conversations
        is_shared = not settings.get("DAYBOOK_STORE", "").startswith("json:")
        crowded = f"{app.url}/?of=many"
        lists = {f"{app.url}/?of={rows}": rows for rows in (ROWS, FEW_ROWS)}
        emails = {app.url: EMAIL, crowded: KEEPER}
        emails |= {at: f"reader-of-{rows}@daybook.test" for at, rows in lists.items()}
        if not is_shared:
            app.interrupt()
        with second_process(app) as sessions:
            for email in emails.values():
                sessions.sign_up_with(email, PASSWORD)
        let_talk_fast(app)

        sessions = stack.enter_context(second_process(app))
        reader, keeper, *listers = (
            sessions.sign_in_with(email, PASSWORD)[1] for email in emails.values()
        )
        kept = {length: converse(reader, rig.past(length)) for length in (SHORT, LONG)}
        hold(keeper, (f"Conversation {number}" for number in range(KEPT)))
        listed = list[tuple[str, str]]()
        for (address, rows), lister in zip(lists.items(), listers, strict=True):
            hold(lister, (f"Conversation {number}" for number in range(rows - 1)))
            listed.append((address, _row(converse(lister, rig.past(SHORT)))))

        def cookie_of(email: str) -> str:
            return sessions.sign_in_with(email, PASSWORD)[0]

        if not is_shared:
            cookies = {one: [cookie_of(one) for _ in range(COOKIES)] for one in emails.values()}
            stack.close()
            app.start().until_ready()

        context = _context(browser)

        def forget(address: str, context: BrowserContext = context) -> None:
            email = emails.get(address, EMAIL)
            cookie = cookie_of(email) if is_shared else cookies[email].pop()
            rig.sign_in(context, app.url, rig.opened(app, cookie))

        def new_context() -> BrowserContext:
            made = _context(browser)
            forget(app.url, made)
            return made

        yield Site(
            fresh=app.url,
            crowded=crowded,
            long=f"{app.url}/?c={kept[LONG]}",
            rows={length: _row(conversation) for length, conversation in kept.items()},
            rows_drawn=ROWS,
            listed=listed,
            empty=empty,
            context=context,
            signed_out=_context(browser),
            new_context=new_context,
            forget=forget,
        )
        context.close()


@contextmanager
def plain(browser: Browser, endpoint: rig.Endpoint, empty: str) -> Iterator[Site]:
    """Yield the plain chat."""
    with rig.plain_chat(endpoint) as (url, _):
        context = _context(browser)
        others = f"{url}/?others={SHORT},{LONG}"
        yield Site(
            fresh=others,
            crowded=f"{url}/?others={','.join(['0'] * KEPT)}",
            long=f"{others}&messages={LONG}",
            rows={SHORT: _row(0), LONG: _row(1)},
            rows_drawn=KEPT,
            listed=[(f"{others},{'0,' * (rows - 2)}", _row(0)) for rows in (ROWS, FEW_ROWS)],
            empty=empty,
            context=context,
            signed_out=None,
            new_context=lambda: _context(browser),
            forget=lambda _: None,
        )
        context.close()


if __name__ == "__main__":
    main()
