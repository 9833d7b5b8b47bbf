"""The page Account: the devices of a user, a proof that is too old, and what ends the other devices."""

from playwright.sync_api import expect

from tests.journeys.people import PASSWORD
from tests.journeys.seeds import age_proofs


def form(tab, action):
    return tab.page.locator(f'form[action="{action}"]')


def devices(tab):
    return tab.page.locator('[class*="st-key-device-"]')


def test_old_session_proves_itself_and_signs_out_the_other_devices(app, person):
    maya, lost, other = person(), person(), person()
    maya.arrives()
    for one in (lost, other):
        one.email = maya.email
        one.signs_in()
    age_proofs(app)

    maya.visit("/account")
    expect(devices(maya)).to_have_count(3)
    expect(devices(maya).first).to_contain_text("Chrome on Linux")
    expect(maya.page.get_by_role("button", name="Sign out everywhere else")).to_have_count(0)
    form(maya, "/proof").get_by_label("Password").fill("not my password")
    maya.page.keyboard.press("Enter")
    maya.sees("Wrong password.")
    form(maya, "/proof").get_by_label("Password").fill(PASSWORD)
    maya.page.keyboard.press("Enter")
    maya.sees("You can make changes for the next ten minutes.")

    maya.page.get_by_role("button", name="Sign out: Chrome on Linux").first.click()
    expect(devices(maya)).to_have_count(2)
    maya.page.get_by_role("button", name="Sign out everywhere else").click()
    maya.page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
    expect(devices(maya)).to_have_count(1)
    for one in (lost, other):
        one.is_asked_to_sign_in()  # their tabs hear of it by themselves
    maya.visit()
    maya.is_welcome()
    assert maya.complaints() == []
