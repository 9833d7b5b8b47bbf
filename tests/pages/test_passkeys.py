"""Passkeys on screen: the forms that use one, and the list on the page Account."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pages._parts import passkeys, proven_actions
from services import bootstrap
from services.domain import AccountRole
from services.domain.accounts import SecondFactor
from services.domain.passkeys import MOST_PASSKEYS, Passkey
from services.domain.sign_in_methods import SignInMethod
from services.errors import LastWayIn, PasskeyCopied, PasskeysUnusable, TooManyPasskeys
from tests.pages.conftest import captions, html, in_dialog, keys, pressed, refusals
from tests.pages.test_conversation_list import undo_lines

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
LAPTOP = Passkey(
    credential_id=b"\xff\xfe laptop",
    public_key=b"key",
    sign_count=0,
    rp_id="daybook.test",
    name="My *laptop* <b>",
    created_at=NOON,
)
PHONE = replace(LAPTOP, credential_id=b"phone", name="Phone", is_synced=True, last_used_at=NOON)
OLD = replace(LAPTOP, credential_id=b"old", name="Tablet", rp_id="old.daybook.test")
ID = "__4gbGFwdG9w"  # the id of LAPTOP in forms


@pytest.fixture
def open_account(open_app, maya):
    def open_with(*each, **query):
        maya.sign_in_details.passkeys = each
        return open_app(maya, **query).switch_page("pages/account.py").run()

    return open_with


@pytest.fixture
def later(database, maya):
    """Let the proof of the sign-in get too old."""
    database.let_pass(601)
    database.sign_in(maya.email, AccountRole.USER)


def forms(app, kind):
    """Return the fields of the forms that passkey.js serves, by their uses."""
    found = re.findall(rf'<form [^>]*data-passkey="{kind}".*?</form>', html(app), re.DOTALL)
    fields = [dict(re.findall(r'name="(\w+)"(?: value="(.*?)")?', one)) for one in found]
    assert all(re.search(r'<button type="submit"[^>]* hidden>', one) for one in found)
    return {one["use"]: one for one in fields}


def turn_off():
    bootstrap.current_app().off = frozenset({SignInMethod.PASSKEY})


def test_sign_in_page_offers_passkeys(open_app):
    app = open_app(None, s="1")

    fields = forms(app, "get")["sign_in"]
    assert fields == {"use": "sign_in", "next": "/?s=1", "step": "", "answer": ""}


def test_sign_in_page_offers_no_passkeys_that_are_off(open_app):
    turn_off()

    assert forms(open_app(None), "get") == {}


def test_refused_passkey_is_told_on_the_sign_in_page(open_app):
    app = open_app(None, reason="passkey-copied")

    assert [one.value for one in app.error] == [PasskeyCopied.public]


def test_passkeys_are_listed_with_what_they_are(open_account):
    app = open_account(LAPTOP, PHONE, OLD)

    texts = [one.value for one in app.text]
    assert {"My *laptop* <b>", "Phone", "Tablet"} <= {*texts}
    assert [one for one in texts if one.startswith("Works at")] == [
        "Works at old.daybook.test only, not at this address."
    ]
    said = captions(app)
    assert "Not used yet · On one device" in said
    assert re.search(r"Added .* · Last used .* · Synced between devices", said)
    assert "No passkeys yet." not in said


def test_passkey_is_added_with_the_name_of_the_browser(open_account):
    app = open_account(then="passkey")

    fields = forms(app, "create")["add"]
    assert (fields["passkey_name"], fields["next"], fields["others"]) == (
        "Passkey",
        "/account?then=passkey",
        "yes",
    )
    assert "No passkeys yet." in captions(app)


def test_suggested_name_is_not_taken(open_account):
    taken = (replace(LAPTOP, credential_id=n.encode(), name=n) for n in ("Passkey", "Passkey 2"))
    app = open_account(*taken, then="passkey")

    assert forms(app, "create")["add"]["passkey_name"] == "Passkey 3"


@pytest.mark.usefixtures("later")
def test_passkeys_are_changed_after_a_proof_alone(open_account):
    app = pressed(open_account(LAPTOP), "open-passkey")

    assert forms(app, "create") == {}
    assert not [key for key in keys(app) if "passkey" in key]
    assert forms(app, "get")["proof"]["next"] == "/account?then=passkey"
    buttons = re.findall(r'<button type="submit"(.*?)>(.*?)</button>', html(app))
    assert buttons[:2] == [(" hidden", "Confirm with a passkey"), (' class="db-second"', "Confirm")]


@pytest.mark.usefixtures("later")
def test_proof_offers_no_passkey_of_another_address(open_account):
    assert forms(open_account(OLD, then="passkey"), "get") == {}


@pytest.mark.usefixtures("later")
def test_user_of_a_provider_alone_proves_by_no_passkey(open_account, maya):
    maya.is_of_provider = True

    assert forms(open_account(LAPTOP, then="passkey"), "get") == {}


@pytest.mark.parametrize("is_of_provider", [True, False])
def test_passkeys_of_a_provider_alone_are_a_second_step(open_account, maya, is_of_provider):
    maya.is_of_provider = is_of_provider

    said = [one.value for one in open_account(LAPTOP).markdown]

    assert any("A passkey can be your second step" in one for one in said) is is_of_provider


@pytest.mark.usefixtures("later")
def test_user_with_a_passkey_alone_can_prove(open_account, maya):
    maya.sign_in_details.has_password = False

    app = open_account(LAPTOP, then="passkey")

    assert not [text.value for text in app.markdown if "set-password" in text.value]


def test_user_with_all_passkeys_adds_none(open_account):
    app = open_account(*(replace(LAPTOP, credential_id=bytes([n])) for n in range(MOST_PASSKEYS)))

    assert "open-passkey" not in keys(app)
    assert TooManyPasskeys.public in captions(app)


def test_page_at_an_ip_address_says_to_open_localhost(open_account):
    bootstrap.current_app().public_url = "http://192.0.2.1"

    app = open_account(LAPTOP)

    assert "open-passkey" not in keys(app)
    assert PasskeysUnusable.public in captions(app)


def test_passkeys_that_are_off_can_be_removed_alone(open_account):
    turn_off()

    assert f"remove-passkey-{ID}" in keys(open_account(LAPTOP))
    assert "open-passkey" not in keys(open_account(LAPTOP))
    assert not any("Sign in with" in one.value for one in open_account(LAPTOP).markdown)
    assert "Passkeys" not in [one.value for one in open_account().header]


@pytest.mark.parametrize(
    ("dialog", "action"),
    [(passkeys.rename_passkey_dialog, "rename"), (passkeys.remove_passkey_dialog, "remove")],
)
def test_dialog_is_about_one_passkey(open_account, dialog, action):
    app = in_dialog(open_account(LAPTOP, PHONE), dialog, LAPTOP).run()

    (found,) = re.findall(
        rf'<form [^>]*action="/passkey/{action}[?"].*?</form>', html(app), re.DOTALL
    )
    assert f'name="passkey" value="{ID}"' in found
    assert f'action="/passkey/{action}?then={action}-passkey-{ID}"' in found
    assert ("My *laptop* &lt;b&gt;" in found) is (action == "rename")
    assert ('name="others"' in found) is (action == "remove")


def test_last_way_in_has_a_reason_and_no_button(open_account, maya):
    maya.sign_in_details.last_way = LAPTOP

    app = open_account(LAPTOP, PHONE)

    assert 'action="/passkey/remove?' in html(pressed(app, "remove-passkey-cGhvbmU"))
    app = pressed(open_account(LAPTOP, PHONE), f"remove-passkey-{ID}")
    assert 'action="/passkey/remove?' not in html(app)
    assert LastWayIn.public in [one.value for one in app.markdown]


@pytest.mark.parametrize("is_last_step", [True, False])
def test_dialog_says_that_no_second_step_is_left(open_account, is_last_step):
    dialog = passkeys.remove_passkey_dialog
    app = in_dialog(open_account(LAPTOP), dialog, LAPTOP, is_last_step)

    texts = [one.value for one in app.run().markdown]

    assert any("no second step" in one for one in texts) is is_last_step


@pytest.mark.parametrize(
    ("asks_passkey", "has_app", "others", "is_last_step"),
    [
        (True, False, (), True),
        (False, False, (), False),
        (True, True, (), False),
        (True, False, (PHONE,), False),
    ],
)
def test_last_passkey_of_the_second_step_is_known(
    open_account, maya, monkeypatch, asks_passkey, has_app, others, is_last_step
):
    since = NOON if has_app else None
    factor = SecondFactor(since=since, codes_left=10, asks_passkey=asks_passkey)
    maya.sign_in_details.factor = factor if asks_passkey or has_app else None
    asked = []
    monkeypatch.setattr(proven_actions, "ask_for", lambda *values: asked.append(values))

    open_account(LAPTOP, *others).button(key=f"remove-passkey-{ID}").click().run()

    assert asked == [(passkeys.remove_passkey_dialog, LAPTOP, is_last_step)]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("passkey-added", "Passkey added."),
        ("passkey-removed", "Passkey removed."),
        ("last-passkey-removed", "Passkey removed. Two-step verification is off"),
    ],
)
def test_outcome_is_said(open_account, reason, said):
    (line,) = undo_lines(open_account(reason=reason))

    assert line.startswith(said)


@pytest.mark.parametrize("act", ["rename", "remove"])
def test_refused_dialog_is_open_and_says_why(open_account, act):
    app = open_account(LAPTOP, PHONE, then=f"{act}-passkey-{ID}", reason="busy")

    assert f'action="/passkey/{act}?then={act}-passkey-{ID}"' in html(app)
    assert refusals(app) == ["Nothing was changed. Daybook is busy. Try again in a minute."]
    assert not app.error

    app = pressed(app, "remove-passkey-cGhvbmU")

    assert 'action="/passkey/remove?then=remove-passkey-cGhvbmU"' in html(app)
    assert refusals(app) == []


def test_refusal_of_a_dialog_that_is_gone_is_told(open_account):
    app = open_account(then=f"rename-passkey-{ID}", reason="busy")

    assert refusals(app) == ["Nothing was changed. Daybook is busy. Try again in a minute."]
