"""Sign-ins of other providers on the sign-in page, in the list of the page Account, and in proofs."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from services import bootstrap
from services.domain.single_sign_on import Identity, LinkedIdentity, OfferedProvider
from services.errors import LastWayIn
from tests.pages.test_account_page import later as later
from tests.pages.test_account_page import open_account as open_account

CORP = OfferedProvider("corp", "Corp <SSO>", "https://sso.corp.example")
MINE = LinkedIdentity(
    identity=Identity(CORP.issuer, "7f3c"),
    name="maya@corp.example",
    created_at=datetime(2026, 5, 1, tzinfo=UTC),
)


@pytest.fixture
def offered(open_app):
    open_app(None)
    bootstrap.current_app().providers = (CORP,)


def html(app):
    return "".join(one.value for one in app.get("html"))


def texts(app):
    return [one.value for one in app.text]


def test_sign_in_page_has_a_link_for_each_provider(open_app, offered):
    shown = html(open_app(None, c="some-id", invite="pear"))

    assert 'href="/oidc/corp?next=%2F%3Fc%3Dsome-id&amp;invite=pear" target="_self"' in shown
    assert "Continue with Corp &lt;SSO&gt;</a>" in shown


def test_sign_in_page_without_providers_has_no_link(open_app):
    assert "/oidc/" not in html(open_app(None))


def test_signed_out_user_is_led_to_the_provider(open_app, offered):
    assert 'href="/oidc/corp/end" target="_self"' in html(open_app(None, left="corp"))
    for name in ("", "other"):
        assert "/end" not in html(open_app(None, left=name))


@pytest.mark.parametrize("purpose", ["link_identity", "address_of_identity"])
def test_code_of_a_provider_is_entered_on_the_sign_in_page(open_app, offered, purpose):
    step = "7f3c0000-0000-0000-0000-000000000000"
    bootstrap.current_app().mailer = SimpleNamespace()

    shown = html(open_app(None, code=purpose, step=step))

    assert f'name="purpose" value="{purpose}"' in shown
    assert f'name="step" value="{step}"' in shown
    # the tab knows the address that was entered in it, not that of the provider's answer
    assert ("db-sent-to" in shown) is (purpose == "address_of_identity")


def test_account_lists_sign_ins_and_changes_them_after_a_proof(open_account, later, maya, offered):
    maya.sign_in_details.identities = (MINE,)
    app = open_account()
    assert "Corp <SSO>: maya@corp.example" in texts(app)

    app.button(key="open-identity").click().run()

    assert 'action="/oidc/corp/link"' not in html(app)
    assert 'action="/oidc/corp/prove"' in html(app)
    assert 'name="then" value="identity"' in html(app)


def test_account_offers_what_can_be_added(open_account, maya, offered):
    app = open_account(then="identity")

    assert 'action="/oidc/corp/link"' in html(app)
    assert 'action="/oidc/corp/prove"' not in html(app)


def test_sign_in_is_removed_after_a_question(open_account, maya, offered):
    maya.sign_in_details.identities = (MINE,)
    app = open_account()
    app.button(key=f"remove-{MINE.identity.mark}").click().run()

    assert 'action="/identity/remove?' in html(app)
    assert f'name="identity" value="{MINE.identity.mark}"' in html(app)


def test_sign_in_is_renamed_in_a_dialog(open_account, maya, offered):
    maya.sign_in_details.identities = (replace(MINE, name="My <b>"),)
    app = open_account()
    app.button(key=f"rename-{MINE.identity.mark}").click().run()

    assert 'action="/identity/rename?' in html(app)
    assert f'name="identity" value="{MINE.identity.mark}"' in html(app)
    assert 'name="identity_name" value="My &lt;b&gt;" required' in html(app)
    assert 'data-limit="60"' in html(app)


def test_account_says_when_each_sign_in_was_added_and_used(open_account, maya, offered):
    used = replace(MINE, last_used_at=datetime(2026, 5, 2, 12, tzinfo=UTC))
    other = replace(MINE, identity=Identity(CORP.issuer, "other"))
    maya.sign_in_details.identities = (used, other)

    first, second = (one.value for one in open_account().caption if one.value.startswith("Added "))

    assert re.fullmatch(r"Added 1 May, .* · Last used 2 May, .*", first)
    assert re.fullmatch(r"Added 1 May, .* · Not used yet", second)


def test_account_without_providers_says_nothing_of_them(open_account):
    app = open_account()

    assert "Sign-in providers" not in [one.value for one in app.header]


def test_sign_in_of_a_provider_that_is_gone_can_be_removed(open_account, maya):
    maya.sign_in_details.identities = (MINE,)

    app = open_account()

    assert not app.exception
    assert "No longer available: maya@corp.example" in texts(app)
    app.button(key=f"remove-{MINE.identity.mark}").click().run()
    assert 'action="/identity/remove?' in html(app)


def test_last_way_in_has_a_reason_and_no_button(open_account, maya, offered):
    maya.sign_in_details.identities, maya.sign_in_details.last_way = (MINE,), MINE

    app = open_account().button(key=f"remove-{MINE.identity.mark}").click().run()

    assert 'action="/identity/remove?' not in html(app)
    assert LastWayIn.public in [one.value for one in app.markdown]
