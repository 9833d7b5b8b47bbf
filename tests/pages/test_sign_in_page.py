"""The sign-in page, and the page during the start."""

import re
import runpy
import signal
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from pages import _session, sign_in
from pages._parts.factor import TITLE as FACTOR_TITLE
from services import bootstrap, deployment
from services.domain.accounts import SIGN_IN_REASONS, OpenInvitation, SignUps
from services.domain.mails import HAS_INVITATION, UNDO_CHANGE
from services.domain.passwords import PASSWORD_RULE
from services.domain.sign_in_methods import SignInMethod
from services.errors import (
    Misconfigured,
    StepEnded,
    StoreUnavailable,
    Suspended,
    TooManyAttempts,
    WrongCode,
    WrongCredentials,
    WrongFactor,
)
from tests.pages.conftest import ROOT, captions
from tests.pages.test_providers import CORP


def forms(app):
    return {tab.label: tab.get("html")[0].value for tab in app.tabs}


def test_signed_out_user_sees_two_forms(open_app):
    app = open_app(None)

    sign_in, create = forms(app)["Sign in"], forms(app)["Create account"]
    assert 'method="post" action="/session"' in sign_in
    assert 'method="post" action="/account"' in create
    assert 'autocomplete="current-password"' in sign_in
    assert 'autocomplete="new-password"' in create
    assert all(
        'name="email"' in form and 'name="next" value="/"' in form for form in (sign_in, create)
    )
    assert not app.chat_input
    assert not app.sidebar.children


def test_sign_in_returns_to_the_requested_address(open_app):
    app = open_app(None, c="some-id", reason="weak", wait="60", why="length")

    assert 'name="next" value="/?c=some-id"' in forms(app)["Sign in"]


def test_create_account_comes_first_without_accounts(open_app, tab):
    tab.has_accounts = False

    assert next(iter(forms(open_app(None)))) == "Create account"

    tab.has_accounts = True
    assert next(iter(forms(open_app(None)))) == "Sign in"


def test_one_line_below_a_new_password_says_what_is_wanted(open_app):
    shown = forms(open_app(None))

    rule = '<small id="password-rule">At least 12 characters. A short sentence works well.</small>'
    assert rule in shown["Create account"]
    assert 'aria-describedby="password-rule"' in shown["Create account"]
    assert PASSWORD_RULE not in shown["Sign in"]


def test_passwords_can_be_shown_and_are_never_cut(open_app):
    for form in forms(open_app(None)).values():
        assert "Show password" in form
        assert "maxlength" not in form


def test_refused_password_is_told_why_where_it_is_chosen(open_app):
    app = open_app(None, code="sign_up", reason="weak", why="common")

    create = next(tab for tab in app.tabs if tab.label == "Create account")
    assert [error.value for error in create.error] == [
        "This is one of the most common passwords. Choose another one."
    ]


@pytest.mark.parametrize("reason", ["address", "busy", "slow", "unavailable", "taken"])
@pytest.mark.parametrize("is_sign_up", [True, False])
def test_refusal_is_told_in_the_form_that_was_sent(open_app, reason, is_sign_up):
    """But a user whose email has an account goes on in the other form."""
    app = open_app(None, reason=reason, **({"code": "sign_up"} if is_sign_up else {}))

    told = [tab.label for tab in app.tabs if tab.error]
    is_about_new = is_sign_up and reason != "taken"
    assert told == ["Create account" if is_about_new else "Sign in"]


@pytest.mark.parametrize("is_admin", [True, False])
def test_first_account_is_told_that_it_will_be_the_admin(open_app, tab, is_admin):
    tab.next_is_admin = is_admin

    app = open_app(None)

    (told,) = ([one.value for one in each.caption] for each in app.tabs if "Create" in each.label)
    assert told == (["You're the first user, so you'll be the admin."] if is_admin else [])


@pytest.mark.parametrize(("mode", "is_asked"), [(SignUps.OPEN, False), (SignUps.INVITED, True)])
def test_code_is_asked_for_where_it_is_needed(open_app, tab, mode, is_asked):
    tab.sign_ups = mode
    shown = forms(open_app(None))

    assert ("Invitation code" in shown["Create account"]) is is_asked
    assert "Invitation code" not in shown["Sign in"]


def test_invitation_link_fills_the_code(open_app, tab):
    tab.sign_ups = SignUps.INVITED

    shown = forms(open_app(None, invite='a"b', c="1"))

    assert next(iter(shown)) == "Create account"
    for form in shown.values():
        assert 'name="invite" value="a&quot;b"' in form
        assert 'name="next" value="/?c=1"' in form


def test_open_invitation_fills_the_address_and_names_its_maker(open_app, tab):
    tab.invitations["code"] = OpenInvitation(
        email="omar@daybook.test", invited_by="ruth@daybook.test"
    )

    app = open_app(None, invite="code")

    assert 'value="omar@daybook.test"' in forms(app)["Create account"]
    assert "omar@daybook.test" not in forms(app)["Sign in"]
    assert [text.value for text in app.text] == ["ruth@daybook.test invites you."]
    assert tab.asked == ["code"]
    app.run()
    assert tab.asked == ["code"]


@pytest.mark.parametrize(
    ("mode", "without"),
    [(SignUps.OPEN, ", or create an account without it"), (SignUps.INVITED, "")],
)
def test_any_other_invitation_gives_one_page(open_app, tab, mode, without):
    tab.sign_ups = mode

    app = open_app(None, invite="used or made up")

    assert [one.value for one in app.warning] == [
        f"This invitation cannot be used. Ask whoever invited you for a new one{without}."
    ]
    assert HAS_INVITATION in labels(app)


@pytest.mark.parametrize("error", [TooManyAttempts(60), StoreUnavailable()])
def test_unknown_answer_about_an_invitation_is_asked_for_again(open_app, tab, error):
    opened = OpenInvitation(email="omar@daybook.test", invited_by="ruth@daybook.test")
    tab.invitations["code"] = error
    app = open_app(None, invite="code")
    assert [one.value for one in app.warning] == [
        f"The invitation could not be checked. {error.public}"
    ]

    tab.invitations["code"] = opened
    app.run()

    assert not app.warning
    assert [text.value for text in app.text] == ["ruth@daybook.test invites you."]


def test_stranger_reads_where_to_get_an_invitation(open_app, tab):
    tab.sign_ups = SignUps.INVITED

    captions = [one.value for one in open_app(None).caption]

    assert (
        "No account yet? You need an invitation: ask an admin of this Daybook for one." in captions
    )
    assert tab.asked == []


@pytest.mark.parametrize("mode", [SignUps.OPEN, SignUps.INVITED])
@pytest.mark.parametrize("off_too", [(), (SignInMethod.PASSWORD, SignInMethod.CODE)])
def test_mailed_code_leads_to_the_page_of_its_link(open_app, tab, mode, off_too):
    """Whoever has no link: in each mode, and where only a provider signs in."""
    tab.sign_ups = mode
    tab.invitations["pear"] = OpenInvitation(email="omar@daybook.test", invited_by="r@daybook.test")
    app = open_app(None, **{"c": "1", "reason": "no-invitation", '"><h2>': "2"})
    off(*off_too)
    bootstrap.current_app().providers = (CORP,)

    form = html_of(press(app.run(), HAS_INVITATION))

    assert re.search(r'<form class="db-form">\s*<input type="hidden" name="c" value="1">', form)
    assert '<input name="invite" autocomplete="off" required>' in form
    assert '"><h2>' not in form
    app = open_app(None, c="1", invite=" pear ")
    shown = html_of(app)
    assert [text.value for text in app.text] == ["r@daybook.test invites you."]
    assert HAS_INVITATION not in labels(app)
    assert 'href="/oidc/corp?next=%2F%3Fc%3D1&amp;invite=pear"' in shown
    if not off_too:
        assert 'name="invite" value="pear"' in forms(app)["Create account"]
        assert 'value="omar@daybook.test"' in forms(app)["Create account"]


@pytest.mark.parametrize("is_closed", [True, False])
def test_no_code_is_asked_for_where_no_account_needs_one(open_app, tab, is_closed):
    tab.has_accounts = is_closed
    tab.sign_ups = SignUps.CLOSED if is_closed else SignUps.OPEN
    app = open_app(None)
    bootstrap.current_app().providers = (CORP,)

    assert HAS_INVITATION not in labels(app.run())


def test_account_that_waits_for_an_invitation_is_asked_at_sign_in(open_app, tab):
    tab.sign_ups = SignUps.INVITED

    app = open_app(None, reason="uninvited", invite="old")

    assert "Invitation code" in forms(app)["Sign in"]
    assert "needs a valid invitation code" in app.error[0].value


@pytest.mark.parametrize("reason", ["", "closed", "weak"])
def test_closed_sign_ups_leave_one_form_and_a_sentence(open_app, tab, reason):
    tab.sign_ups = SignUps.CLOSED

    app = open_app(None, invite="code", reason=reason)

    assert list(forms(app)) == ["Sign in"]
    said = [*(one.value for one in app.caption), *(one.value for one in app.error)]
    assert "Sign-ups are closed. Contact your admin." in said
    assert tab.asked == []


def test_query_is_escaped_in_the_form(open_app):
    app = open_app(None, c='"><script>alert(1)</script>')

    assert "<script>" not in forms(app)["Sign in"]
    assert '"><' not in forms(app)["Sign in"].partition('name="next"')[2].partition("<label>")[0]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("wrong", "Wrong email or password."),
        ("taken", "This email already has an account. Sign in instead."),
        ("weak", "Choose a password of at least 12 characters that is not easy to guess."),
        ("weak&why=short", "This password is too short. Use at least 12 characters."),
        ("weak&why=common", "This is one of the most common passwords. Choose another one."),
        (
            "unavailable",
            "Daybook cannot reach its database. Nothing is lost. Try again in a moment.",
        ),
        ("slow&wait=300", "Too many attempts. Try again in 5 minutes."),
        ("slow&wait=x", "Too many attempts. Try again in a minute."),
        ("slow&wait=99999999", "Too many attempts. Try again in 24 hours."),
    ],
)
def test_reason_is_drawn_as_its_sentence(open_app, reason, sentence):
    query = dict(parse_qsl(f"reason={reason}"))
    assert [error.value for error in open_app(None, **query).error] == [sentence]


def test_every_reason_of_the_routes_has_a_sentence(open_app):
    for reason in SIGN_IN_REASONS:
        app = open_app(None, reason=reason)
        assert len([*app.error, *app.info]) == 1, reason


def test_page_after_the_link_of_supabase_says_what_it_did(open_app):
    followed, expired = (open_app(None, reason=f"link-{end}") for end in ("followed", "expired"))

    assert [info.value.partition(".")[0] for info in followed.info] == [
        "If you followed the link, your address is confirmed"
    ]
    assert [error.value.partition(".")[0] for error in expired.error] == [
        "This link has expired or was used before"
    ]
    assert press(expired, "Create account").query_params == {"code": "sign_up"}


def test_expired_link_offers_no_form_where_sign_ups_are_closed(open_app, tab):
    tab.sign_ups = SignUps.CLOSED

    assert not open_app(None, reason="link-expired").button


def test_unknown_reason_draws_nothing(open_app):
    assert not open_app(None, reason="![x](http://e/i)").error


# --- codes by mail

STEP = "0b0e4a8e-7c5c-4a8a-9d3f-2f6b0f6d5a11"


@pytest.fixture
def mailer(open_app):
    """Have mail set up."""
    bootstrap.current_app().mailer = SimpleNamespace()


def html_of(app):
    return "".join(one.value for one in app.get("html"))


def press(app, label):
    return next(one for one in app.button if one.label == label).click().run()


def labels(app):
    return [one.label for one in app.button]


def links_of(app):
    return [label for label in labels(app) if label != HAS_INVITATION]


LINKS = ["Sign in with a code", "Forgot your password?"]


def test_codes_are_offered_where_mail_is_set_alone(open_app):
    for query in ({}, {"code": "sign_in"}, {"code": "reset_password", "step": STEP}):
        app = open_app(None, **query)
        assert [*forms(app)] == ["Sign in", "Create account"]
        assert links_of(app) == []


@pytest.mark.parametrize(
    ("link", "purpose", "title"),
    [
        ("Sign in with a code", "sign_in", "Sign in with a code"),
        ("Forgot your password?", "reset_password", "Reset your password"),
    ],
)
def test_link_leads_to_the_form_for_the_email_and_back(open_app, mailer, link, purpose, title):
    app = open_app(None, c="some-id", reason="wrong")
    assert links_of(app) == LINKS

    app = press(app, link)

    assert [one.value for one in app.title] == [title]
    form = html_of(app)
    assert 'method="post" action="/code"' in form
    assert 'name="email"' in form
    assert f'name="purpose" value="{purpose}"' in form
    assert 'name="next" value="/?c=some-id"' in form
    assert not app.error
    app = press(app, "Back to sign in")
    assert [*forms(app)] == ["Sign in", "Create account"]


def test_change_of_address_is_undone_behind_the_forgotten_password(open_app, mailer):
    app = press(press(open_app(None), "Forgot your password?"), UNDO_CHANGE)

    assert [one.value for one in app.title] == [UNDO_CHANGE]
    assert 'name="purpose" value="restore_address"' in html_of(app)


def test_forgotten_password_is_for_the_admin_where_no_mail_is_sent(open_app):
    assert "Forgot your password? Ask your admin to reset it." in captions(open_app(None))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("left", "You are signed out."),
        ("deleted", "Your account has been deleted. Thank you for using Daybook."),
    ],
)
def test_end_of_a_session_is_told(open_app, reason, told):
    assert [one.value for one in open_app(None, reason=reason).info] == [told]


@pytest.mark.parametrize(
    ("reason", "name"),
    [("wrong", "password"), ("weak", "password"), ("taken", "email"), ("invitation", "invite")],
)
def test_field_that_was_refused_is_marked(open_app, tab, reason, name):
    tab.sign_ups = SignUps.INVITED if name == "invite" else SignUps.OPEN
    app = open_app(
        None, reason=reason, invite="abc", **{"code": "sign_up"} if name == "invite" else {}
    )

    marked = set(re.findall(r'name="(\w+)"[^>]*aria-invalid', html_of(app)))
    assert marked == {name}
    assert "aria-invalid" not in html_of(open_app(None))


@pytest.mark.parametrize("purpose", ["sign_in", "reset_password"])
def test_form_for_the_code_is_native_and_another_can_be_sent(open_app, mailer, purpose):
    app = open_app(None, c="some-id", code=purpose, step=STEP)

    redeem, _, again = html_of(app).partition("</form>")
    assert 'method="post" action="/code/redeem"' in redeem
    assert 'autocomplete="one-time-code"' in redeem
    assert 'inputmode="numeric"' in redeem
    assert ('autocomplete="new-password"' in redeem) == (purpose == "reset_password")
    assert 'action="/code"' in again
    for form in (redeem, again):
        assert f'name="step" value="{STEP}"' in form
        assert f'name="purpose" value="{purpose}"' in form
        assert 'name="next" value="/?c=some-id"' in form
    assert any("Check your spam folder" in one.value for one in app.markdown)
    assert not app.text_input


def test_refused_code_is_told_where_it_is_entered(open_app, mailer):
    app = open_app(None, code="sign_in", step=STEP, reason="wrong-code")

    assert [one.value for one in app.error] == [WrongCode.public]
    assert 'action="/code/redeem"' in html_of(app)


def test_what_is_no_step_leads_to_the_form_for_the_email(open_app, mailer):
    app = open_app(None, code="sign_in", step='"><script>')

    assert "<script>" not in html_of(app)
    assert 'action="/code/redeem"' not in html_of(app)


@pytest.mark.parametrize("purpose", ["prove", "admin", ""])
def test_purpose_without_a_sign_in_shows_the_forms_of_passwords(open_app, mailer, purpose):
    assert [*forms(open_app(None, code=purpose, step=STEP))] == ["Sign in", "Create account"]


def test_sign_up_waits_for_its_code(open_app, mailer):
    app = open_app(None, c="some-id", code="sign_up", step=STEP, reason="wrong-code")

    assert [one.value for one in app.title] == ["Confirm your email"]
    assert [one.value for one in app.error] == [WrongCode.public]
    redeem, _, again = html_of(app).partition("</form>")
    assert 'action="/code/redeem"' in redeem
    assert 'autocomplete="one-time-code"' in redeem
    for form in (redeem, again):
        assert 'name="purpose" value="sign_up"' in form
        assert f'name="step" value="{STEP}"' in form
    assert [*forms(press(app, "Back to sign in"))] == ["Sign in", "Create account"]


def test_invitation_waits_with_its_sign_up(open_app, mailer):
    app = open_app(None, code="sign_up", step=STEP, invite='a"b')

    redeem, _, again = html_of(app).partition("</form>")
    for form in (redeem, again):
        assert 'name="invite" value="a&quot;b"' in form


def test_sign_up_that_is_over_begins_anew(open_app, mailer):
    app = open_app(None, code="sign_up", reason="expired")

    assert [*forms(app)] == ["Sign in", "Create account"]
    assert [one.value for one in app.tabs[1].error] == [StepEnded.public]


def test_ended_session_shows_the_sign_in_page(open_app, maya, tab):
    app = open_app(maya)
    assert app.chat_input

    tab.person = None
    app.run()

    assert forms(app)
    assert not app.chat_input


def test_page_without_encryption_does_not_promise_it(open_app):
    bootstrap.current_app().is_plain = True

    shown = captions(open_app(None))

    assert "Messages are stored as plain text." in shown
    assert "encrypted" not in shown


def test_page_shows_progress_until_the_backend_is_ready(open_app, health):
    health.is_started, health.stage = False, "starting the database"

    app = open_app(None)

    assert [info.value for info in app.info] == ["Daybook is starting: starting the database …"]
    assert not app.tabs


def test_health_problem_is_shown_while_signed_out(open_app, health):
    health.problem = "The disk is full."

    assert [warning.value for warning in open_app(None).warning] == ["The disk is full."]


def test_server_runs_no_page_file_by_itself(monkeypatch):
    def refuse(*_):
        raise Misconfigured("not now")

    monkeypatch.setattr(deployment, "read_deployment", refuse)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(PagesManager, "uses_pages_directory", None)

    with pytest.raises(SystemExit, match="not now"):
        runpy.run_path(str(ROOT / "streamlit_app.py"), run_name="streamlit_app")

    assert PagesManager.uses_pages_directory is False


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("ended", "You were signed out. Sign in to continue where you were; your draft is kept."),
        ("suspended", "This account is suspended. Contact your admin."),
        ("deleted", "This account was deleted."),
    ],
)
def test_tab_whose_session_ended_says_why(open_app, monkeypatch, end, sentence):
    monkeypatch.setattr(type(st.user), "get", lambda self, name, default=None: end)

    app = open_app(None)

    assert [one.value for one in (*app.error, *app.info)] == [sentence]


@pytest.mark.parametrize(
    ("end", "reason", "is_restart"),
    [("deleted", "", True), (None, "deleted", True), ("ended", "", False)],
)
def test_deletion_of_the_only_account_leads_to_a_restart(
    open_app, monkeypatch, end, reason, is_restart
):
    bootstrap.current_app().is_alone = True
    bootstrap.current_app().opening = "the address in the file open-8501.txt"
    monkeypatch.setattr(type(st.user), "get", lambda self, name, default=None: end)

    shown = [one.value for one in open_app(None, reason=reason).markdown]

    assert any("Restart Daybook to begin a new account" in one for one in shown) is is_restart
    sentence = "Open the address in the file open-8501.txt. It opens your chats"
    assert any(sentence in one for one in shown) is not is_restart


def test_suspended_user_is_told_once(open_app, monkeypatch):
    monkeypatch.setattr(type(st.user), "get", lambda self, name, default=None: "suspended")

    app = open_app(None, reason="suspended")

    assert [one.value for one in app.error] == [Suspended.public]


# --- second factors


@pytest.mark.parametrize(
    ("code", "title"), [("factor", FACTOR_TITLE), ("recovery", "Enter a recovery code")]
)
def test_form_for_the_factor_is_native_and_leads_to_the_other(open_app, code, title):
    app = open_app(None, c="some-id", code=code, step=STEP)

    form = html_of(app)
    assert [one.value for one in app.title] == [title]
    assert 'method="post" action="/factor"' in form
    is_app = code == "factor"
    assert ('inputmode="numeric"' in form) is is_app
    assert ('autocomplete="one-time-code"' in form) is is_app
    for name, value in (("step", STEP), ("form", code), ("next", "/?c=some-id")):
        assert f'name="{name}" value="{value}"' in form
    assert "checkbox" not in form
    assert not app.text_input
    app = press(app, "Use a recovery code" if is_app else "Use the app")
    assert (FACTOR_TITLE in [one.value for one in app.title]) is not is_app
    assert f'name="step" value="{STEP}"' in html_of(app)
    app = press(app, "Back to sign in")
    assert [*forms(app)] == ["Sign in", "Create account"]


@pytest.mark.parametrize("by", ["passkey", "both"])
def test_form_for_a_passkey_leads_to_the_others(open_app, by):
    app = open_app(None, c="some-id", code="passkey_factor", step=STEP, by=by)

    form = html_of(app)
    assert [one.value for one in app.title] == ["Use your passkey"]
    assert 'action="/passkey" data-passkey="get"' in form
    for name, value in (("use", "factor"), ("entry", STEP), ("by", by), ("next", "/?c=some-id")):
        assert f'name="{name}" value="{value}"' in form
    assert ("Use the app" in links_of(app)) is (by == "both")
    app = press(app, "Use a recovery code")
    assert f'name="step" value="{STEP}"' in html_of(app)
    assert f'name="by" value="{by}"' in html_of(app)
    app = press(app, "Use a passkey")
    assert [one.value for one in app.title] == ["Use your passkey"]
    app = press(app, "Back to sign in")
    assert "by" not in app.query_params


def test_reset_lists_the_factor_with_its_date_ticked_to_be_kept(open_app):
    app = open_app(None, code="factor", step=STEP, added="2025-03-09")

    form = html_of(app)
    assert 'type="checkbox" name="keeps" value="yes" checked' in form
    assert "Authenticator app, added on 9 Mar 2025" in form
    assert 'name="added" value="2025-03-09"' in form


def test_reset_leaves_unticked_what_was_unticked_before_a_refusal(open_app):
    ways, gone = (
        "passkey.2025-03-09T12:30Z~identity.2025-03-10T08:05Z",
        "keeps~keeps-identity.2025-03-10T08:05Z",
    )
    query = {"added": "2025-03-09", "ways": ways, "gone": gone}

    app = open_app(None, code="factor", step=STEP, reason="wrong-factor", **query)

    form = html_of(app)
    ticked = re.findall(r'type="checkbox" name="([^"]+)" value="yes" checked>', form)
    assert (form.count("checkbox"), ticked) == (3, ["keeps-passkey.2025-03-09T12:30Z"])
    assert 'name="next" value="/"' in form
    assert "gone" not in press(app, "Back to sign in").query_params


def test_reset_lists_passkeys_and_sign_ins_with_their_dates(open_app):
    ways = (
        "passkey.2025-03-09T12:30Z~identity.2025-03-10T08:05Z~passkey.x~<script>.2025-03-09T12:30Z"
    )
    ways += "~passkey.0001-01-01T00:00+14:00"

    app = open_app(None, code="kept", step=STEP, ways=ways)

    form = html_of(app)
    for name, what in (
        ("passkey.2025-03-09T12:30Z", "Passkey, added on 9 Mar 2025, 12:30"),
        ("identity.2025-03-10T08:05Z", "Sign-in at a provider, added on 10 Mar 2025, 08:05"),
    ):
        assert f'type="checkbox" name="keeps-{name}" value="yes" checked' in form
        assert what in form
    assert form.count("checkbox") == 2
    assert "<script" not in form
    assert ">Reset password</button>" in form


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ({"code": "factor"}, "Enter the code of your authenticator app. "),
        ({"code": "recovery"}, "Enter a recovery code. "),
        ({"code": "passkey_factor", "by": "passkey"}, "Use your passkey. "),
        ({"code": "kept"}, ""),
    ],
)
def test_second_step_of_a_reset_says_that_the_password_is_not_changed_yet(open_app, query, asked):
    app = open_app(None, step=STEP, ways="passkey.2025-03-09T12:30Z", **query)

    assert [one.value for one in app.title] == ["Reset your password"]
    assert f"{asked}Your password changes after this step." in [one.value for one in app.markdown]
    if "by" not in query:
        assert ">Reset password</button>" in html_of(app)


@pytest.mark.parametrize(
    ("query", "has_factor"),
    [
        ({"code": "passkey_factor", "by": "passkey"}, True),
        ({"code": "factor", "added": "2025-03-09"}, True),
        ({"code": "kept"}, False),
    ],
)
def test_reset_says_that_no_second_step_may_be_left(open_app, query, has_factor):
    app = open_app(None, step=STEP, ways="passkey.2025-03-09T12:30Z", **query)

    assert ("two-step verification ends" in html_of(app)) is has_factor


def test_what_is_no_date_is_not_shown(open_app):
    form = html_of(open_app(None, code="factor", step=STEP, added='"><script>'))

    assert "script" not in form
    assert "checkbox" not in form


def test_refused_factor_is_told_and_recovery_codes_are_named_when_it_has_to_wait(open_app):
    wrong = open_app(None, code="factor", step=STEP, reason="wrong-factor")
    slow = open_app(None, code="factor", step=STEP, reason="slow", wait="60")

    assert [one.value for one in wrong.error] == [WrongFactor.public]
    assert any("recovery code works at once" in one.value for one in slow.markdown)
    app = press(slow, "Use a recovery code")
    assert not app.error


def test_what_is_no_step_of_a_factor_leads_to_the_forms_of_passwords(open_app):
    assert [*forms(open_app(None, code="factor", step="no step"))] == ["Sign in", "Create account"]


def test_required_factor_leads_to_the_setup_key(open_app):
    query = {"c": "some-id", "code": "enrol_factor", "step": STEP, "new": "yes", "invite": "a code"}
    app = open_app(None, **query, reason="slow", wait="60")

    form = html_of(app)
    assert [one.value for one in app.title] == ["Set up an authenticator app"]
    assert 'method="post" action="/factor/enrol"' in form
    given = ("step", STEP), ("next", "/?c=some-id"), ("new", "yes"), ("invite", "a code")
    for name, value in given:
        assert f'name="{name}" value="{value}"' in form
    assert len(app.error) == 1


# --- methods that are off


def off(*methods):
    bootstrap.current_app().off = frozenset(methods)


def test_codes_take_the_place_of_passwords_that_are_off(open_app, mailer):
    off(SignInMethod.PASSWORD)

    app = open_app(None, c="some-id")

    shown = forms(app)
    assert 'action="/code"' in shown["Sign in"]
    assert 'name="purpose" value="sign_in"' in shown["Sign in"]
    assert 'action="/account"' in shown["Create account"]
    assert 'type="password"' not in html_of(app)
    assert links_of(app) == ["Undo a change of email address", "Sign in with a password"]


@pytest.mark.parametrize("reason", ["", "wrong"])
def test_operators_password_has_a_form_where_passwords_are_off(open_app, mailer, reason):
    off(SignInMethod.PASSWORD)
    app = open_app(None, reason=reason) if reason else press(open_app(None), LAST_LINK)

    assert 'action="/session"' in html_of(app)
    assert [one.value for one in app.error] == ([WrongCredentials.public] if reason else [])
    assert any("your admin has set" in one.value for one in app.markdown)
    assert 'action="/code"' in html_of(press(app, "Back to sign in"))


LAST_LINK = "Sign in with a password"


def test_address_is_taken_back_without_a_password_where_they_are_off(open_app, mailer):
    off(SignInMethod.PASSWORD)

    app = open_app(None, code="restore_address", step=STEP)
    assert 'action="/code/redeem"' in html_of(app)
    assert 'type="password"' not in html_of(app)
    assert not any("password" in one.value for one in app.markdown)

    first = open_app(None, code="restore_address")
    assert not any("new password" in one.value for one in first.markdown)


@pytest.mark.parametrize("purpose", ["sign_in", "reset_password", "restore_address"])
def test_form_of_a_method_that_is_off_is_not_drawn(open_app, mailer, purpose):
    off(SignInMethod.CODE)

    app = open_app(None, code=purpose, step=STEP)

    assert [*forms(app)] == ["Sign in", "Create account"]
    assert links_of(app) == []


def test_password_is_not_reset_where_passwords_are_off(open_app, mailer):
    off(SignInMethod.PASSWORD)

    assert "Sign in" in forms(open_app(None, code="reset_password", step=STEP))


def test_no_account_is_made_by_a_form_where_passwords_and_codes_are_off(open_app, mailer):
    off(SignInMethod.PASSWORD, SignInMethod.CODE)
    app = open_app(None, invite="abc")

    assert [one.label for one in app.tabs] == ["Sign in"]
    assert re.findall(r'<form [^>]*action="(.*?)"', html_of(app)) == ["/passkey"]
    assert links_of(app) == [LAST_LINK]


def test_script_of_addresses_knows_each_reason_of_a_success():
    script = (ROOT / "assets" / "page" / "address.js").read_text(encoding="utf-8")
    (reasons,) = re.findall(r"const DONE = \[(.*?)\];", script)

    assert set(re.findall(r'"(.*?)"', reasons)) == {*sign_in._DONE, *_session._OUTCOMES}
