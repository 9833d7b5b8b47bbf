"""Mails at a real SMTP server: the envelope, the message, TLS, and servers that refuse or never answer."""

import smtplib
import ssl
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from services.domain.addresses import EmailAddress, checked_address
from services.domain.browsers import BrowserName
from services.domain.mails import Code, CodePurpose, LoginRefused
from services.errors import BadAddress
from services.identity.mail import SmtpSender, check, message_of
from services.identity.mailer import Mailer
from services.settings import MailServer
from services.store.operator import Mark
from tests.addresses import GOOD, HOSTILE
from tests.identity.mails import DIGITS, FIREFOX, MAYA, a_mail, a_notice
from tests.mail_server import HOST, LOGIN, mail_server, resolving, silent_server
from tests.stack.apps import until

SENDER = EmailAddress("no-reply@corp.example")
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
}  # fmt: skip
AT_ONCE, OTHER = 465, 587


def server_at(port, host=HOST, login=None):
    return MailServer(
        host=host, port=port, sender=SENDER, login=login and (login[0], SecretStr(login[1]))
    )


@pytest.fixture(params=[AT_ONCE, OTHER])
def port(request):
    """The port that the settings name: 465 and another one."""
    return request.param


@pytest.fixture
def running(trusted, monkeypatch, port):
    """Run a server of a certificate at `HOST` and the port; its settings, and what it receives."""
    opened = []

    def run(tls, **options):
        running = mail_server(tls, is_at_once=port == AT_ONCE, **options)
        received = running.__enter__()
        opened.append(running)
        resolving(monkeypatch, {port: received.port})
        return server_at(port), received

    yield run
    for one in opened:
        one.__exit__(None, None, None)


@pytest.fixture
def local():
    """A server on loopback without TLS; its settings, and what it receives."""
    with mail_server() as received:
        yield server_at(received.port, "127.0.0.1"), received


def test_mail_is_sent_over_checked_tls_with_a_login(running, trusted, port):
    server, received = running(trusted.context(HOST), wants_login=True)
    server = replace(server, login=(LOGIN[0], SecretStr(LOGIN[1])))

    assert SmtpSender(server).send(a_mail())

    (mail,) = received.received
    assert (mail.sender, mail.recipients, mail.code) == (SENDER, [MAYA], DIGITS)
    assert check(server) == (Mark.OK, f"{HOST}:{port} answers with TLS and takes the login")


@pytest.mark.parametrize(
    ("name", "is_self_signed", "finding"),
    [(HOST, True, "self-signed certificate"), ("corp.example", False, "Hostname mismatch")],
)
def test_mail_is_not_sent_to_a_server_of_another_certificate(
    running, trusted, name, is_self_signed, finding
):
    context = trusted.context(name, is_self_signed=is_self_signed)
    server, received = running(context)
    server = replace(server, login=(LOGIN[0], SecretStr(LOGIN[1])))

    with pytest.raises(ssl.SSLCertVerificationError):
        SmtpSender(server).send(a_mail())

    assert received.received == received.commands == []
    mark, text = check(server)
    assert mark is Mark.FAIL
    assert finding in text


def test_mail_is_not_sent_without_tls(monkeypatch):
    with mail_server() as received:
        resolving(monkeypatch)
        server = server_at(received.port, login=LOGIN)

        with pytest.raises(smtplib.SMTPNotSupportedError):
            SmtpSender(server).send(a_mail())

        assert received.received == received.commands == []
        assert check(server) == (
            Mark.FAIL,
            f"{HOST}:{received.port} offers no TLS (STARTTLS): no mail is sent to it",
        )


def test_server_on_this_machine_needs_no_tls(local):
    server, received = local

    assert SmtpSender(server).send(a_mail())

    assert received.received[0].recipients == [MAYA]
    assert check(server) == (
        Mark.OK,
        f"127.0.0.1:{server.port} answers on this machine, without TLS",
    )


def test_refused_login_is_found_before_a_mail(running, trusted):
    server, received = running(trusted.context(HOST), wants_login=True)
    server = replace(server, login=(LOGIN[0], SecretStr("wrong")))

    with pytest.raises(LoginRefused):
        SmtpSender(server).send(a_mail())

    assert received.received == []
    assert check(server)[1].endswith("refuses DAYBOOK_SMTP_USER and DAYBOOK_SMTP_PASSWORD")


def test_refused_login_is_tried_once_for_all_mails_of_an_interval(running, trusted):
    server, received = running(trusted.context(HOST), wants_login=True)
    server = replace(server, login=(LOGIN[0], SecretStr("wrong")))
    now = [0.0]  # only the test lets time pass
    mailer = Mailer(lambda: SmtpSender(server), 100, retry_seconds=1.0, clock=lambda: now[0])
    with closing(mailer):
        assert all(mailer.send(a_mail()) for _ in range(3))
        until(lambda: mailer.health().last_failure, within=20)
        assert mailer.health().last_failure.startswith("the server refused the login")
        mailer.send(a_mail())
        until(lambda: mailer.health().waiting == 4, within=20)
        assert received.commands == ["AUTH"] * 2  # smtplib tries PLAIN, then LOGIN

        for interval, attempts in (1, 2), (2, 3):
            failed_at = mailer.health().last_failed_at
            now[0] += interval
            mailer.send(a_mail())
            until(lambda attempts=attempts: len(received.commands) == 2 * attempts, within=20)
            until(lambda attempts=attempts: mailer.health().waiting == 3 + attempts, within=20)
            # the mailer has read the refusal, and counts the next interval from now
            until(lambda at=failed_at: mailer.health().last_failed_at != at, within=20)
        assert received.commands == ["AUTH"] * 6


def test_server_that_takes_no_password_is_named(trusted, monkeypatch):
    with mail_server(trusted.context(HOST), wants_login=True, offers="XOAUTH2") as received:
        resolving(monkeypatch)
        server = server_at(received.port, login=LOGIN)

        with pytest.raises(LoginRefused):
            SmtpSender(server).send(a_mail())
        assert check(server) == (
            Mark.FAIL,
            f"{HOST}:{received.port} takes no password (it offers XOAUTH2): "
            "name another server, such as a relay of your provider",
        )
    assert received.commands == []


def test_envelope_names_exactly_one_recipient(local):
    server, received = local
    addresses = [checked_address(text) for text in GOOD]

    for address in addresses:
        assert SmtpSender(server).send(a_mail(address=address))

    assert [mail.recipients for mail in received.received] == [[each] for each in addresses]
    assert [str(mail.message["To"]) for mail in received.received] == addresses


@pytest.mark.parametrize("text", [*HOSTILE, "MAYA@daybook.test", "maya@daybook.test\r\nBcc: x@y.z"])
def test_no_mail_is_made_for_another_form_of_address(text):
    with pytest.raises(BadAddress):
        a_mail(address=text)


@settings(max_examples=300)
@given(st.text("abc.!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=80))
@example("=?utf-8?q?maya?=")
def test_each_address_stands_as_it_is_in_envelope_and_header(local_part):
    try:
        mail = a_mail(address=checked_address(f"{local_part}@daybook.test"))
    except BadAddress:
        return
    if "=?" in mail.address and "?=" in mail.address:
        nowhere = replace(server_at(9), host="nowhere.invalid")
        assert not SmtpSender(nowhere).send(mail)
        return
    header = message_from_bytes(message_of(mail, SENDER), policy=policy.default)["To"]
    assert smtplib.quoteaddr(mail.address) == f"<{header}>" == f"<{mail.address}>"


@pytest.mark.parametrize("mail", [a_mail(), a_notice(), a_mail(browser=None)])
def test_message_has_these_headers_and_no_others(local, mail):
    server, received = local

    SmtpSender(server).send(mail)

    message = received.received[0].message
    assert sorted(message.keys()) == sorted(HEADERS)
    assert str(message["From"]) == f"Daybook <{SENDER}>"
    assert message["Date"].datetime == mail.at.replace(microsecond=0)
    assert message["Message-ID"] == f"<{mail.id.hex}@corp.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]


def test_line_breaks_in_a_mail_add_no_header(local):
    server, received = local
    attack = "1\r\nBcc: victim@corp.example\r\n\r\n.\r\nMAIL FROM:<x@y.z>\r\n"

    SmtpSender(server).send(
        a_mail(Code(CodePurpose.SIGN_IN, attack), browser=BrowserName(f"Firefox{attack}"))
    )

    (mail,) = received.received
    assert mail.recipients == [MAYA]
    assert {*mail.message.keys()} == HEADERS
    assert received.commands == ["MAIL"]


def test_message_names_no_machine_and_is_ascii():
    message = message_of(a_mail(), SENDER)

    assert message.isascii()
    assert max(map(len, message.splitlines())) < 998
    assert smtplib.socket.gethostname().encode() not in message


@pytest.mark.parametrize(
    ("command", "answer", "is_final"),
    [
        ("RCPT", "550 no such user", True),
        ("RCPT", "450 greylisted", False),
        ("DATA", "554 looks like spam", True),
        ("DATA", "451 try again", False),
    ],
)
def test_final_refusal_is_told_from_one_for_now(local, command, answer, is_final):
    server, received = local
    received.answers[command] = answer

    if is_final:
        assert not SmtpSender(server).send(a_mail())
    else:
        with pytest.raises(OSError, match=answer.partition(" ")[2]):
            SmtpSender(server).send(a_mail())


def test_mail_that_was_taken_is_not_failed_by_its_goodbye(local):
    server, received = local
    received.answers["QUIT"] = "broken"

    assert SmtpSender(server).send(a_mail())


@pytest.mark.parametrize("said", [b"", b"2", b"220-wait\r\n"])
def test_hanging_server_is_left_after_a_step(said):
    with silent_server(said) as port:
        began = time.monotonic()
        with pytest.raises(smtplib.SMTPException):
            SmtpSender(server_at(port, "127.0.0.1"), step_seconds=0.3).send(a_mail())

        assert time.monotonic() - began < 6
        mark, text = check(server_at(port, "127.0.0.1"), step_seconds=0.3)
    assert mark is Mark.FAIL
    assert "does not answer" in text


def test_tls_handshake_that_hangs_is_left_after_a_step(monkeypatch):
    with silent_server() as port:
        resolving(monkeypatch, {AT_ONCE: port})

        with pytest.raises(OSError, match="timed out"):
            SmtpSender(server_at(AT_ONCE), step_seconds=0.3).send(a_mail())


def test_mail_after_one_that_hangs_is_sent(local):
    server, received = local
    with silent_server() as port:

        class Moving:
            """A server that hangs at the first mail and works at the next."""

            ports = [port, *[server.port] * 5]  # noqa: RUF012

            def send(self, mail):
                at = replace(server, port=self.ports.pop(0))
                return SmtpSender(at, step_seconds=0.3).send(mail)

        mailer = Mailer(Moving, 500, retry_seconds=0.05)
        mailer.send(a_mail(is_known=True))
        mailer.send(a_mail(address=EmailAddress("omar@daybook.test")))
        until(lambda: len(received.received) == 2, within=20)
        mailer.close()

    assert {mail.recipients[0] for mail in received.received} == {MAYA, "omar@daybook.test"}


def test_text_and_html_have_the_code_browser_and_time(local):
    server, received = local
    at = datetime(2026, 11, 25, 14, 5, tzinfo=UTC)

    SmtpSender(server).send(a_mail(at=at, expires_at=datetime(2026, 11, 25, 14, 15, tzinfo=UTC)))

    for kind in ("plain", "html"):
        text = received.received[0].message.get_body([kind]).get_content()
        for words in (DIGITS, FIREFOX, "2026-11-25 at 14:05 UTC", "2026-11-25 at 14:15 UTC"):
            assert words in text
