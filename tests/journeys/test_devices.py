"""The page Account: the devices of a user, a proof that is too old, and what ends the other devices."""

import re

import httpx
from playwright.sync_api import expect

from tests.journeys.people import PASSWORD
from tests.journeys.seeds import age_proofs
from tests.stack.apps import SECONDS


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
    change = maya.page.get_by_role("button", name="Change password")
    change.press("Enter")
    expect(form(maya, "/proof").get_by_label("Password").first).to_be_focused()
    maya.page.get_by_role("button", name="Cancel").press("Enter")
    expect(change).to_be_focused()
    maya.page.get_by_role("button", name="Sign out: Chrome on Linux").first.click()
    form(maya, "/proof").get_by_label("Password").fill("not my password")
    maya.page.keyboard.press("Enter")
    maya.sees("Wrong password.")
    form(maya, "/proof").get_by_label("Password").fill(PASSWORD)
    maya.page.keyboard.press("Enter")
    maya.sees("You can make changes for the next ten minutes.")
    expect(devices(maya)).to_have_count(3)  # nothing is done by itself

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


def test_other_tab_goes_on_beside_a_proof_and_a_copied_cookie_does_not(app, person):
    maya = person()
    maya.arrives()
    other = maya.new_tab()
    other.visit()
    other.asks("Tell me more [[tokens=30 rate=6]]")
    other.hears("word2")
    maya.visit("/account?then=password")
    age_proofs(app)
    maya.page.reload()
    [stolen] = [one for one in maya.context.cookies() if one["name"].endswith("sid")]
    thief = person()
    thief.context.add_cookies([stolen])
    thief.visit("/account")
    expect(devices(thief)).to_have_count(1)

    form(maya, "/proof").get_by_label("Password").fill(PASSWORD)
    maya.page.keyboard.press("Enter")
    maya.sees("You can make changes for the next ten minutes.")

    [new] = [one for one in maya.context.cookies() if one["name"].endswith("sid")]
    assert new["value"] != stolen["value"]
    other.hears_all_of(re.compile("word1 .*word30"))
    thief.is_asked_to_sign_in()  # the tab that was open, too
    other.asks("And now?")
    other.hears_all_of("You said: And now?")
    other.page.reload()
    other.is_welcome()
    copied = {"Cookie": f"{stolen['name']}={stolen['value']}"}
    asked = httpx.get(f"{app.url}/poll", headers=copied, timeout=SECONDS, trust_env=False)
    assert asked.status_code == 401
    maya.visit()
    maya.is_welcome()
    assert maya.complaints() == []


def test_signing_in_in_one_tab_is_enough_for_every_tab(app, person):
    """A second sign-in in the same browser would end the new session, and with it its temporary chat."""
    maya = person()
    maya.arrives()
    other = maya.new_tab()
    other.visit("/account")
    maya.signs_out()
    other.is_asked_to_sign_in()
    form(other, "/session").get_by_label("Password").fill("half of i")

    maya.enters("/session", maya.email)
    maya.is_welcome()
    maya.turns_to_a_temporary_chat()

    expect(devices(other)).to_have_count(1)
    maya.asks("Hello")
    maya.hears_all_of("You said: Hello")
