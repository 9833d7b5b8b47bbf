"""The page Account: notices of other devices until they are dismissed, failed attempts, export and deletion."""

from zipfile import ZipFile

from playwright.sync_api import expect

from tests.journeys.people import DESK, PHONE

NEW_SIGN_IN = "New sign-in to your account"
WRONG_PROOF = "Identity not confirmed: wrong password or code"


def notices(tab):
    return tab.page.locator('[class*="st-key-notice-"]')


def test_account_tells_of_a_second_browser_and_of_failures_until_it_ends(app, person):
    maya, phone = person(), person()
    maya.arrives()
    expect(notices(maya)).to_have_count(0)
    maya.asks("Hello [[tokens=3]]")
    maya.hears_all_of("word3")
    chat = maya.page.url

    phone.email = maya.email
    phone.signs_in()

    maya.is_told(NEW_SIGN_IN, "/usage")
    expect(notices(maya)).to_contain_text(["Chrome on Linux"])
    maya.page.set_viewport_size(PHONE)
    maya.visit(chat.removeprefix(maya.url))
    for name in ("link", "button"):  # the chat's title does not lie on them
        notices(maya).get_by_role(name).click(trial=True)
    maya.page.set_viewport_size(DESK)
    phone.visit("/account")
    expect(phone.page.get_by_role("heading", name="Devices")).to_be_visible()
    expect(notices(phone)).to_have_count(0)
    notices(maya).get_by_role("link", name="Account").click()
    expect(maya.page.get_by_role("heading", name="Devices")).to_be_visible()
    dismiss = notices(maya).get_by_role("button", name="Dismiss")
    dismiss.focus()
    maya.page.keyboard.press("Enter")
    expect(notices(maya)).to_have_count(0)
    expect(maya.page.locator("main :focus")).to_have_count(1)

    for _ in range(2):
        wrong = {"password": "not the password"}
        maya.context.request.post(f"{maya.url}/proof", form=wrong, max_redirects=0)
    maya.visit("/.well-known/change-password")
    expect(maya.page).to_have_url(f"{maya.url}/account")
    expect(maya.page.get_by_role("heading", name="Devices")).to_be_visible()
    expect(notices(maya)).to_have_count(0)
    maya.page.get_by_text("Show changes and failed attempts").click()
    maya.sees("Account created")
    expect(maya.page.locator("tr", has_text=WRONG_PROOF)).to_contain_text("Attempts: 2")
    maya.page.set_viewport_size(PHONE)
    table = maya.page.locator(".st-key-audit-table .db-grid")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth")

    with maya.page.expect_download() as download:
        maya.page.get_by_role("button", name="Export everything", exact=True).click()
    with ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
    maya.page.get_by_role("button", name="Delete account").click()
    form = maya.page.locator('form[action^="/account/end"]')
    form.get_by_label("Your email").fill(maya.email)
    form.get_by_role("button", name="Delete account").click()
    maya.sees("Your account has been deleted.")
    maya.is_asked_to_sign_in()
    phone.is_signed_out_before_long()
    assert maya.complaints() == []
    assert phone.complaints() == []
