"""The page Account: a new password, entered by keyboard, and the sessions that it ends."""

from playwright.sync_api import expect

from tests.journeys.people import PASSWORD, PHONE

NEW_PASSWORD = "another horse, another battery"


def form(tab):
    return tab.page.locator('form[action="/account/password"]')


def enters(tab, current, password):
    """Fill in the form and send it, by keyboard."""
    form(tab).get_by_label("Current password").focus()
    for text, key in ((current, "Tab"), (password, "Enter")):
        tab.page.keyboard.type(text)
        tab.page.keyboard.press(key)


def test_new_password_signs_out_everywhere_else_and_replaces_the_old_one(person):
    maya, elsewhere = person(), person()
    maya.arrives()
    elsewhere.email = maya.email
    elsewhere.signs_in()
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("link", name="Account", exact=True).click()
    expect(maya.page.locator("main").get_by_text(maya.email)).to_be_visible()

    enters(maya, "not my password", NEW_PASSWORD)
    maya.sees("The current password is wrong.")
    enters(maya, PASSWORD, NEW_PASSWORD)
    maya.sees("Password changed. You are signed out everywhere else.")

    elsewhere.is_asked_to_sign_in()  # the other tab learns of it by itself
    elsewhere.enters("/session", maya.email)
    elsewhere.sees("Wrong email or password.")
    elsewhere.enters("/session", maya.email, NEW_PASSWORD)
    elsewhere.is_welcome()
    maya.visit()
    maya.is_welcome()


def test_both_passwords_are_shown_together_and_hidden_when_they_are_sent(person):
    maya = person(viewport=PHONE, has_touch=True)
    maya.arrives()
    maya.visit("/account")
    fields = form(maya).locator("input:visible")
    show = form(maya).get_by_role("button", name="Show password")

    show.click()

    assert [one.get_attribute("type") for one in fields.all()] == ["text", "text"]
    show = form(maya).get_by_role("button", name="Hide password")
    expect(show).to_be_visible()
    form(maya).evaluate("""form => form.addEventListener("submit", event => {
      event.preventDefault();
      form.dataset.sent = [...form.querySelectorAll("label input")].map(({ type }) => type);
    })""")
    enters(maya, PASSWORD, NEW_PASSWORD)
    expect(form(maya)).to_have_attribute("data-sent", "password,password")
