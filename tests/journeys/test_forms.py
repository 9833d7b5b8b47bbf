"""Forms that the browser posts, and the field of a title: the scripts of the page alone."""

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS

FORM = """
  <form method="post" action="/proof"><button>Confirm</button></form>
  <form method="post" action="/passkey" data-passkey="get"><input name="step"><input name="answer"></form>
  <div class="st-key-editing-title">
    <input aria-label="Title"><div class="st-key-leave-title"><button onclick="window.isLeft = true">Cancel</button></div>
  </div>"""
# counts the posts that the browser would send
COUNT = """() => {
  window.posts = 0;
  addEventListener("submit", (event) => {
    if (!event.defaultPrevented) posts += 1;
    event.preventDefault();
  });
}"""

# ends the editing of the title, shows a theme that was chosen on another page, and returns the theme that the page then has
CHOOSE = """async (kept) => {
  document.querySelector(".st-key-editing-title").remove();
  document.body.insertAdjacentHTML("beforeend", `<p class="${kept}"></p><i data-theme="dark"></i>`);
  for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
  return localStorage["daybook-theme"];
}"""


@pytest.fixture
def page(browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/*", lambda route: route.fulfill(body=FORM, content_type="text/html"))
        page.goto("https://app.test/")
        for name in ("_shared.js", "passkey.js", "temporary.js", "theme.js", "title.js"):
            script = (_ASSETS / "page" / name).read_text("utf-8")
            page.add_script_tag(content=f"{{{script}}}")
        page.evaluate(COUNT)
        yield page


def test_form_is_posted_once(page):
    """The browser would drop the response to the first post, and with it a new cookie."""
    page.get_by_role("button", name="Confirm").dblclick()
    assert page.evaluate("[posts, daybook.isPosting()]") == [1, True]

    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    assert not page.evaluate("daybook.isPosting()")
    page.get_by_role("button", name="Confirm").click()

    assert page.evaluate("posts") == 2


@pytest.mark.parametrize("kept", ["temporary-sign", "invitation-link"])
def test_chosen_theme_waits_for_what_a_reload_would_lose(page, kept):
    assert page.evaluate(CHOOSE, f"st-key-{kept}") is None

    with page.expect_navigation():
        page.evaluate("(kept) => document.querySelector(kept).remove()", f".st-key-{kept}")


def test_chosen_theme_does_not_cancel_a_posted_form(page):
    page.get_by_role("button", name="Confirm").click()

    assert page.evaluate(CHOOSE, "") is None


def test_refused_passkey_leaves_the_page_as_before(page):
    page.route("**/passkey/options", lambda route: route.abort())

    page.evaluate("document.querySelector('[data-passkey]').requestSubmit()")

    expect(page.get_by_role("alert")).to_contain_text("Daybook did not answer")
    assert page.evaluate("[posts, daybook.isPosting()]") == [0, False]


def test_title_stays_open_while_another_window_has_the_focus(page):
    field = page.get_by_role("textbox", name="Title")
    field.fill("Peas")
    lose = """(field) => {
      let isHeard = false;
      field.parentElement.addEventListener("focusout", () => isHeard = true, { once: true });
      field.dataset.was = field.value;
      field.dispatchEvent(new FocusEvent("focusout", { bubbles: true }));
      return [isHeard, window.isLeft === true];
    }"""

    page.evaluate("document.hasFocus = () => false")
    assert field.evaluate(lose) == [False, False]
    page.evaluate("document.hasFocus = () => true")
    assert field.evaluate(lose) == [True, True]
