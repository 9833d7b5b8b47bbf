"""Forms that the browser posts, and the field of a title: the scripts of the page alone."""

import pytest
from playwright.sync_api import expect

from pages._parts.form_fields import email_field, password_field
from services.errors import AddressNotPlain, BadAddress, WeakPassword
from services.web.page_assets import _ASSETS

FORM = """
  <form method="post" action="/proof"><button>Confirm</button></form>
  <form method="post" action="/passkey" data-passkey="get"><input name="step"><input name="answer"></form>
  <div class="st-key-editing-title">
    <input aria-label="Title"><div class="st-key-leave-title"><button onclick="window.isLeft = true">Cancel</button></div>
  </div>"""
PASSWORDS = """
  <form method="post" action="/account">
    <input type="password" id="old" name="old"><input type="password" id="new" name="new">
    <button type="button" class="db-show" aria-controls="old new">Show password</button>
    <button>Save</button>
  </form>"""
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


@pytest.mark.parametrize("kept", ["edit-prompt", "edit-reply", "editing-fact", "refusal"])
def test_chosen_theme_waits_for_what_is_being_written(page, kept):
    dismiss = '<p class="st-key-dismiss-1"></p>' if kept == "refusal" else ""
    page.evaluate(
        "(html) => document.body.insertAdjacentHTML('beforeend', html)",
        f'<div id="kept" class="st-key-{kept}-1 st-key-{kept}">{dismiss}</div>',
    )
    assert page.evaluate(CHOOSE, "") is None

    with page.expect_navigation():
        page.evaluate("document.querySelector('#kept').remove()")


def test_chosen_theme_waits_until_undo_is_hidden(page):
    page.add_style_tag(path=_ASSETS / "style.css")
    page.evaluate("""document.body.insertAdjacentHTML(
      "beforeend", '<div class="st-key-undo"><p class="st-key-undo-1">Deleted</p></div>')""")
    assert page.evaluate(CHOOSE, "") is None

    with page.expect_navigation():
        page.evaluate("for (const one of document.getAnimations()) one.finish()")


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["undo-1", "undo-2", "undo-3"], ["undo-1"]),
        (["undo-news-0", "undo-1", "undo-2"], ["undo-news-0", "undo-1"]),
    ],
)
def test_bar_shows_the_newest_action_that_can_be_undone(page, lines, shown):
    page.add_style_tag(path=_ASSETS / "style.css")
    bar = "".join(f'<div><p id="{line}" class="st-key-{line}">Deleted</p></div>' for line in lines)
    page.evaluate(
        "(bar) => document.body.insertAdjacentHTML('beforeend', bar)",
        f'<div class="st-key-undo">{bar}</div>',
    )

    assert [line for line in lines if page.locator(f"#{line}").is_visible()] == shown


@pytest.mark.parametrize(
    ("email", "password", "name", "sentence"),
    [
        ("maya@daybook", "A short sentence.", "email", BadAddress.public),
        ("víctim@daybook.test", "A short sentence.", "email", AddressNotPlain.public),
        ("Maya@daybook.test", "elevenchars", "password", WeakPassword("short").public),
        ("Maya@daybook.test", "é" * 513, "password", WeakPassword("long").public),
        ("Maya@daybook.test", "A short sentence.", None, ""),
    ],
)
def test_email_and_length_of_a_password_are_checked_before_sending(
    page, email, password, name, sentence
):
    fields = email_field() + password_field("Password", "new-password")
    page.evaluate(
        "(form) => (document.body.innerHTML = form)",
        f'<form class="db-form" method="post">{fields}<button type="submit">Create</button></form>',
    )
    page.add_script_tag(content=f"{{{(_ASSETS / 'page' / 'check.js').read_text('utf-8')}}}")
    page.locator("[name=email]").fill(email)
    page.locator("[name=password]").fill(password)

    page.locator("[name=password]").press("Enter")

    refused = page.locator(":invalid:not(form)")
    assert [field.get_attribute("name") for field in refused.all()] == ([name] if name else [])
    assert (
        page.evaluate("document.querySelector(':invalid:not(form)')?.validationMessage ?? ''")
        == sentence
    )
    assert page.evaluate("posts") == (0 if name else 1)
    assert not name or page.evaluate("document.activeElement.name") == name


@pytest.mark.parametrize(("reason", "kept"), [("wrong", "maya@daybook.test"), ("left", None)])
def test_entered_address_is_kept_for_a_refused_form_alone(page, reason, kept):
    page.goto(f"https://app.test/?reason={reason}")
    page.evaluate("sessionStorage['daybook-address'] = 'maya@daybook.test'")
    for name in ("_shared.js", "address.js"):
        script = (_ASSETS / "page" / name).read_text("utf-8")
        page.add_script_tag(content=f"{{{script}}}")

    assert page.evaluate("sessionStorage.getItem('daybook-address')") == kept


def test_kept_choices_of_a_reset_are_restored_when_drawn_again(page):
    page.add_script_tag(content=f"{{{(_ASSETS / 'page' / 'kept.js').read_text('utf-8')}}}")
    draw = """async () => {
      document.body.innerHTML = `<div class="db-kept">
        <input type="checkbox" name="app" checked><input type="checkbox" name="passkey" checked></div>`;
      for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
    }"""
    page.evaluate(draw)
    page.locator("[name=app]").uncheck()

    page.evaluate(draw)

    expect(page.locator("[name=app]")).not_to_be_checked()
    expect(page.locator("[name=passkey]")).to_be_checked()


def test_chosen_theme_does_not_cancel_a_posted_form(page):
    page.get_by_role("button", name="Confirm").click()

    assert page.evaluate(CHOOSE, "") is None


def test_password_is_shown_and_hidden_when_it_is_sent(page):
    page.evaluate("(html) => { document.body.innerHTML = html }", PASSWORDS)
    page.add_script_tag(content=f"{{{(_ASSETS / 'page' / 'password.js').read_text('utf-8')}}}")
    types = "[...document.querySelectorAll('input')].map(({ type }) => type).join(' ')"
    page.locator("#new").fill("too short")

    page.get_by_role("button", name="Show password").click()

    assert page.evaluate(types) == "text text"
    expect(page.locator("#new")).to_have_value("too short")
    page.get_by_role("button", name="Hide password").click()
    assert page.evaluate(types) == "password password"
    page.get_by_role("button", name="Show password").click()
    page.get_by_role("button", name="Save").click()
    assert page.evaluate(f"[posts, {types}]") == [1, "password password"]
    expect(page.get_by_role("button", name="Show password")).to_be_visible()


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
