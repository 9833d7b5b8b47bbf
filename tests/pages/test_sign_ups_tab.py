"""The admin page's tab of sign-ups."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from pages._admin.sign_ups import revoke_dialog
from services import bootstrap
from services.domain import AccountRole
from services.domain.accounts import SignUps
from services.errors import BadAddress, BadInput, StoreUnavailable
from services.store.backend import Attempt, Throttles
from tests.fakes import FakePerson, ScriptedModel
from tests.pages.conftest import in_dialog, press, pressed, refusals, warnings


@pytest.fixture
def ruth(database):
    return FakePerson(database, ScriptedModel(), AccountRole.ADMIN)


@pytest.fixture
def open_tab(open_app, ruth):
    def open_tab():
        app = open_app(ruth).switch_page("pages/admin.py")
        app.query_params["tab"] = "Sign-ups"
        return app.run()

    return open_tab


def invite(app, email="", role=AccountRole.USER):
    app.text_input(key="invitation-email").set_value(email)
    app.selectbox(key="invitation-role").set_value(role)
    return press(app, "Create invitation")


def revoke(app):
    """Press Revoke, and the button that confirms it; return the app after the run."""
    chosen = app.selectbox(key="chosen-invitation").value
    app = pressed(app, "revoke-invitation")
    return pressed(in_dialog(app, revoke_dialog, chosen, ""), "danger-revoke-invitation")


def links(app):
    return [code.value.partition("?")[2] for code in app.code]


def test_mode_of_sign_ups_is_changed(open_tab, ruth):
    app = open_tab()

    app.radio[0].set_value(SignUps.INVITED).run()

    assert ruth.sign_ups.mode() is SignUps.INVITED
    assert app.radio[0].value is SignUps.INVITED


def test_mode_that_is_not_stored_is_not_shown(open_tab, ruth):
    ruth.administration.failures["set_sign_ups"] = StoreUnavailable("away")
    app = open_tab()

    app.radio[0].set_value(SignUps.CLOSED).run()

    assert ruth.sign_ups.mode() is SignUps.OPEN
    assert app.radio[0].value is SignUps.OPEN


def test_nobody_is_invited_while_sign_ups_are_closed(open_tab, ruth):
    ruth.sign_ups.set_mode(SignUps.CLOSED)

    app = open_tab()

    assert "Create invitation" not in [button.label for button in app.button]
    assert any("while sign-ups are closed" in caption.value for caption in app.caption)


def test_link_of_an_invitation_is_shown_until_dismissed(open_tab, ruth, database):
    app = invite(open_tab(), "omar@daybook.test", AccountRole.ADMIN)

    [made] = ruth.sign_ups.invitations()
    assert (made.email, made.role) == ("omar@daybook.test", AccountRole.ADMIN)
    [link] = links(app)
    attempt = Attempt(
        lookups=(),
        throttles=Throttles(()),
        invited=made.email,
        invitation=link.removeprefix("invite="),
        nonce=uuid4(),
    )
    assert database.backend.count_attempt(attempt).sign_ups.is_invited
    (row,) = app.dataframe[-1].value.to_dict("records")
    assert (row["For"], row["Role"], row["Status"]) == ("omar@daybook.test", "Admin", "Open")

    assert links(pressed(app, "dismiss-link")) == []


@pytest.mark.parametrize(
    ("is_sent", "sentence"),
    [
        (True, "The code is being emailed to omar@daybook.test."),
        (
            False,
            "Not emailed to omar@daybook.test. (At most one email an hour to an address, and 20 a day.)",
        ),
    ],
)
def test_invitation_is_mailed_where_there_is_mail(open_tab, ruth, is_sent, sentence):
    process, mailed = bootstrap.current_app(), []
    process.mailer = SimpleNamespace()
    process.mail_invitation = lambda *mail: mailed.append(mail) or is_sent

    app = invite(open_tab(), " omar@Daybook.test ")

    [(email, invited, admin_id)] = mailed
    assert (email, invited.by, admin_id) == ("omar@daybook.test", ruth.email, ruth.user_id)
    assert links(app) == [f"invite={invited.code}"]
    assert sentence in [text.value for text in app.text]


def test_invitation_for_anyone_is_not_mailed(open_tab):
    process, mailed = bootstrap.current_app(), []
    process.mailer = SimpleNamespace()
    process.mail_invitation = lambda *mail: mailed.append(mail)

    assert links(invite(open_tab()))
    assert mailed == []


def test_refused_invitation_keeps_the_address(open_tab):
    app = invite(open_tab(), "omar")

    assert refusals(app) == [BadAddress.public]
    assert not warnings(app)
    assert app.text_input(key="invitation-email").value == "omar"
    assert links(app) == []


def test_open_invitation_is_revoked(open_tab, ruth):
    app = invite(open_tab())

    app = revoke(app)

    assert [one.state for one in ruth.sign_ups.invitations()] == ["revoked"]
    assert not [one for one in app.selectbox if one.key == "chosen-invitation"]


def test_invitation_is_named_before_it_is_revoked(open_tab, ruth):
    app = invite(open_tab(), "omar@daybook.test")
    app = invite(pressed(app, "dismiss-link"), "kim@daybook.test")
    shown_id = app.selectbox(key="chosen-invitation").value
    (other,) = [one for one in ruth.sign_ups.invitations() if one.id != shown_id]
    app.selectbox(key="chosen-invitation").set_value(other.id)

    # the second click of a double click
    app = pressed(pressed(app, "revoke-invitation"), "revoke-invitation")

    assert [one.state for one in ruth.sign_ups.invitations()] == ["open", "open"]
    assert app.text[-1].value.startswith(other.email)


def test_invitation_that_is_used_or_revoked_already_is_named(open_tab, ruth):
    app = invite(open_tab())
    ruth.sign_ups.revoke(ruth.sign_ups.invitations()[0].id)

    app = revoke(app)

    assert [error.value for error in app.error] == ["This invitation was used or revoked already."]


def test_invitation_chosen_in_the_same_run_is_revoked(open_tab, ruth):
    app = invite(open_tab(), "omar@daybook.test")
    app = invite(pressed(app, "dismiss-link"), "kim@daybook.test")
    shown_id = app.selectbox(key="chosen-invitation").value
    (other,) = [one for one in ruth.sign_ups.invitations() if one.id != shown_id]

    app.selectbox(key="chosen-invitation").set_value(other.id)
    revoke(app)

    states = {one.id: one.state for one in ruth.sign_ups.invitations()}
    assert states == {shown_id: "open", other.id: "revoked"}


def test_each_of_several_equal_invitations_is_revoked(open_tab, ruth):
    app = open_tab()
    for role in (AccountRole.USER, AccountRole.ADMIN, AccountRole.USER):
        app = pressed(invite(app, role=role), "dismiss-link")
    field = app.selectbox(key="chosen-invitation")
    assert ["(Admin, " in label for label in field.options] == [False, True, False]

    for one in ruth.sign_ups.invitations():
        app.selectbox(key="chosen-invitation").set_value(one.id)
        revoke(app)
        assert one.id not in {
            each.id for each in ruth.sign_ups.invitations() if each.state == "open"
        }


def test_addresses_are_confirmed_where_mail_is_set_alone(open_tab):
    assert not open_tab().toggle

    bootstrap.current_app().mailer = SimpleNamespace()

    assert [one.value for one in open_tab().toggle] == [True]


def test_switch_of_confirmation_is_stored(open_tab, ruth):
    bootstrap.current_app().mailer = SimpleNamespace()

    app = open_tab().toggle[0].set_value(False).run()

    assert not ruth.sign_ups.confirms_by_code()
    assert app.toggle[0].value is False


def test_switch_that_is_not_stored_stays(open_tab, ruth):
    bootstrap.current_app().mailer = SimpleNamespace()
    ruth.administration.failures["confirm_by_code"] = StoreUnavailable("away")

    app = open_tab().toggle[0].set_value(False).run()

    assert ruth.sign_ups.confirms_by_code()
    assert app.toggle[0].value is True


def test_switch_is_off_while_supabase_auth_confirms_addresses(open_tab, ruth):
    bootstrap.current_app().mailer = SimpleNamespace()
    ruth.auth_confirms = True

    [switch] = open_tab().toggle

    assert (switch.value, switch.disabled) == (False, True)
    with pytest.raises(BadInput):
        ruth.sign_ups.confirm_by_code(is_on=True)
    ruth.sign_ups.confirm_by_code(is_on=False)
