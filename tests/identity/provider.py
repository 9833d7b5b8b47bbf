"""A provider of single sign-on on loopback, with keys of its own, that gives each wrong answer on demand."""

import base64
import hmac
import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from joserfc.jwk import JWKRegistry
from joserfc.jws import JWSRegistry

from services.provider_settings import ProviderSettings

CLIENT_ID, SECRET = "daybook", "kumquat-7781:+%/ "
SUBJECT, ADDRESS = "7f3c", "maya@corp.example"
LEFT_OUT = object()  # in place of a claim, or of a field of the metadata
METADATA, KEYS, TOKEN, PROFILE = (
    "/.well-known/openid-configuration",
    "/keys",
    "/token",
    "/userinfo",
)
_SIZES = {"RSA": 2048, "EC": "P-256", "OKP": "Ed25519"}


@cache
def a_key(kind="RSA", kid="first", size=None):
    return JWKRegistry.generate_key(kind, size or _SIZES[kind], {"kid": kid})


@dataclass(frozen=True)
class Response:
    """An answer in place of the right one."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0  # before it begins
    drips: float = 0  # seconds before each of its bytes, the headers' too
    is_garbled: bool = False  # over TLS a record comes first that nobody encrypted


@dataclass(frozen=True)
class Asked:
    """A request that the provider got."""

    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class ForgingProvider:
    """What the provider says, and what it was asked."""

    host: str = "http://127.0.0.1"
    port: int = 0
    nonce: str = ""  # of the request that is answered
    metadata: dict = field(default_factory=dict)  # fields in place of the right ones
    claims: dict = field(default_factory=dict)
    header: dict = field(default_factory=dict)  # of the token
    algorithm: str = "RS256"
    key: object = field(default_factory=a_key)  # that signs
    keys: list = field(default_factory=lambda: [a_key().as_dict(private=False)])  # published
    token: str | None = None  # in place of a signed one
    tokens: dict = field(
        default_factory=dict
    )  # fields of the token answer in place of the right ones
    profile: dict = field(default_factory=dict)  # at userinfo
    instead: dict[str, Response] = field(default_factory=dict)  # by path
    asked: list[Asked] = field(default_factory=list)

    @property
    def issuer(self):
        return f"{self.host}:{self.port}"

    def entry(self, **more):
        fields = {"issuer": self.issuer, "client_id": CLIENT_ID, "client_secret": SECRET, **more}
        return ProviderSettings(**fields)

    def paths(self):
        return [one.path for one in self.asked]

    def answer(self, path):
        """Return the document at *path*."""
        at = self.issuer
        match path:
            case "/.well-known/openid-configuration":
                found = {
                    "issuer": at,
                    "authorization_endpoint": f"{at}/authorize?tenant=1",
                    "token_endpoint": f"{at}{TOKEN}",
                    "jwks_uri": f"{at}{KEYS}",
                    "userinfo_endpoint": f"{at}{PROFILE}",
                    "end_session_endpoint": f"{at}/end",
                    "id_token_signing_alg_values_supported": ["none", "HS256", "RS256"],
                }
                return _changed(found, self.metadata)
            case "/keys":
                return {"keys": self.keys}
            case "/token":
                found = {"access_token": "accessible", "token_type": "Bearer", "expires_in": 60}
                found["id_token"] = self.token or self.signed()
                return _changed(found, self.tokens)
            case "/userinfo":
                return self.profile
        return None

    def signed(self, payload=None):
        """Return an ID token; *payload*: its text in place of the claims."""
        claims = {
            "iss": self.issuer,
            "sub": SUBJECT,
            "aud": CLIENT_ID,
            "exp": int(time.time()) + 300,
            "iat": int(time.time()),
            "nonce": self.nonce,
            "email": ADDRESS,
            "email_verified": True,
        }
        header = {"alg": self.algorithm, "kid": getattr(self.key, "kid", "first"), "typ": "JWT"}
        document = json.dumps(_changed(claims, self.claims))
        return token_of(_changed(header, self.header), payload or document, self.key)


def token_of(header, payload, key):
    """Return a JWS; *key*: octets for HS256, or a key of joserfc."""
    payload = payload.encode() if header.get("b64") is False else _encoded(payload.encode())
    signed = b".".join([_encoded(json.dumps(header).encode()), payload])
    match header["alg"]:
        case "none":
            signature = b""
        case "HS256":
            signature = hmac.digest(key, signed, "sha256")
        case algorithm:
            signature = JWSRegistry.algorithms[algorithm].sign(signed, key)
    return b".".join([signed, _encoded(signature)]).decode()


def _encoded(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def _changed(found, changes):
    return {name: value for name, value in {**found, **changes}.items() if value is not LEFT_OUT}


@contextmanager
def forging_provider(tls=None):
    """A running provider. *tls*: the context of its certificate."""
    provider, ended = ForgingProvider(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            form = dict(parse_qsl(self.rfile.read(length).decode()))
            path = urlsplit(self.path).path
            provider.asked.append(Asked(path, dict(self.headers), form))
            response = provider.instead.get(path)
            if response is None:
                found = provider.answer(path)
                response = Response(json.dumps(found).encode(), 404 if found is None else 200)
            ended.wait(response.seconds)
            self._send(response)

        do_POST = do_GET  # noqa: N815

        def _send(self, response):
            lines = [f"HTTP/1.1 {response.status} X", f"Content-Length: {len(response.body)}"]
            headers = {"Content-Type": "application/json", "Connection": "close"}
            lines += [f"{name}: {value}" for name, value in (headers | response.headers).items()]
            message = "\r\n".join([*lines, "", ""]).encode() + response.body
            if response.is_garbled:
                os.write(self.connection.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
            try:
                if not response.drips:
                    self.wfile.write(message)
                for sign in message if response.drips else b"":
                    if ended.wait(response.drips):
                        break
                    self.wfile.write(bytes([sign]))
            except OSError:  # the client left
                pass

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        provider.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=[0.05], name="provider")
        thread.start()
        try:
            yield provider
        finally:
            ended.set()
            server.shutdown()
            thread.join()
