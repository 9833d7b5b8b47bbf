"""The button of a download: the script of the page alone, with a server that is asked first."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS
from tests.stack.apps import until

RUNNING = "Another export is running."
PAGE = f"""
  <form action="/export/usage.csv" data-running="{RUNNING}">
    <input type="hidden" name="zone" value="UTC"><button>Download</button>
  </form>
"""


@pytest.fixture
def open_page(browser):
    """Open the page with a server that answers HEAD with *status* (None: not at all), and GET with *got*; return it, and the requests."""
    with browser.new_context() as context:

        def open_before(status, got=200):
            asked = []

            def serve(route):
                address = urlsplit(route.request.url)
                if address.path == "/":
                    route.fulfill(body=PAGE, content_type="text/html")
                    return
                asked.append((route.request.method, address.path, address.query))
                if status is None:
                    route.abort()
                    return
                is_head, headers = route.request.method == "HEAD", {}
                if status == 303:
                    headers["Location"] = "/"
                route.fulfill(status=status if is_head else got, body="day", headers=headers)

            page = context.new_page()
            page.route("**/*", serve)
            page.goto("http://app.test/")
            for name in ("_shared", "exports", "temporary"):
                script = (_ASSETS / "page" / f"{name}.js").read_text("utf-8")
                page.add_script_tag(content=f"{{{script}}}")
            return page, asked

        yield open_before


def test_export_beside_another_is_refused_at_once(open_page):
    page, asked = open_page(429)

    page.get_by_role("button").click()

    expect(page.get_by_role("alert")).to_have_text(RUNNING)
    assert asked == [("HEAD", "/export/usage.csv", "zone=UTC")]


def test_refused_export_of_a_menu_is_told_at_the_bottom(open_page):
    page, _ = open_page(429)

    page.evaluate("""() => {
      document.body.insertAdjacentHTML("beforeend", '<div data-testid="stBottom"></div>');
      const form = document.querySelector("form");
      form.hidden = true;
      form.requestSubmit();
    }""")

    expect(page.get_by_test_id("stBottom").get_by_role("alert")).to_have_text(RUNNING)


def test_page_is_redrawn_once_an_export_of_everything_has_begun(open_page):
    page, _ = open_page(204, 204)
    page.clock.install()
    page.evaluate("void (daybook.redraw = () => document.body.append('Redrawn.'))")

    with page.expect_request(lambda one: one.method == "GET"):
        page.get_by_role("button").click()
    page.clock.run_for(5000)
    expect(page.get_by_text("Redrawn.")).to_have_count(0)

    page.evaluate("document.querySelector('form').action = '/export/everything.zip'")
    with page.expect_request(lambda one: one.method == "GET"):
        page.get_by_role("button").click()
    page.clock.run_for(5000)
    expect(page.get_by_text("Redrawn.")).to_be_visible()


def test_export_that_is_requested_twice_begins_once(open_page):
    page, asked = open_page(204, 204)
    page.clock.install()
    twice = "() => [0, 1].forEach(() => document.querySelector('form').requestSubmit())"

    for _ in range(2):
        with page.expect_request(lambda one: one.method == "GET"):
            page.evaluate(twice)
        page.evaluate(twice)
        page.clock.run_for(5000)

    assert [method for method, *_ in asked] == ["HEAD", "GET"] * 2


@pytest.mark.parametrize("status", [None, 500, 502, 503, 504])
def test_export_that_cannot_begin_keeps_the_page(open_page, status):
    page, asked = open_page(status)

    page.get_by_role("button").click()

    expect(page.get_by_role("alert")).to_have_text("Daybook did not answer. Try again in a moment.")
    assert asked == [("HEAD", "/export/usage.csv", "zone=UTC")]


def test_export_of_an_ended_session_keeps_the_page(open_page):
    page, asked = open_page(303)

    page.get_by_role("button").click()

    expect(page.get_by_role("alert")).to_have_text("The export could not begin. Reload the page.")
    assert asked == [("HEAD", "/export/usage.csv", "zone=UTC")]


def test_export_can_be_requested_again_if_the_server_hangs(open_page):
    page, asked = open_page(429)
    hanging = []
    page.route("**/export/**", lambda route: hanging.append(route))
    page.evaluate("""() => {
      AbortSignal.timeout = () => {
        const one = new AbortController();
        window.end = () => one.abort();
        return one.signal;
      };
    }""")
    page.get_by_role("button").click()
    until(lambda: hanging)
    page.evaluate("end()")
    expect(page.get_by_role("alert")).to_have_text("Daybook did not answer. Try again in a moment.")

    page.unroute("**/export/**")
    page.get_by_role("button").click()

    expect(page.get_by_role("alert")).to_have_text(RUNNING)
    assert len(asked) == 1


def test_export_begins_once_the_server_allows_it(open_page):
    page, asked = open_page(204)

    page.get_by_role("button").click()

    expect(page).to_have_url("http://app.test/export/usage.csv?zone=UTC")
    assert [method for method, *_ in asked] == ["HEAD", "GET"]
