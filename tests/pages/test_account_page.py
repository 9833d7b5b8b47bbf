"""The page "Account": the address, the form that changes the password, and how a change ended."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest

from pages._parts import devices, passkeys, proven_actions, second_factor, words
from services import bootstrap
from services.domain import AccountRole
from services.domain.accounts import SIGN_IN_REASONS, SIGN_IN_STEPS, ProofScope, SecondFactor
from services.domain.addresses import new_placeholder
from services.domain.browsers import browser_name
from services.domain.sign_in_methods import SignInMethod
from services.domain.single_sign_on import OfferedProvider
from services.errors import FactorRequired, LastAdmin, ProofNeeded, StoreUnavailable, WrongCode
from services.store.device_names import Browser, NewDevice
from services.store.tables import schema
from tests.fakes import NOON, FakePerson, an_entry
from tests.pages.conftest import audit, html, in_dialog, press, pressed, replace_the_run
from tests.pages.test_conversation_list import undo_lines
from tests.unit.test_passkeys import LAPTOP

ID = "bGFwdG9w"  # the id of LAPTOP in forms


@pytest.fixture
def open_account(open_app, maya):
    def open_for(person=maya, **query):
        return open_app(person, **query).switch_page("pages/account.py").run()

    return open_for


def form(app, action="/account/password"):
    """Return a form and its fields by their names, each with its attributes."""
    (found,) = re.findall(rf'<form [^>]*action="{action}[?"].*?</form>', html(app), re.DOTALL)
    inputs = re.findall("<input (.*?)>", found, re.DOTALL)
    fields = [dict(re.findall(r'([\w-]+)="(.*?)"', one)) for one in inputs]
    return found, {one.get("name", ""): one for one in fields}


def said(app):
    """Return what is said of the last form, on the page and in the bar."""
    return [*(one.value for one in (*app.error, *app.info)), *undo_lines(app)]


def test_page_shows_the_address_of_the_account(open_account):
    app = open_account()

    assert [one.value for one in app.title] == ["Account"]
    assert "maya@daybook.test" in [one.value for one in app.text]
    assert said(app) == []


def test_form_asks_for_a_new_password_after_a_proof(open_account):
    _, fields = form(press(open_account(), "Change password"))

    kinds = {name: (one["type"], one["autocomplete"]) for name, one in fields.items() if name}
    assert kinds == {"password": ("password", "new-password")}
    assert fields["password"]["data-least"] == "12"
    assert "maxlength" not in fields["password"]


def test_one_line_below_the_new_password_says_what_is_wanted(open_account):
    found, fields = form(open_account(then="password"))

    assert 'id="password-rule">At least 12 characters. A short sentence works well.<' in found
    assert fields["password"]["aria-describedby"] == "password-rule"


@pytest.fixture
def later(database, maya):
    """Let the proof of the sign-in get too old."""
    database.let_pass(601)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "label",
    [
        "Change password",
        "Set up",
        "Delete account",
        "Sign out: an unknown browser",
        "Add a sign-in",
    ],
)
def test_action_asks_for_a_proof_where_the_last_one_is_old(open_account, database, maya, label):
    bootstrap.current_app().providers = (OfferedProvider("x", "X", "https://x.test"),)
    database.sign_in(maya.email, AccountRole.USER)
    app = open_account()
    assert 'class="db-form"' not in html(app)

    app = press(app, label)

    _, fields = form(app, "/proof")
    assert fields["password"]["autocomplete"] == "current-password"
    assert fields["then"]["value"] == app.query_params["then"]
    assert "/account/" not in html(app)
    assert not [one for one in app.button if one.label == label]
    press(app, "Cancel")
    assert "/proof" not in html(app)


@pytest.mark.usefixtures("later")
def test_nothing_is_done_by_itself_after_a_proof(open_account, database, maya, phone):
    then = press(open_account(), "Sign out: Safari on iPhone").query_params["then"]
    database.sign_in(maya.email, AccountRole.USER)
    database.let_pass(-601)

    app = open_account(then=then, reason="proved")

    assert len(listed(app)) == 2
    assert "then" not in app.query_params


@pytest.mark.parametrize(
    ("key", "dialog"),
    [
        ("replace-factor", second_factor.replace_dialog),
        ("new-codes", second_factor.codes_dialog),
        ("remove-factor", second_factor.remove_dialog),
        (f"remove-passkey-{ID}", passkeys.remove_passkey_dialog),
        (f"rename-passkey-{ID}", passkeys.rename_passkey_dialog),
        ("end-others", devices.others_dialog),
        ("ask-passkey", second_factor.passkey_dialog),
    ],
)
def test_dialog_opens_after_its_proof(open_account, maya, phone, opened_dialogs, key, dialog):
    maya.sign_in_details.factor, maya.sign_in_details.passkeys = FACTOR, (LAPTOP,)

    app = open_account(then=key, reason="proved")

    assert opened_dialogs == [dialog]
    assert "then" not in app.query_params


@pytest.fixture
def opened_dialogs(monkeypatch):
    """The dialogs that a button or a proof asks for, which are not opened."""
    opened = []
    monkeypatch.setattr(proven_actions, "ask_for", lambda dialog, *_: opened.append(dialog))
    return opened


@pytest.mark.parametrize(
    "key", ["replace-factor", "new-codes", "remove-factor", f"remove-passkey-{ID}", "end-others"]
)
@pytest.mark.parametrize("is_drawn_before", [True, False])
def test_button_of_a_dialog_leads_to_the_proof(
    open_account, database, maya, phone, opened_dialogs, key, is_drawn_before
):
    """Also if the proof became too old while the page was open."""
    maya.sign_in_details.factor, maya.sign_in_details.passkeys = FACTOR, (LAPTOP,)
    if not is_drawn_before:
        database.let_pass(601)
    app = open_account()
    database.let_pass(601)

    app = pressed(app, key)

    assert form(app, "/proof")[1]["then"]["value"] == key
    assert opened_dialogs == []
    assert not app.warning


@pytest.mark.usefixtures("later")
def test_device_stays_signed_in_until_its_button_is_pressed_after_the_proof(
    open_account, database, phone
):
    database.let_pass(-601)
    app = open_account()
    database.let_pass(601)

    app = press(app, "Sign out: Safari on iPhone")
    then = form(app, "/proof")[1]["then"]["value"]
    database.let_pass(-601)

    app = open_account(then=then, reason="proved")
    assert len(listed(app)) == 2
    assert f'data-reveal="{then}"' in html(app)
    assert "Confirmed. You can make changes" in html(app)
    assert list(listed(press(app, "Sign out: Safari on iPhone"))) == ["An unknown browser"]


@pytest.mark.parametrize("name", ["password", "app", "end"])
def test_refused_form_is_open_and_says_why(open_account, name):
    app = open_account(then=name, reason="busy")

    assert said(app) == ["Nothing was changed. Daybook is busy. Try again in a minute."]
    assert f'data-reveal="{name}"' in html(app)
    assert f'?then={name}"' in html(app)


@pytest.mark.usefixtures("later")
def test_proof_asks_for_the_factor_where_there_is_one(open_account, maya):
    without = form(open_account(then="end"), "/proof")[1]
    refused = form(open_account(then="end", reason="factor"), "/proof")[
        1
    ]  # another process has added it
    maya.sign_in_details.factor = SecondFactor(since=datetime.now(UTC), codes_left=8)
    shown = form(open_account(then="end"), "/proof")[1]

    assert "factor" not in without
    assert shown["factor"]["autocomplete"] == refused["factor"]["autocomplete"] == "one-time-code"


@pytest.mark.parametrize("page", ["account", "proof"])
def test_password_can_be_shown(open_account, database, page):
    database.let_pass(601 if page == "proof" else 0)
    found, fields = form(
        open_account(then="password"), "/proof" if page == "proof" else "/account/password"
    )

    (shown,) = re.findall('class="db-show" aria-controls="(.*?)">Show password<', found)
    assert shown.split() == [fields["password"]["id"]]


@pytest.mark.usefixtures("later")
def test_account_without_a_password_is_told_how_to_get_one(open_account, maya):
    maya.sign_in_details.has_password = False

    app = open_account(then="end")

    assert "/proof" not in html(app)
    assert any("set-password EMAIL" in one.value for one in app.markdown)


# --- devices


@pytest.fixture
def phone(database, maya):
    """Another device of Maya."""
    device = NewDevice.of(maya.keys, maya.user_id, Browser(name=browser_name("Safari/1 (iPhone)")))
    database.sign_in(maya.email, AccountRole.USER, device)
    return device


def listed(app):
    names = [one.value for one in app.text if one.value != "maya@daybook.test"]
    times = [one.value for one in app.caption if "Signed in" in one.value]
    return dict(zip(names, [one.split(" · ")[0] for one in times], strict=True))


def test_page_lists_the_devices(open_account, phone):
    app = open_account()

    assert listed(app)["An unknown browser"] == "This device"
    assert listed(app)["Safari on iPhone"].startswith("Last active ")


def test_device_is_signed_out(open_account, phone):
    app = open_account()

    press(app, "Sign out: Safari on iPhone")

    assert undo_lines(app) == ["Signed out: Safari on iPhone."]
    assert list(listed(app)) == ["An unknown browser"]
    assert not [one for one in app.button if one.label.startswith("Sign out")]


def test_all_other_devices_are_signed_out_once_that_is_confirmed(open_account, phone, maya):
    app = press(open_account(), "Sign out everywhere else")
    assert len(maya.devices.all()) == 2

    app = in_dialog(app, devices.others_dialog).run()
    press(in_dialog(app, devices.others_dialog), "Sign out")

    assert [one.is_this_one for one in maya.devices.all()] == [True]
    assert undo_lines(app) == ["Signed out on 1 device."]


def test_sign_out_whose_dialog_is_closed_meanwhile_is_told(open_account, phone, maya, monkeypatch):
    app, end_others = open_account(), maya.devices.end_others
    in_dialog(app, devices.others_dialog).run()

    def end():
        replace_the_run()
        return end_others()

    monkeypatch.setattr(maya, "devices", SimpleNamespace(all=maya.devices.all, end_others=end))
    press(in_dialog(app, devices.others_dialog), "Sign out")
    app.run()

    assert list(listed(app)) == ["An unknown browser"]
    assert undo_lines(app) == ["Signed out on 1 device."]


def test_devices_are_signed_out_after_another_proof_once_the_dialog_was_open_too_long(
    open_account, database, phone, maya
):
    app = in_dialog(open_account(), devices.others_dialog).run()
    database.let_pass(601)

    app = press(in_dialog(app, devices.others_dialog), "Sign out")

    assert form(app, "/proof")[1]["then"]["value"] == "end-others"
    assert len(maya.devices.all()) == 2


def test_password_managers_are_told_the_account(open_account, database, model):
    person = FakePerson(database, model, email='"><b>@daybook.test')

    found, fields = form(open_account(person, then="password"))

    assert fields[""]["autocomplete"] == "username"
    assert fields[""]["value"] == "&quot;&gt;&lt;b&gt;@daybook.test"
    assert "<b>" not in found


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"reason": "changed"}, "Password changed. You are signed out everywhere else."),
        ({"reason": "wrong"}, "Wrong password."),
        ({"reason": "proved"}, "Confirmed. You can make changes for the next ten minutes."),
        ({"reason": "prove"}, f"Nothing was changed. {ProofNeeded.public}"),
        ({"reason": "last-admin"}, f"Nothing was changed. {LastAdmin.public}"),
        (
            {"reason": "weak", "why": "common"},
            "Nothing was changed. This is one of the most common passwords. Choose another one.",
        ),
        (
            {"reason": "busy"},
            "Nothing was changed. Daybook is busy. Try again in a minute.",
        ),
        (
            {"reason": "slow", "wait": "300"},
            "Nothing was changed. Too many attempts. Try again in 5 minutes.",
        ),
        (
            {"reason": "unavailable"},
            "Daybook cannot reach its database. Your change may not have been saved. Try again in a moment.",
        ),
    ],
)
def test_page_says_how_a_change_ended(open_account, query, sentence):
    app = open_account()
    for name, value in query.items():
        app.query_params[name] = value

    assert said(app.run()) == [sentence]


def test_page_says_that_a_sign_out_failed_while_the_database_is_away(
    open_account, maya, monkeypatch
):
    def fail():
        raise StoreUnavailable

    monkeypatch.setattr(type(maya.devices), "all", lambda _: fail())

    told = said(open_account(reason="still-signed-in"))

    assert told[0] == (
        "You are still signed in: Daybook could not sign you out. Try again in a moment."
    )
    assert told[1:] == [StoreUnavailable.public]


@pytest.mark.usefixtures("mailer")
@pytest.mark.parametrize("reason", ["proved", "proved-in-part"])
@pytest.mark.parametrize("query", [{"then": "end"}, {"code": "new_address"}])
def test_proof_that_has_become_old_is_not_confirmed(open_account, database, reason, query):
    database.let_pass(601)

    app = open_account(reason=reason, **query)

    assert said(app) == []
    assert words.CONFIRM_IDENTITY in [one.value for one in app.header]


def test_every_refusal_of_a_change_has_a_sentence(open_account):
    app = open_account()
    for reason in set(SIGN_IN_REASONS) - {"wrong", "unavailable"}:
        app.query_params["reason"] = reason
        (sentence,) = said(app.run())
        assert sentence.startswith("Nothing was changed. ")


def test_refusal_of_a_form_that_is_gone_is_told(open_account):
    bootstrap.current_app().off = frozenset({SignInMethod.PASSWORD})

    app = open_account(then="password", reason="busy")

    assert said(app) == ["Nothing was changed. Daybook is busy. Try again in a minute."]


# --- the confirmation of the email

STEP = "0b0e4a8e-7c5c-4a8a-9d3f-2f6b0f6d5a11"


@pytest.fixture
def mailer(open_app):
    """Have mail set up."""
    bootstrap.current_app().mailer = SimpleNamespace()


def asks(app, action):
    return f'action="{action}"' in html(app) and 'value="confirm_address"' in html(app)


def test_nothing_is_confirmed_without_mail(open_account):
    app = open_account(code="confirm_address", step=STEP)

    assert not asks(app, "/code")
    assert not asks(app, "/code/redeem")


def test_unconfirmed_email_has_a_code_sent(open_account, mailer):
    app = open_account()

    assert any("Not confirmed" in one.value for one in app.markdown)
    assert asks(app, "/code")
    assert not asks(app, "/code/redeem")


def test_placeholder_is_to_be_changed_and_not_confirmed(open_account, mailer, maya):
    maya.email = new_placeholder()

    app = open_account()

    assert [one.value for one in app.warning] == [
        "You sign in with a placeholder, because your old email was removed from this account. "
        "Change it to your own email."
    ]
    assert "Change email" in [one.label for one in app.button]
    assert not asks(app, "/code")


def test_placeholder_stays_without_mail(open_account, maya):
    maya.email = new_placeholder()

    app = open_account()

    assert any("Keep it to sign in with." in one.value for one in app.warning)
    assert "Change email" not in [one.label for one in app.button]


def test_code_is_entered_in_a_native_form(open_account, mailer):
    app = open_account()
    for name, value in {"code": "confirm_address", "step": STEP, "reason": "wrong-code"}.items():
        app.query_params[name] = value
    app.run()

    assert asks(app, "/code/redeem")
    assert f'name="step" value="{STEP}"' in html(app)
    assert said(app) == [f"Your email was not confirmed. {WrongCode.public}"]


def test_confirmed_email_asks_for_nothing(open_account, mailer, maya):
    maya.sign_in_details.is_confirmed = True

    app = open_account()

    assert any("Confirmed" in one.value for one in app.markdown)
    assert not asks(app, "/code")


# --- another email


def new_email_forms(app):
    """Return the actions of the forms of codes and proofs that are drawn."""
    found = re.findall(r'<form [^>]*action="(.*?)".*?</form>', html(app), re.DOTALL)
    return [action for action in found if action.startswith(("/code", "/proof"))]


def test_email_changes_without_another_password_after_a_proof(open_account, mailer):
    app = press(open_account(), "Change email")

    found, fields = form(app, "/code")
    assert "email" in fields
    assert "password" not in found
    assert new_email_forms(app) == ["/code"]


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("step", ["", STEP])
def test_change_of_the_email_waits_for_a_proof(open_account, mailer, maya, step):
    """With the code that was sent, if there is one."""
    maya.sign_in_details.is_confirmed = True
    then = step or "new_address"

    app = open_account(code="new_address", step=step, reason="prove")

    assert new_email_forms(app) == ["/proof", "/code"]
    assert form(app, "/proof")[1]["then"]["value"] == then
    assert form(app, "/code")[1]["next"]["value"] == f"/account?then={then}"
    assert said(app) == []
    assert any("Then enter the code" in one.value for one in app.markdown) is bool(step)


@pytest.mark.parametrize("step", ["new_address", STEP])
def test_change_of_the_email_goes_on_after_the_proof(open_account, mailer, step):
    app = open_account(then=step, reason="proved")

    assert said(app) == ["Confirmed. You can make changes for the next ten minutes."]
    if step == STEP:
        assert new_email_forms(app) == ["/code/redeem", "/code"]
        assert f'name="step" value="{STEP}"' in html(app)
        assert "db-sent-to" in html(app)
    else:
        assert new_email_forms(app) == ["/code"]
        assert "email" in form(app, "/code")[1]
    press(app, "Cancel")
    assert "then" not in app.query_params


# --- two-step verification

FACTOR = SecondFactor(since=datetime(2026, 11, 20, 12, tzinfo=UTC), codes_left=8)


def forms_of_factor(app):
    return re.findall(r'action="(/account/factor.*?)"', html(app))


def test_two_step_verification_is_set_up_in_a_native_form(open_account):
    app = press(open_account(), "Set up")
    found, fields = form(app, "/account/factor")

    assert ">Show setup key</button>" in found
    assert fields["once"]["value"] == form(app.run(), "/account/factor")[1]["once"]["value"]


@pytest.mark.parametrize(
    ("left", "sentence"),
    [(10, "10 of 10 left"), (4, "4 of 10 left"), (3, "3 of 10 left. Make new ones soon.")],
)
def test_page_says_how_many_recovery_codes_are_left(open_account, maya, left, sentence):
    maya.sign_in_details.factor = replace(FACTOR, codes_left=left)

    app = open_account()

    captions = [one.value for one in app.caption]
    assert sentence in captions
    assert any(one.startswith("Added 20 Nov") for one in captions)
    assert not forms_of_factor(app)


def test_recovery_codes_are_renewed_after_a_question(open_account, maya):
    maya.sign_in_details.factor = FACTOR
    forms = []
    for _ in range(2):
        app = in_dialog(open_account(), second_factor.codes_dialog, uuid4()).run()
        assert any("old codes stop working" in one.value for one in app.markdown)
        forms.append(form(app, "/account/factor/codes")[1])

    assert forms[0]["others"]["type"] == "checkbox"
    assert forms[0]["once"]["value"] != forms[1]["once"]["value"]


def test_authenticator_app_is_replaced_after_a_question(open_account, maya):
    maya.sign_in_details.factor = FACTOR
    form_id = uuid4()

    app = in_dialog(open_account(), second_factor.replace_dialog, form_id).run()

    assert any("keep working until you enter a code" in one.value for one in app.markdown)
    assert form(app, "/account/factor/replace")[1]["once"]["value"] == str(form_id)


def test_two_step_verification_is_turned_off_after_a_question(open_account, maya):
    maya.sign_in_details.factor = FACTOR

    app = in_dialog(open_account(), second_factor.remove_dialog).run()

    found, fields = form(app, "/account/factor/remove")
    assert 'class="db-danger">Turn off<' in found
    assert fields["others"]["type"] == "checkbox"


FORM_ID = uuid4()


@pytest.mark.parametrize(
    ("dialog", "args", "has_app", "asks_passkey", "action"),
    [
        (second_factor.remove_dialog, (False,), True, False, "/account/factor/remove"),
        (second_factor.remove_dialog, (True,), True, True, "/account/factor/remove"),
        (
            second_factor.passkey_dialog,
            (False, FORM_ID),
            False,
            True,
            "/account/factor/passkey/off",
        ),
        (second_factor.passkey_dialog, (False, FORM_ID), True, True, "/account/factor/passkey/off"),
        (passkeys.remove_passkey_dialog, (LAPTOP, True), False, True, "/passkey/remove"),
        (passkeys.remove_passkey_dialog, (LAPTOP, False), True, True, "/passkey/remove"),
    ],
)
@pytest.mark.parametrize("is_required", [True, False])
def test_dialog_says_that_the_last_required_step_stays(
    open_account, maya, monkeypatch, dialog, args, has_app, asks_passkey, action, is_required
):
    monkeypatch.setattr(maya, "factor_rule", SimpleNamespace(is_required=lambda: is_required))
    factor = replace(FACTOR, asks_passkey=asks_passkey)
    maya.sign_in_details.factor = factor if has_app else replace(factor, since=None)

    app = in_dialog(open_account(), dialog, *args).run()

    is_refused = is_required and has_app is not asks_passkey
    assert any(FactorRequired.public in one.value for one in app.markdown) is is_refused
    assert (f'action="{action}?then=' in html(app)) is not is_refused


def test_page_says_that_two_step_verification_is_off(open_account):
    app = open_account()
    app.query_params["reason"] = "factor-removed"

    assert said(app.run()) == [
        "Two-step verification is off. Signing in asks for no code from your app any more."
    ]


PASSKEY = SecondFactor(since=None, codes_left=10, asks_passkey=True)


@pytest.mark.parametrize("is_on", [True, False])
def test_passkey_after_the_password_is_switched_after_a_question(open_account, maya, is_on):
    maya.sign_in_details.passkeys = (LAPTOP,)
    maya.sign_in_details.factor = None if is_on else PASSKEY

    app = open_account()

    assert [(one.label, one.value) for one in app.toggle if "passkey" in one.key] == [
        ("Ask for a passkey as my second step", not is_on)
    ]
    form_id = uuid4()
    app = in_dialog(app, second_factor.passkey_dialog, is_on, form_id).run()
    path = "/account/factor/passkey" if is_on else "/account/factor/passkey/off"
    _, fields = form(app, path)
    assert fields["once"]["value"] == str(form_id)
    assert fields["others"]["type"] == "checkbox"


@pytest.mark.usefixtures("later")
def test_passkey_after_the_password_is_switched_after_a_proof_alone(
    open_account, maya, opened_dialogs
):
    maya.sign_in_details.passkeys = (LAPTOP,)
    maya.sign_in_details.factor = PASSKEY
    app = open_account()
    assert "Asked for as your second step" in [one.value for one in app.caption]

    app.toggle(key="Ask for a passkey as my second step").set_value(False).run()

    assert opened_dialogs == []
    _, fields = form(app, "/proof")
    assert fields["factor"]["placeholder"].startswith("XXXX")


def test_account_without_passkeys_has_no_switch(open_account):
    assert not [one for one in open_account().toggle if "passkey" in one.key]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (
            "app-removed",
            "Signing in asks for no code from your app any more. It still asks for a passkey as your second step.",
        ),
        ("passkey-asked", "Signing in now asks for a passkey as your second step."),
        ("passkey-not-asked", "Signing in no longer asks for a passkey as your second step."),
    ],
)
def test_page_says_how_two_step_verification_changed(open_account, reason, sentence):
    assert said(open_account(reason=reason)) == [sentence]


# --- a proof by a code


def proves(app, action):
    found = re.findall(rf'<form [^>]*action="{action}".*?</form>', html(app), re.DOTALL)
    return [one for one in found if 'value="prove"' in one]


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(("is_confirmed", "has_mail"), [(True, True), (True, False), (False, True)])
def test_proof_by_a_code_wants_mail_and_a_confirmed_email(
    open_account, maya, is_confirmed, has_mail
):
    maya.sign_in_details.is_confirmed = is_confirmed
    bootstrap.current_app().mailer = SimpleNamespace() if has_mail else None

    app = open_account(then="end")

    assert form(app, "/proof")
    assert len(proves(app, "/code")) == (is_confirmed and has_mail)


@pytest.mark.usefixtures("later", "mailer")
def test_account_without_a_password_proves_itself_by_a_code(open_account, maya):
    maya.sign_in_details.is_confirmed, maya.sign_in_details.has_password = True, False

    app = open_account(then="end")

    assert "/proof" not in html(app)
    assert not any("set-password EMAIL" in one.value for one in app.markdown)
    (send,) = proves(app, "/code")
    assert 'name="next" value="/account?then=end"' in send


@pytest.mark.usefixtures("later", "mailer")
@pytest.mark.parametrize("reason", ["", "wrong-code"])
def test_code_of_a_proof_is_entered_in_place_of_the_password(open_account, maya, reason):
    maya.sign_in_details.is_confirmed = True

    app = open_account(code="prove", step=STEP, reason=reason)

    (redeem,) = proves(app, "/code/redeem")
    assert f'name="step" value="{STEP}"' in redeem
    assert "/proof" not in html(app)
    (sentence,) = said(app)
    assert sentence == WrongCode.public if reason else "We sent a code" in sentence


# --- records, export, deletion


def test_recent_activity_is_read_once_it_is_asked_for(open_account, database, maya):
    later, change = NOON + timedelta(minutes=1), an_entry(1, "role.set", role=["user", "admin"])
    here = NewDevice.of(maya.keys, maya.user_id, Browser(name="Firefox on Linux"))
    database.ledger.usage.changes = [
        replace(an_entry(2, "proof.fail", count=3), actor=None),
        replace(an_entry(3, "enrolment.fail", count=1), actor=None, target=None),
        replace(
            an_entry(4, "recovery.use"), actor="You", session=here.session_id, device=here.sealed
        ),
        replace(change, at=later),
        *(an_entry(5, step) for step in SIGN_IN_STEPS),
    ]
    app = open_account()
    assert "Role changed" not in html(app)

    rows = audit(app.toggle(key="show-activity").set_value(True).run())

    assert [(row["Action"], row["By"]) for row in rows] == [
        ("Role changed (Role: user → admin)", "ruth@daybook.test"),
        ("Identity not confirmed: wrong password or code (Attempts: 3)", "Unknown"),
        ("Wrong code for a new authenticator app (Attempts: 1)", "You"),
        ("Recovery code used", "You, in Firefox on Linux"),
    ]
    assert rows[0].keys() == {"Time", "Action", "By"}


def test_page_exports_everything(open_account):
    found, fields = form(open_account(), "/export/everything.zip")

    assert "Export everything" in found
    assert "zone" in fields


def test_account_is_deleted_by_its_address_and_no_password(open_account):
    found, fields = form(press(open_account(), "Delete account"), "/account/end")

    assert list(fields) == ["address"]
    assert 'data-person="' in found  # the browser then drops the user's drafts
    assert "Type “delete”" not in found
    assert "<label>Type your email to confirm<input" in found


@pytest.mark.usefixtures("later", "mailer")
def test_deletion_waits_for_the_code_of_a_proof(open_account, maya):
    maya.sign_in_details.is_confirmed = True

    page = html(open_account(code="prove", step=STEP))

    assert "/account/end" not in page


def test_address_of_another_account_deletes_nothing_and_is_told(open_account):
    app = open_account(then="end", reason="email")

    assert said(app) == ["Your account was not deleted. Enter the email of this account."]
    parts = [one.type for one in app.main]
    assert "error" not in parts[: -parts[::-1].index("header")]
    assert form(app, "/account/end")


# --- methods that are off


@pytest.mark.usefixtures("mailer")
def test_password_is_not_changed_where_passwords_are_off(open_account):
    assert form(open_account(then="password"), "/account/password")
    bootstrap.current_app().off = frozenset({SignInMethod.PASSWORD})

    assert "/account/password" not in html(open_account(then="password"))


@pytest.mark.usefixtures("later", "mailer")
def test_code_proves_nothing_where_codes_are_off(open_account, maya):
    maya.sign_in_details.is_confirmed = True
    bootstrap.current_app().off = frozenset({SignInMethod.CODE})

    assert proves(open_account(then="end"), "/code") == []


@pytest.mark.usefixtures("mailer")
@pytest.mark.parametrize(
    ("off", "sentence"),
    [
        ([], "you can reset your password with a code"),
        ([SignInMethod.PASSWORD], "you can sign in with a code"),
        ([SignInMethod.CODE], "We will email you a code."),
    ],
)
def test_confirmation_says_what_it_is_good_for(open_account, off, sentence):
    bootstrap.current_app().off = frozenset(off)

    assert any(sentence in one.value for one in open_account().markdown)


@pytest.mark.usefixtures("mailer")
def test_email_of_a_provider_is_changed_by_an_admin(open_account, maya):
    maya.is_of_provider = True

    for app in (open_account(), open_account(code="new_address")):
        assert not any(one.label == "Change email" for one in app.button)
        assert "new_address" not in html(app)
        assert "Change password" not in [one.label for one in app.button]
        assert any("Your organization manages this email" in one.value for one in app.caption)


@pytest.mark.usefixtures("mailer")
@pytest.mark.parametrize("takes_back", [True, False])
def test_news_of_another_email_says_if_it_can_be_taken_back(open_account, takes_back):
    bootstrap.current_app().off = frozenset(() if takes_back else (SignInMethod.CODE,))

    [news] = [one.value for one in open_account(reason="moved").info]

    assert ("can undo this for three days" in news) is takes_back


# --- a proof in part


@pytest.fixture
def in_part(database, maya):
    """A proof by a provider that does not say when its user signed in."""
    maya.sign_in_details.has_password = False

    def change(block):
        for one in block.select(schema.SESSIONS):
            block.put(schema.SESSIONS, replace(one, scope=ProofScope.PART))

    database.tables.run(change)


_PART = "but not for this change."


@pytest.mark.usefixtures("in_part")
def test_proof_in_part_offers_what_it_covers(open_account, database, maya, phone):
    assert ">Add password</button>" in form(open_account(then="password"))[0]
    assert form(open_account(then="app"), "/account/factor")
    assert form(open_account(then="end"), "/account/end")
    _, fields = form(open_account(then="passkey"), "/passkey")
    assert fields["use"]["value"] == "add"
    assert "others" not in fields

    app = press(open_account(), "Sign out: Safari on iPhone")

    assert len([one for one in app.markdown if _PART in one.value]) == 1
    # the page of a proof offers nothing else
    assert not any("this page" in text.value for text in app.markdown)
    assert words.CONFIRM_IDENTITY in [one.value for one in app.header]
    assert len(maya.devices.all()) == 2


@pytest.mark.usefixtures("in_part")
@pytest.mark.parametrize("is_of_provider", [True, False])
def test_proof_in_part_names_only_ways_that_there_are(open_account, maya, is_of_provider):
    maya.is_of_provider = is_of_provider

    app = open_account(then="end-others")
    said_so = [one for one in app.markdown if "Confirm another way" in one.value]

    assert bool(said_so) is not is_of_provider


@pytest.mark.usefixtures("in_part")
def test_proof_in_part_changes_no_password_and_no_factor(open_account, maya):
    maya.sign_in_details.has_password = True
    maya.sign_in_details.factor = SecondFactor(since=None, codes_left=8, asks_passkey=True)

    for name in ("password", "app", "new-codes", "ask-passkey"):
        app = open_account(then=name)
        assert "/account/" not in html(app).replace("/account?then", "")
        assert 'action="/proof"' in html(app)


@pytest.mark.usefixtures("in_part")
def test_email_is_changed_after_a_full_proof_alone(open_account):
    bootstrap.current_app().mailer = SimpleNamespace()

    app = open_account(code="new_address", reason="proved-in-part")

    assert said(app) == ["Confirmed, but not for all changes."]
    assert len([one for one in app.markdown if _PART in one.value]) == 1
    assert "New email" not in html(app)


@pytest.mark.parametrize("is_full", [True, False])
def test_page_says_nothing_of_parts_elsewhere(open_account, database, is_full):
    database.let_pass(0 if is_full else 601)

    assert not [one for one in open_account().markdown if _PART in one.value]
