"""Visibility between users: two people, an admin, a signed-out visitor, and two processes."""

import re
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import ADMIN
from tests.journeys.people import SECONDS
from tests.journeys.seeds import database
from tests.stack.apps import until

SLOWLY = "[[tokens=40 rate=12]]"
UNKNOWN = "This chat does not exist."


@pytest.fixture
def maya(person):
    maya = person()
    maya.arrives()
    return maya


@pytest.fixture
def omar(person):
    omar = person("omar")
    omar.arrives()
    return omar


def test_two_people_side_by_side(maya, omar):
    maya.asks(f"Maya's garden {SLOWLY}")
    omar.asks(f"Omar's boat {SLOWLY}")
    for each, own, other in ((maya, "garden", "boat"), (omar, "boat", "garden")):
        each.hears_all_of(re.compile("word1 .*word40"))
        expect(each.rows).to_have_count(1)
        expect(each.rows).to_contain_text([own])
        assert other not in each.page.content()


def test_anothers_conversation_is_like_none(maya, omar):
    maya.asks("The key is under the flowerpot")
    maya.hears_all_of("You said:")

    def seen(name):
        omar.visit(f"/?c={name}")
        omar.sees(UNKNOWN)
        for part in (".st-key-sidebar-top", ".st-key-search", ".st-key-account-menu"):
            expect(omar.page.locator(part)).to_be_visible()
        omar.sees_no_reply_coming()
        return omar.page.locator("body").aria_snapshot()

    names = maya.conversation_id, uuid4(), "nonsense"
    until(lambda: len({seen(name) for name in names}) == 1)  # once all of each is drawn
    assert "flowerpot" not in omar.page.content()


def test_a_deep_link_leads_through_sign_in(maya):
    maya.asks("A place to come back to")
    maya.hears_all_of("You said:")
    link = maya.page.url.removeprefix(maya.url)
    maya.signs_out()

    maya.visit(link)
    maya.enters("/session", maya.email, "not the password")
    maya.sees("Wrong e-mail or password.")
    maya.enters("/session", maya.email)

    maya.hears("You said: A place to come back to")
    assert maya.page.url == maya.url + link


def test_a_session_that_expired_ends_at_the_sign_in_page(app, maya):
    maya.asks("Here")
    maya.hears_all_of("You said: Here")
    with database(app) as rows:
        rows.execute(
            "update private.app_sessions set expires_at = now() - interval '1 second' where user_id ="
            " (select id from auth.users where email = %s)",
            [maya.email],
        )

    maya.is_signed_out_before_long()
    expect(maya.rows).to_have_count(0)
    maya.enters("/session", maya.email)
    maya.is_welcome()
    expect(maya.rows).to_have_text(["Here"])


def expire(app, maya):
    """Her session expires, and the app has noticed."""
    with database(app) as rows:
        rows.execute(
            "update private.app_sessions set expires_at = now() - interval '1 second' where user_id ="
            " (select id from auth.users where email = %s)",
            [maya.email],
        )
    beside = maya.new_tab()
    beside.visit()
    beside.is_signed_out_before_long()


def revoke(app, maya):
    """Her session is ended, and not by her browser, which keeps the cookie."""
    (cookie,) = (each for each in maya.context.cookies() if each["name"] == "__Host-sid")
    headers = {"cookie": f"__Host-sid={cookie['value']}"}
    httpx.post(f"{app.url}/session/end", headers=headers, timeout=SECONDS, trust_env=False)


def begin_to_write(maya):
    """Something stands in the composer. Returns the page's address."""
    for prompt in ("Here", "There"):  # after the first the page would wait for a title
        maya.asks(prompt)
        maya.hears_all_of(f"You said: {prompt}")
    maya.composer.fill("A letter to Bergen")
    return maya.page.url


def is_back(maya, address):
    expect(maya.composer).to_have_value("A letter to Bergen")
    assert maya.page.url == address
    assert maya.texts()[-1] == "You said: There"


def test_a_session_that_ends_while_somebody_writes_costs_a_sign_in_and_no_word(app, maya):
    address = begin_to_write(maya)
    expire(app, maya)

    maya.sends()
    maya.sees("You were signed out before this was sent.")
    maya.enters("/session", maya.email)

    is_back(maya, address)
    maya.sends()
    maya.hears_all_of("You said: A letter to Bergen")


def test_so_does_one_that_ends_before_a_click(app, maya):
    address = begin_to_write(maya)
    revoke(app, maya)

    with maya.page.expect_navigation():  # the cookie might have opened another session
        maya.page.locator(".st-key-new-chat button").click()
    maya.sees("You were signed out. Sign in to continue where you were")
    maya.enters("/session", maya.email)

    is_back(maya, address)


def test_another_person_who_signs_in_there_sees_neither_place_nor_text(app, maya, omar):
    begin_to_write(maya)
    revoke(app, maya)
    maya.sends()
    maya.sees("You were signed out before this was sent.")

    maya.enters("/session", omar.email)

    maya.is_welcome()
    maya.sees("Ask anything.")
    expect(maya.composer).to_have_value("")
    assert maya.page.url == f"{maya.url}/"
    expect(maya.rows).to_have_count(0)
    assert "Bergen" not in maya.page.content()


def test_the_first_account_sees_what_everybody_used_and_others_get_nothing(person, maya):
    maya.asks("Count me in")
    maya.hears_all_of("You said:")
    admin = person("admin")
    admin.email = ADMIN
    admin.signs_in()

    admin.page.locator(".st-key-account-menu button").click()
    admin.page.get_by_role("link", name="Users").click()
    expect(admin.page.locator(".st-key-usage-table")).to_contain_text(maya.email)
    assert "Count me in" not in admin.page.content()

    maya.visit("/admin")
    maya.sees_no_reply_coming()
    expect(maya.page.locator(".st-key-usage-table")).to_have_count(0)
    assert ADMIN not in maya.page.content()
