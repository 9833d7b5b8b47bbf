"""The mail that tells a user of an operator's command."""

import socket
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from services.crypto import RootKeys, new_key
from services.crypto.vault import encode_base64url
from services.domain.accounts import CredentialsAction
from services.domain.addresses import checked_address
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.operate.__main__ import operate
from services.operate.telling import tell
from services.settings import MailServer
from services.store.sqlite import SqlitePlace
from services.store.tables.backend import TablesBackend
from services.store.tables.opening import check_root_key
from tests.confirmed import confirm
from tests.mail_server import mail_server
from tests.store.conftest import PASSWORD
from tests.stores import WholeAccounts
from tests.sure import sure

MAYA = checked_address("maya@daybook.test")
SENDER = checked_address("no-reply@daybook.test")


def server_at(port):
    return MailServer(host="127.0.0.1", port=port, sender=SENDER, login=None)


def test_user_is_told_of_a_command_at_once():
    with mail_server() as received:
        said = tell(server_at(received.port), MAYA)

    assert said == "The user was told by mail."
    [mail] = received.received
    assert mail.recipients == [MAYA]
    assert "An admin changed how you sign in" in mail.message.get_body(["plain"]).get_content()


def test_operator_learns_that_no_mail_could_be_sent():
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    assert tell(server_at(port), MAYA) == "No mail could be sent: tell the user."


def test_operator_learns_that_no_mail_is_set():
    assert tell(None, MAYA) == "No mail is set up for this command: tell the user."


OLD, NEW = "https://login.example.com", "https://login.example.net"
OTHER = checked_address("maya@daybook.example")


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command, beside a mail server or (None) without one, on a store whose users are linked to OLD."""
    root_key = encode_base64url(new_key())
    ring = RootKeys.parse(root_key)

    def run(command, received, users):
        with closing(SqlitePlace(tmp_path / "daybook.db").open()) as tables:
            check_root_key(tables, ring)
            accounts = WholeAccounts(TablesBackend(tables), ring, 3600, 3600)
            for user in users:
                link(accounts, user)
        settings = {
            "DAYBOOK_STORE": f"sqlite:{tmp_path}/daybook.db",
            "DAYBOOK_SIGN_IN": "local",
            "DAYBOOK_ROOT_KEYS": root_key,
        }
        if received:
            settings |= {
                "DAYBOOK_SMTP_HOST": "127.0.0.1",
                "DAYBOOK_SMTP_PORT": str(received.port),
                "DAYBOOK_SMTP_FROM": SENDER,
            }
        typed = f"{PASSWORD} of the admin\n" * 2
        done = CliRunner().invoke(operate, sure(command), env=settings, input=typed)
        assert done.exit_code == 0, done.output
        return done

    return run


def link(accounts, user):
    cookie, session = accounts.sign_up_with(user, PASSWORD)
    confirm(accounts, session)
    current, now = accounts.current(cookie), datetime.now(UTC)
    linked = LinkedIdentity(identity=Identity(OLD, f"id of {user}"), name="Corp", created_at=now)
    new = replace(current.credentials, identities=(linked,), generation=3)
    action = CredentialsAction.IDENTITY_ADDED
    assert accounts.change_credentials(session, new, current.stored, action)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("set-address", MAYA, OTHER), [MAYA, OTHER]),
        (("move-issuer", OLD, NEW), [MAYA]),
        (("set-password", MAYA), [MAYA]),
    ],
)
def test_command_tells_the_user_by_mail(run, command, told):
    with mail_server() as received:
        run(command, received, [MAYA])

    assert [mail.recipients for mail in received.received] == [[one] for one in told]


@pytest.mark.parametrize(
    "command", [("set-address", MAYA, OTHER), ("move-issuer", OLD, NEW), ("set-password", MAYA)]
)
def test_command_without_mail_server_says_so_once(run, command):
    users = [MAYA, checked_address("omar@daybook.test")] if "move-issuer" in command else [MAYA]
    done = run(command, None, users)

    assert done.output.count("No mail is set up for this command: tell the user.") == 1


def test_refused_mail_to_one_user_keeps_none_from_another(run):
    with mail_server() as received:
        received.answers["RCPT"] = "550 no such mailbox"
        done = run(("move-issuer", OLD, NEW), received, [MAYA, OTHER])

    assert received.commands.count("MAIL") == 2
    for user in (MAYA, OTHER):
        assert f"{user}: The mail server refuses the user's address: tell the user." in done.output
    assert "No further user" not in done.output
