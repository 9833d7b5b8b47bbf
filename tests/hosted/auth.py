"""A stand-in for Supabase Auth v2.196, with the rows, tokens and errors that Daybook uses.

`test_auth.py` compares it with the real service.
"""

import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import bcrypt
import jwt
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from tests.hosted.gateway import Response

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_LIFE = 3600  # seconds until an access token expires
_SHORTEST_PASSWORD = 12
_REUSE = 10  # seconds for which a used refresh token is accepted again


class Refused(Exception):
    """An error with the status and the code of Supabase Auth's answer; most messages are our own."""

    def __init__(self, status, code, message="", **more):
        super().__init__(code)
        message = message or code.replace("_", " ")
        self.status, self.document = status, {"code": code, "message": message, **more}


@dataclass(slots=True)
class StandInAuth:
    """Supabase Auth over the tables of tests/database/servers.py, as a service of the gateway."""

    database: str = field(repr=False)  # the address with which supabase_auth_admin connects
    signing_key: Mapping[str, str] = field(repr=False)  # a JWK with its private part
    confirms: bool = False  # true: addresses must be confirmed
    is_closed: bool = False  # true: sign-ups are refused
    is_mail_broken: bool = False  # true: the mail server does not answer

    def __call__(self, request):
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(request.body or b"{}")
        try:
            with psycopg.connect(self.database, row_factory=dict_row) as rows:
                document = self._answer(request, rows, parts.path, query, body)
        except (Refused, psycopg.Error) as error:
            refused = error if isinstance(error, Refused) else Refused(500, "unexpected_failure")
            version = {"X-Supabase-Api-Version": "2024-01-01"}
            return Response.of(refused.status, refused.document, **version)
        return Response(204) if document is None else Response.of(200, document)

    def _answer(self, request, rows, path, query, body):
        match request.method, path, query.get("grant_type"):
            case "GET", "/health", _:
                return {"version": "v2.196.0", "name": "GoTrue", "description": "a stand-in"}
            case "GET", "/settings", _:
                settings = {"disable_signup": self.is_closed, "external": {"email": True}}
                return settings | {"mailer_autoconfirm": not self.confirms}
            case "POST", "/signup", _:
                return self._sign_up(rows, body)
            case "POST", "/recover", _:
                return self._recover(rows, body)
            case "POST", "/token", "password":
                return self._sign_in(rows, body)
            case "POST", "/token", "refresh_token":
                return self._refresh(rows, body)
            case "GET", "/user", _:
                return _shown(self._user(request, rows)[0])
            case "PUT", "/user", _:
                return self._change(rows, self._user(request, rows)[0], body)
            case "POST", "/logout", _:
                user, session = self._user(request, rows)
                _log(rows, user, "logout")
                rows.execute("delete from auth.sessions where id = %s", [session])
                return None
        raise Refused(404, "not_found")

    def _sign_up(self, rows, body):
        if self.is_closed:
            raise Refused(422, "signup_disabled")
        self._check(body.get("password", ""))
        email = body.get("email", "").lower()
        if not _ADDRESS.fullmatch(email):
            raise Refused(400, "validation_failed")
        user = _user_by("email", email, rows)
        if user and user["email_confirmed_at"]:
            if self.confirms:  # the answer must not tell whether the address has an account
                return _shown(user) | {"id": str(uuid4())}
            raise Refused(422, "user_already_exists")
        if user and user["seconds_since_mail"] < 60:
            seconds = 60 - int(user["seconds_since_mail"])
            message = f"For security purposes, you can only request this after {seconds} seconds."
            raise Refused(429, "over_email_send_rate_limit", message)
        if user is None:
            rows.execute(
                "insert into auth.users (email, encrypted_password, email_confirmed_at, confirmation_sent_at)"
                " values (%s, %s, case when %s then null else now() end, now())",
                [email, _hashed(body["password"]), self.confirms],
            )
            user = _user_by("email", email, rows)
            _identify(rows, user)
        if self.confirms:
            self._send("confirmation")
        _log(rows, user, "user_confirmation_requested" if self.confirms else "user_signedup")
        return _shown(user) if self.confirms else self._new_session(rows, user)

    def _recover(self, rows, body):
        """Send a mail to the user with the address, if there is one: the answer does not tell."""
        if _user_by("email", body.get("email", "").lower(), rows):
            self._send("recovery")
        return {}

    def _send(self, kind):
        if self.is_mail_broken:  # an error also undoes the rows of this request
            raise Refused(500, "unexpected_failure", f"Error sending {kind} email")

    def _sign_in(self, rows, body):
        user = _user_by("email", body.get("email", "").lower(), rows)
        if user and user["is_banned"]:
            raise Refused(400, "user_banned")
        if not user or not _matches(body.get("password", ""), user["encrypted_password"]):
            raise Refused(400, "invalid_credentials")
        if not user["email_confirmed_at"]:
            raise Refused(400, "email_not_confirmed")
        return self._new_session(rows, user)

    def _refresh(self, rows, body):
        used = rows.execute(
            "select *, extract(epoch from clock_timestamp() - updated_at) as seconds_since_use"
            " from auth.refresh_tokens where token = %s for update",
            [body.get("refresh_token", "")],
        ).fetchone()
        if used is None:
            raise Refused(400, "refresh_token_not_found")
        user = _user_by("id", used["user_id"], rows)
        if user["is_banned"]:
            raise Refused(400, "user_banned")
        if used["revoked"]:
            active = rows.execute(
                "select token from auth.refresh_tokens"
                " where session_id = %s and parent = %s and not revoked",
                [used["session_id"], used["token"]],
            ).fetchone()
            if active is not None:
                return self._document(user, used["session_id"], active["token"])
            if used["seconds_since_use"] > _REUSE:
                ending = "update auth.refresh_tokens set revoked = true where session_id = %s"
                rows.execute(ending, [used["session_id"]])
                rows.commit()
                raise Refused(400, "refresh_token_already_used")
        rows.execute(
            "update auth.refresh_tokens set revoked = true, updated_at = clock_timestamp() where id = %s",
            [used["id"]],
        )
        _log(rows, user, "token_refreshed")
        return self._tokens(rows, user, used["session_id"], parent=used["token"])

    def _change(self, rows, user, body):
        """Set another password. A change of the address would only be begun, by mail."""
        if password := body.get("password"):
            self._check(password)
            change = (
                "update auth.users set encrypted_password = %s, updated_at = now() where id = %s"
            )
            rows.execute(change, [_hashed(password), user["id"]])
            _log(rows, user, "user_updated_password")
        return _shown(user)

    def _user(self, request, rows):
        """Return the user of the access token, and the session."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise Refused(401, "no_authorization")
        try:
            key = jwt.PyJWK(dict(self.signing_key))
            claims = jwt.decode(token, key, algorithms=["ES256"], audience="authenticated")
        except jwt.PyJWTError as error:
            raise Refused(403, "bad_jwt") from error
        user = _user_by("id", claims["sub"], rows)
        if user is None:
            raise Refused(403, "user_not_found")
        asked = "select from auth.sessions where id = %s"
        if rows.execute(asked, [claims["session_id"]]).fetchone() is None:
            raise Refused(403, "session_not_found")
        if user["is_banned"]:
            raise Refused(403, "user_banned")
        return user, claims["session_id"]

    def _new_session(self, rows, user):
        _log(rows, user, "login", provider="email")
        start = "insert into auth.sessions (user_id) values (%s) returning id"
        made = rows.execute(start, [user["id"]]).fetchone()
        rows.execute("update auth.users set last_sign_in_at = now() where id = %s", [user["id"]])
        return self._tokens(rows, user, made["id"], parent=None)

    def _tokens(self, rows, user, session, parent):
        refresh = secrets.token_hex(6)
        rows.execute(
            "insert into auth.refresh_tokens (token, user_id, session_id, parent, updated_at)"
            " values (%s, %s, %s, %s, clock_timestamp())",
            [refresh, str(user["id"]), session, parent],
        )
        return self._document(user, session, refresh)

    def _document(self, user, session, refresh):
        now = int(time.time())
        claims = {
            "sub": str(user["id"]),
            "aud": "authenticated",
            "role": "authenticated",
            "session_id": str(session),
            "email": user["email"],
            "iat": now,
            "exp": now + _LIFE,
        }
        key = jwt.PyJWK(dict(self.signing_key))
        access = jwt.encode(claims, key.key, "ES256", {"kid": self.signing_key["kid"]})
        return {
            "access_token": access,
            "token_type": "bearer",
            "expires_in": _LIFE,
            "expires_at": now + _LIFE,
            "refresh_token": refresh,
            "user": _shown(user),
        }

    def _check(self, password):
        if not password or len(password.encode()) > 72:
            raise Refused(400, "validation_failed")
        if len(password) < _SHORTEST_PASSWORD:
            raise Refused(422, "weak_password", weak_password={"reasons": ["length"]})


def _user_by(column, value, rows):
    return rows.execute(
        "select *, coalesce(banned_until > now(), false) as is_banned,"
        " extract(epoch from now() - confirmation_sent_at)::float as seconds_since_mail"
        f" from auth.users where {column} = %s",
        [value],
    ).fetchone()


def _identify(rows, user):
    """Store the identity by which an address belongs to *user*."""
    data = {"sub": str(user["id"]), "email": user["email"], "email_verified": False}
    rows.execute(
        "insert into auth.identities (provider, provider_id, user_id, identity_data)"
        " values ('email', %s, %s, %s)",
        [str(user["id"]), user["id"], Jsonb(data)],
    )
    rows.execute(
        "update auth.users set raw_user_meta_data = %s where id = %s", [Jsonb(data), user["id"]]
    )


def _log(rows, user, action, **traits):
    """Write an entry of the audit log, as internal/models/audit_log_entry.go."""
    payload = {
        "actor_id": str(user["id"]),
        "actor_via_sso": False,
        "actor_username": user["email"],
        "action": action,
        "log_type": {"login": "account", "logout": "account", "user_signedup": "team"}.get(
            action, "token" if action.startswith("token") else "user"
        ),
    }
    rows.execute(
        "insert into auth.audit_log_entries (id, payload, created_at, instance_id)"
        " values (gen_random_uuid(), %s, now(), '00000000-0000-0000-0000-000000000000')",
        [Json(payload | ({"traits": traits} if traits else {}))],
    )


def _shown(user):
    times = ("email_confirmed_at", "last_sign_in_at", "created_at", "updated_at")
    return {name: user[name] and user[name].isoformat() for name in times} | {
        "id": str(user["id"]),
        "aud": "authenticated",
        "role": "authenticated",
        "email": user["email"],
        "app_metadata": user["raw_app_meta_data"],
        "user_metadata": user["raw_user_meta_data"],
        "identities": [],
        "is_anonymous": False,
    }


def _hashed(password):
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()


def _matches(password, hashed):
    return hashed is not None and bcrypt.checkpw(password.encode()[:72], hashed.encode())
