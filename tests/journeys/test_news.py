"""The rate at which a tab polls for changes: the script alone, on a page with a controlled clock."""

from urllib.parse import urlsplit

import pytest

from services.web.page_assets import _ASSETS
from tests.stack.apps import until

SEEN = {"chat": 1, "list": "digest"}
TEN_MINUTES = 600_000
PAGE = """
  window.told = [];
  window.unanswered = 0;
  const fetch = window.fetch;
  window.fetch = (...request) => {
    unanswered += 1;
    return fetch(...request).finally(() => setTimeout(() => (unanswered -= 1)));
  };
  window.daybook = {
    isRunning: () => Boolean(window.isRunning),
    isCovered: () => Boolean(window.isCovered),
  };
  window.hide = (isHidden) => {
    Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  };
"""


class Script:
    """assets/page/news.js in an empty page, and its requests."""

    def __init__(self, page):
        self.page, self.asked, self.answer, self.status = page, [], dict(SEEN), 200
        page.clock.install(time=0)
        page.clock.pause_at(1000)  # stops the clock, which would otherwise run by itself
        page.route("**/*", self._serve)
        page.goto("http://app.test/")
        page.evaluate(PAGE)
        page.add_script_tag(content=f"{{{(_ASSETS / 'page' / 'news.js').read_text('utf-8')}}}")
        self.draw(SEEN)

    def _serve(self, route):
        address = urlsplit(route.request.url)
        if address.path == "/poll":
            self.asked.append(address.query)
            route.fulfill(json=self.answer, status=self.status)
        else:
            route.fulfill(body="<p>Page", content_type="text/html")

    def draw(self, seen):
        """Report the drawn revisions, as a component does after a run."""
        self.page.evaluate(
            "(seen) => daybook.watchNews({ place: { c: 'garden' }, seen }, (found) => told.push(found))",
            seen,
        )

    def told(self):
        return self.page.evaluate("told")

    def passes(self, seconds):
        """Let time pass second by second, each with its answers."""
        for _ in range(seconds):
            self.page.clock.run_for(1000)
            until(lambda: self.page.clock.run_for(1) or not self.page.evaluate("unanswered"))


@pytest.fixture
def script(browser):
    page = browser.new_page()
    yield Script(page)
    page.close()


def test_tab_in_use_asks_every_five_seconds(script):
    script.passes(4)
    assert script.asked == []

    script.passes(26)

    assert 5 <= len(script.asked) <= 6
    assert set(script.asked) == {"c=garden"}
    assert script.told() == []


def test_hidden_tab_asks_nothing_until_it_is_shown(script):
    script.page.evaluate("hide(true)")
    script.draw(SEEN | {"chat": 1})  # a run that was in progress ends
    script.passes(60)
    assert script.asked == []

    script.page.evaluate("hide(false)")
    script.passes(1)

    assert len(script.asked) == 1


def test_tab_unused_for_ten_minutes_asks_nothing(script):
    script.passes(5)
    script.page.clock.fast_forward(TEN_MINUTES)
    script.asked.clear()
    script.passes(60)
    assert script.asked == []

    script.page.mouse.move(10, 10)
    script.passes(1)

    assert len(script.asked) == 1


def test_page_is_told_of_each_change_once(script):
    script.answer = SEEN | {"chat": 2, "preferences": 5}
    script.passes(7)
    assert script.told() == [script.answer]

    script.passes(20)  # the page shows the old state for another reason
    assert len(script.told()) == 1

    script.draw(SEEN | {"chat": 2})
    script.passes(20)
    assert len(script.told()) == 1


@pytest.mark.parametrize("state", ["isRunning", "isCovered"])
def test_page_that_is_busy_is_told_later(script, state):
    script.answer = SEEN | {"chat": 2}
    script.passes(4)
    script.page.evaluate(f"window.{state} = true")
    script.passes(20)
    assert script.told() == []

    script.page.evaluate(f"window.{state} = false")
    script.passes(7)

    assert script.told() == [script.answer]


def test_component_that_goes_ends_the_questions(script):
    script.page.evaluate("daybook.watchNews({ place: {}, seen: {} }, () => {})()")

    script.passes(30)

    assert script.asked == []


def test_page_is_drawn_anew_until_it_says_that_it_is_signed_out(script):
    script.status = 401
    script.passes(8)
    assert script.told() == [{}]

    script.passes(6)  # the connection did not exist yet

    assert script.told() == [{}, {}]
