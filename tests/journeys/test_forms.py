"""Forms that the browser posts: the scripts of the page alone."""

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS

FORM = """
  <form method="post" action="/proof"><button>Confirm</button></form>
  <form method="post" action="/passkey" data-passkey="get"><input name="step"><input name="answer"></form>"""
# counts the posts that the browser would send
COUNT = """() => {
  window.posts = 0;
  addEventListener("submit", (event) => {
    if (!event.defaultPrevented) posts += 1;
    event.preventDefault();
  });
}"""


@pytest.fixture
def page(browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/*", lambda route: route.fulfill(body=FORM, content_type="text/html"))
        page.goto("https://app.test/")
        for name in ("_shared.js", "passkey.js", "temporary.js"):
            script = (_ASSETS / "page" / name).read_text("utf-8")
            page.add_script_tag(content=f"{{{script}}}")
        page.evaluate(COUNT)
        yield page


def test_form_is_posted_once(page):
    """The browser would drop the response to the first post, and with it a new cookie."""
    page.get_by_role("button", name="Confirm").dblclick()
    assert page.evaluate("[posts, daybook.isPosting()]") == [1, True]

    page.evaluate("dispatchEvent(new Event('pageshow'))")
    page.get_by_role("button", name="Confirm").click()

    assert page.evaluate("posts") == 2


def test_refused_passkey_leaves_the_page_as_before(page):
    page.route("**/passkey/options", lambda route: route.abort())

    page.evaluate("document.querySelector('[data-passkey]').requestSubmit()")

    expect(page.get_by_role("alert")).to_contain_text("Daybook did not answer")
    assert page.evaluate("[posts, daybook.isPosting()]") == [0, False]
