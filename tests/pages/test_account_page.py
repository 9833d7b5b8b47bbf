"""The page "Account": the address, the form that changes the password, and how a change ended."""

import re
from types import SimpleNamespace

import pytest

from services import bootstrap
from services.domain.accounts import SIGN_IN_REASONS
from services.errors import WrongCode
from tests.fakes import FakePerson
from tests.pages.conftest import html


@pytest.fixture
def open_account(open_app, maya):
    def open_for(person=maya, **query):
        return open_app(person, **query).switch_page("pages/account.py").run()

    return open_for


def form(app):
    """Return the form and its fields by their names, each with its attributes."""
    (found,) = re.findall(r'<form [^>]*action="/account/password".*?</form>', html(app), re.DOTALL)
    inputs = re.findall("<input (.*?)>", found, re.DOTALL)
    fields = [dict(re.findall(r'([\w-]+)="(.*?)"', one)) for one in inputs]
    return found, {one.get("name", ""): one for one in fields}


def said(app):
    return [one.value for one in (*app.error, *app.info)]


def test_page_shows_the_address_of_the_account(open_account):
    app = open_account()

    assert [one.value for one in app.title] == ["Account"]
    assert "maya@daybook.test" in [one.value for one in app.text]
    assert said(app) == []


def test_form_asks_for_the_current_and_a_new_password(open_account):
    _, fields = form(open_account())

    kinds = {name: (one["type"], one["autocomplete"]) for name, one in fields.items() if name}
    assert kinds == {
        "current": ("password", "current-password"),
        "password": ("password", "new-password"),
    }
    assert fields["password"]["minlength"] == "12"
    assert "maxlength" not in fields["password"]


def test_one_line_below_the_new_password_says_what_is_wanted(open_account):
    found, fields = form(open_account())

    assert 'id="password-rule">At least 12 characters. A short sentence works well.<' in found
    assert fields["password"]["aria-describedby"] == "password-rule"


def test_both_passwords_can_be_shown(open_account):
    found, fields = form(open_account())

    (shown,) = re.findall('class="db-show" aria-controls="(.*?)">Show password<', found)
    assert shown.split() == [fields["current"]["id"], fields["password"]["id"]]


def test_password_managers_are_told_the_account(open_account, database, model):
    person = FakePerson(database, model, email='"><b>@daybook.test')

    found, fields = form(open_account(person))

    assert fields[""]["autocomplete"] == "username"
    assert fields[""]["value"] == "&quot;&gt;&lt;b&gt;@daybook.test"
    assert "<b>" not in found


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"reason": "changed"}, "Password changed. You are signed out everywhere else."),
        (
            {"reason": "wrong"},
            "Your password was not changed. The current password is wrong.",
        ),
        (
            {"reason": "weak", "why": "common"},
            "Your password was not changed. "
            "This is one of the most common passwords. Choose another one.",
        ),
        (
            {"reason": "busy"},
            "Your password was not changed. Daybook is busy. Try again in a minute.",
        ),
        (
            {"reason": "slow", "wait": "300"},
            "Your password was not changed. Too many attempts. Try again in 5 minutes.",
        ),
    ],
)
def test_page_says_how_a_change_ended(open_account, query, sentence):
    app = open_account()
    for name, value in query.items():
        app.query_params[name] = value

    assert said(app.run()) == [sentence]


def test_every_refusal_of_a_change_has_a_sentence(open_account):
    app = open_account()
    for reason in SIGN_IN_REASONS:
        app.query_params["reason"] = reason
        (sentence,) = said(app.run())
        assert sentence.startswith("Your password was not changed. ")


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


def test_code_is_entered_in_a_native_form(open_account, mailer):
    app = open_account()
    for name, value in {"code": "confirm_address", "step": STEP, "reason": "wrong-code"}.items():
        app.query_params[name] = value
    app.run()

    assert asks(app, "/code/redeem")
    assert f'name="step" value="{STEP}"' in html(app)
    assert said(app) == [f"Your email was not confirmed. {WrongCode.public}"]


def test_confirmed_email_asks_for_nothing(open_account, mailer, maya):
    maya.is_confirmed = True

    app = open_account()

    assert any("Confirmed" in one.value for one in app.markdown)
    assert not asks(app, "/code")
