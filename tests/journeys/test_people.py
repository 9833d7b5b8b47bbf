"""Visibility between users: two users, an admin, and a user who signs in after another in the same browser."""

from contextlib import suppress
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Error, expect

from services.crypto import sha
from services.domain import AccountRole
from services.domain.accounts import SignUps
from tests.journeys.admins import look_after
from tests.journeys.conftest import ADMIN
from tests.journeys.people import FOR_EVER, PASSWORD, SECONDS
from tests.journeys.seeds import end_sessions, second_process

UNKNOWN = "This chat does not exist."


@pytest.fixture
def omar(person):
    omar = person("omar")
    omar.arrives()
    return omar


def test_anothers_conversation_is_like_none(maya, omar):
    maya.asks(f"The key is under the flowerpot {FOR_EVER}")
    omar.asks("Omar's boat")
    omar.hears_all_of("You said: Omar's boat")
    expect(omar.rows).to_have_text(["Omar's boat"])

    def seen(name):
        omar.visit(f"/?c={name}")
        omar.sees(UNKNOWN)
        for part in (".st-key-sidebar-top", ".st-key-search", ".st-key-account-menu"):
            expect(omar.page.locator(part)).to_be_visible()
        expect(omar.page.get_by_role("button", name="Start a new chat")).to_be_visible()
        omar.sees_no_reply_coming()
        return omar.page.locator("main").aria_snapshot()

    known = seen("nonsense")
    for name in (maya.conversation_id, uuid4()):
        assert seen(name) == known
    assert "flowerpot" not in omar.page.content()
    maya.stops()


def revoke(app, maya):
    """End her session without her browser, which keeps the cookie."""
    (cookie,) = (each for each in maya.context.cookies() if each["name"] == "__Host-sid")
    headers = {"cookie": f"__Host-sid={cookie['value']}"}
    httpx.post(f"{app.url}/session/end", headers=headers, timeout=SECONDS, trust_env=False)


def test_ended_session_costs_a_sign_in_and_no_word(app, maya, omar):
    for prompt in ("Here", "There"):  # after the first prompt, the page would wait for a title
        maya.asks(prompt)
        maya.hears_all_of(f"You said: {prompt}")
    address = maya.page.url

    def is_back():
        expect(maya.composer).to_have_value("A letter to Bergen")
        assert maya.page.url == address
        assert maya.texts()[-1] == "You said: There"
        maya.sees_no_reply_coming()

    # otherwise the tab would learn of it by a poll first
    maya.page.route("**/poll?*", lambda route: route.abort())
    maya.composer.fill("A letter to Bergen")
    end_sessions(app, maya.email)
    maya.sends()
    maya.sees("You were signed out before this was sent.")
    maya.enters("/session", maya.email)
    is_back()

    end_sessions(app, maya.email)
    maya.sends()
    maya.sees("You were signed out before this was sent.")
    other = maya.new_tab()
    other.visit()
    other.enters("/session", maya.email)  # a second sign-in in the first tab would end this session
    is_back()
    other.page.close()

    revoke(app, maya)
    # the process asks once a minute for ended sessions, and may have closed the tab's connection first
    with suppress(Error):
        maya.page.locator(".st-key-new-chat button").click(timeout=5000)
    maya.sees("You were signed out. Sign in to continue where you were")
    maya.enters("/session", maya.email)
    is_back()

    end_sessions(app, maya.email)
    maya.sends()
    maya.sees("You were signed out before this was sent.")
    maya.enters("/session", omar.email)  # Omar sees neither the place nor the text
    maya.is_welcome()
    maya.sees("Ask anything.")
    expect(maya.composer).to_have_value("")
    assert maya.page.url == f"{maya.url}/"
    expect(maya.rows).to_have_count(0)
    assert "Bergen" not in maya.page.content()


@pytest.mark.long_run
def test_first_account_sees_usage_and_sets_limits(person, maya):
    maya.asks("Count me in")
    maya.hears_all_of("You said:")
    admin = person("admin")
    admin.email = ADMIN
    admin.signs_in()

    admin.page.locator(".st-key-account-menu button").click()
    admin.page.get_by_role("menuitem", name="Admin").click()
    admin.sees("Active users")
    look_after(admin, maya)


@pytest.fixture
def sign_ups_end_open(app):
    """Restore open sign-ups for other journeys."""
    yield
    with second_process(app) as accounts:
        _, admin = accounts.sign_in_with(ADMIN, PASSWORD)
        admin.backend.administration.set_sign_ups(SignUps.OPEN)


@pytest.mark.long_run
@pytest.mark.usefixtures("sign_ups_end_open")
def test_invited_user_signs_up_by_the_link(person):
    admin, ada = person("admin"), person("ada")
    admin.email = ADMIN
    admin.signs_in()
    admin.visit("/admin?tab=Sign-ups")
    admin.page.get_by_text("By invitation", exact=True).click()
    admin.page.get_by_label("Email (optional)").fill(ada.email)
    admin.page.get_by_role("button", name="Create invitation").click()
    link = admin.page.locator(".st-key-invitation-link code")
    expect(link).to_contain_text(f"{admin.url}/?invite=")
    address = link.inner_text()

    ada.visit("/?invite=mistyped")
    ada.enters("/account", ada.email)
    ada.sees("This invitation code is not valid.")
    expect(ada.page.locator('form[action="/account"] input[name="invite"]')).to_have_value(
        "mistyped"
    )
    ada.visit(address.removeprefix(admin.url))
    ada.enters("/account", ada.email)
    ada.is_welcome()

    assert ada.page.url == f"{ada.url}/"
    admin.page.reload()
    expect(admin.page.locator(".st-key-invitations-table")).to_contain_text("Used")


@pytest.mark.long_run
@pytest.mark.usefixtures("sign_ups_end_open")
@pytest.mark.parametrize("mode", [SignUps.OPEN, SignUps.INVITED])
def test_mailed_code_makes_an_invited_admin(app, person, mode):
    code, kim = uuid4().hex, person("kim")
    with second_process(app) as accounts:
        _, admin = accounts.sign_in_with(ADMIN, PASSWORD)
        admin.backend.administration.set_sign_ups(mode)
        admin.backend.administration.invite(sha(code), kim.email, AccountRole.ADMIN)

    kim.visit()
    kim.enters_invitation(code)
    expect(kim.page.locator('form[action="/account"] [name="email"]')).to_have_value(kim.email)
    kim.enters("/account", kim.email)
    kim.is_welcome()

    kim.page.locator(".st-key-account-menu button").click()
    expect(kim.page.get_by_role("menuitem", name="Admin")).to_be_visible()
