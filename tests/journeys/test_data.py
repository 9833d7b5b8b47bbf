"""The pages "Your data" and "Account": layers, clearing, the export, and deleting the account while a reply streams."""

import json
from zipfile import ZipFile

from playwright.sync_api import expect

from tests.journeys.people import DESK, FOR_EVER
from tests.journeys.seeds import addresses
from tests.stack.apps import until


def test_data_is_exported_and_deleted_with_the_account(app, person):
    maya = person()
    maya.arrives()
    maya.asks("How do I prune a pear?")
    maya.hears_all_of("You said: How do I prune a pear?")
    maya.composer.fill("And a plum?")
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Your data").click()
    layers = maya.page.get_by_role("group", name="Where your data is")
    expect(layers).to_contain_text("1 unsent draft")
    expect(layers).to_contain_text("2 messages")

    with maya.page.expect_download() as download:
        maya.page.get_by_role("button", name="Export everything", exact=True).click()
    with ZipFile(download.value.path()) as archive:
        assert json.loads(archive.read("manifest.json"))["counts"]["messages"] == 2
    other = maya.new_tab()
    other.visit()
    other.is_welcome()
    other.composer.fill("And a cherry?")
    until(lambda: "cherry" in other.stored())
    maya.page.get_by_role("button", name="Clear this browser").click()
    maya.page.get_by_role("dialog").get_by_role("button", name="Clear this browser").click()
    maya.sees("This browser is cleared.")
    expect(layers).to_contain_text("0 unsent drafts")
    assert "plum" not in maya.stored()
    expect(other.composer).to_have_value("")

    other.asks(f"Go on. {FOR_EVER}")
    other.hears("word2")
    maya.page.set_viewport_size({"width": 1280, "height": 600})
    maya.page.get_by_role("button", name="Clear server memory").click()
    expect(maya.page.get_by_text("A reply is still coming")).to_be_in_viewport()
    maya.page.set_viewport_size(DESK)
    maya.page.get_by_role("link", name="Manage or delete your account").click()
    maya.page.get_by_role("button", name="Delete account").click()
    form = maya.page.locator('form[action^="/account/end"]')
    expect(form.get_by_label("Your email")).to_be_focused()
    form.get_by_label("Your email").fill("omar@daybook.test")
    form.get_by_role("button", name="Delete account").click()
    maya.sees("Enter the email of this account.")
    form.get_by_label("Your email").fill(maya.email)

    held = []
    maya.page.route("**/account/end*", lambda route: held.append(route))
    clear = ".st-key-show-activity input"
    maya.page.evaluate(
        f"setInterval(() => document.querySelector('{clear}')?.click(), 100)"
    )  # the page must learn that the session has ended before the answer arrives
    with maya.page.expect_request("**/account/end*"):
        form.get_by_role("button", name="Delete account").dispatch_event("click")
    [route] = until(lambda: other.page.title() and held)
    answer = route.fetch(max_redirects=0)
    other.is_signed_out_before_long()
    route.fulfill(response=answer)
    maya.sees("Your account has been deleted.")
    maya.is_asked_to_sign_in()
    until(lambda: maya.email not in addresses(app))
    assert maya.complaints() == []
