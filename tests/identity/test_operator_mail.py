"""The mail that tells a user of an operator's command."""

import socket
from contextlib import closing

from services.domain.addresses import checked_address
from services.operate.telling import tell
from services.settings import MailServer
from tests.mail_server import mail_server

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


def test_nothing_is_said_of_mail_where_none_is_set():
    assert tell(None, MAYA) == ""
