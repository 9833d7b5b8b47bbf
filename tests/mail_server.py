"""Mail servers on loopback: aiosmtpd, with certificates of our own, and servers that never answer."""

import asyncio
import datetime
import email.policy
import ipaddress
import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "mail.daybook.test"  # `resolving` has it lead to loopback
LOGIN = ("daybook", "kumquat-7781")


@dataclass(frozen=True)
class Received:
    """A mail as the server got it: the envelope, and the message."""

    sender: str
    recipients: list[str]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=email.policy.default)

    @property
    def code(self):
        """The code in the text, if there is one."""
        text = self.message.get_body(["plain"]).get_content()
        found = re.search(r"^(\d{8})\r?$", text, re.MULTILINE)
        return found and found[1]


@dataclass
class MailServer:
    """What a server was given, and the answers that it gives instead of taking a mail."""

    received: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)  # those of a mail or a login
    port: int = 0
    wants_login: bool = False
    answers: dict[str, str] = field(
        default_factory=dict
    )  # by RCPT or DATA; QUIT: the connection breaks

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: N802
        self.commands.append("MAIL")
        if self.wants_login and not session.authenticated:
            return "530 authentication required"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if answer := self.answers.get("RCPT"):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if answer := self.answers.get("DATA"):
            return answer
        self.received.append(
            Received(envelope.mail_from, envelope.rcpt_tos, envelope.original_content)
        )
        return "250 OK"

    async def handle_QUIT(self, server, session, envelope):  # noqa: N802
        if "QUIT" in self.answers:
            server.transport.abort()
        return "221 Bye"

    def authenticate(self, server, session, envelope, mechanism, login):
        self.commands.append("AUTH")
        given = isinstance(login, LoginPassword) and (
            login.login.decode(),
            login.password.decode(),
        )
        return AuthResult(success=given == LOGIN, handled=False)


@contextmanager
def mail_server(tls=None, *, is_at_once=False, wants_login=False, offers=None):
    """A running server. *tls*: the context of its certificate; None: it offers no TLS. *offers*: its only way to log in."""
    server = MailServer(wants_login=wants_login)
    loop, started = asyncio.new_event_loop(), threading.Event()

    if offers:  # aiosmtpd finds its ways to log in by the names of methods
        setattr(server, f"auth_{offers}", server.authenticate)

    def protocol():
        return SMTP(
            server,
            hostname="server.test",
            loop=loop,
            tls_context=None if is_at_once else tls,
            authenticator=server.authenticate,
            auth_require_tls=not is_at_once,
            auth_exclude_mechanism=["LOGIN", "PLAIN"] if offers else None,
        )

    async def listen():
        listener = await loop.create_server(
            protocol, "127.0.0.1", 0, ssl=tls if is_at_once else None
        )
        server.port = listener.sockets[0].getsockname()[1]
        return listener

    def run():
        asyncio.set_event_loop(loop)
        listener = loop.run_until_complete(listen())
        started.set()
        loop.run_forever()
        listener.close()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run, name="mail-server")
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def silent_server(said=b"", seconds=8.0):
    """The port of a server that accepts connections and only sends *said*, again and again, until it gives up after *seconds*."""
    ended, opened, ends_at = threading.Event(), [], time.monotonic() + seconds
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def run():
            while not ended.is_set() and time.monotonic() < ends_at:
                with suppress(TimeoutError):
                    opened.append(listener.accept()[0])
                for one in opened:
                    with suppress(OSError):
                        one.send(said)
            for one in opened:
                one.close()

        thread = threading.Thread(target=run, name="silent-server")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def resolving(monkeypatch, ports=None):
    """Have `HOST` lead to loopback; *ports*: the ports at which a server listens, by those that it is asked at."""
    find = socket.getaddrinfo

    def found(host, port, *args, **options):
        if host in (HOST, HOST.encode()):  # anyio asks for octets
            host, port = "127.0.0.1", (ports or {}).get(port, port)
        return find(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", found)


class Certificates:
    """An authority in *folder*, and certificates that it signs."""

    def __init__(self, folder: Path):
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Daybook tests")])
        self.authority = folder / "authority.pem"
        own = self._build(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.authority.write_bytes(
            own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def context(self, name, *, is_self_signed=False):
        """A server's context with a certificate for *name*."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        try:
            alternative = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        builder = self._build(subject, key, issuer=subject if is_self_signed else None)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        made = builder.sign(key if is_self_signed else self._key, hashes.SHA256())
        file = self.folder / f"{name}-{is_self_signed}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _build(self, subject, key, issuer=None):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )
