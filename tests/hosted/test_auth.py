"""Answers of Supabase Auth: the tests send the same requests to the stand-in and, with DAYBOOK_TEST_AUTH, to the real service."""

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor

import httpx
import jwt
import pytest

from services.store.supabase.lite_transport import LiteTransport
from tests.hosted.gateway import Request

PASSWORD = "correct horse battery"
VERSION = {"X-Supabase-Api-Version": "2024-01-01"}
_numbers = itertools.count()


@pytest.fixture
def ask(hosted):
    """Return a function that sends a request to Auth, and returns the status and the body of the answer."""
    with httpx.Client(headers=VERSION | {"apikey": hosted.publishable_key}, timeout=30) as client:

        def ask(method, path, body=None, token=""):
            bearer = {"Authorization": f"Bearer {token}"} if token else {}
            url = f"{hosted.url}/auth/v1{path}"
            answer = client.request(method, url, json=body, headers=bearer)
            if answer.status_code >= 400:
                assert answer.headers["X-Supabase-Api-Version"] == "2024-01-01"
            return answer.status_code, answer.json() if answer.content else {}

        yield ask


@pytest.fixture
def email():
    return f"auth-{os.getpid()}-{next(_numbers)}@daybook.test"


@pytest.fixture
def maya(ask, email):
    """The answer to a sign-up: tokens and a user."""
    status, session = ask("POST", "/signup", {"email": email, "password": PASSWORD})
    assert status == 200
    return session


def refusal(answer):
    assert answer[1]["message"]
    return answer[0], answer[1]["code"]


def renewed(ask, token):
    return ask("POST", "/token?grant_type=refresh_token", {"refresh_token": token})


def signed_in(ask, email, password=PASSWORD):
    return ask("POST", "/token?grant_type=password", {"email": email, "password": password})


def test_tokens_name_user_and_session(ask, maya, hosted, email):
    again = signed_in(ask, email.upper())[1]
    found = {}
    for session in (maya, again):
        claims = jwt.decode(session["access_token"], options={"verify_signature": False})
        found[claims["session_id"]] = session["refresh_token"]
        assert claims["sub"] == maya["user"]["id"] == session["user"]["id"]
        assert (claims["role"], claims["aud"], claims["email"]) == (*("authenticated",) * 2, email)
        assert claims["exp"] == session["expires_at"] == claims["iat"] + session["expires_in"]
        assert ask("GET", "/user", token=session["access_token"])[1]["email"] == email

    with hosted.connect() as rows:
        query = "select session_id::text, token from auth.refresh_tokens where user_id = %s"
        stored = rows.execute(query, [maya["user"]["id"]]).fetchall()
    assert dict(stored) == found
    assert {len(token) for token in found.values()} == {12}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (422, "user_already_exists")),
        ({"password": "short"}, (422, "weak_password")),
        ({"password": "long enough " * 7}, (400, "validation_failed")),
        ({"password": ""}, (400, "validation_failed")),
        ({"email": "maya"}, (400, "validation_failed")),
    ],
)
def test_sign_up_is_refused_by_code(ask, maya, email, changes, expected):
    answer = ask("POST", "/signup", {"email": email, "password": PASSWORD} | changes)

    assert refusal(answer) == expected
    if expected[1] == "weak_password":
        assert answer[1]["weak_password"] == {"reasons": ["length"]}


def test_wrong_and_unknown_are_refused_alike(ask, maya, email):
    wrong, unknown = signed_in(ask, email, "wrong"), signed_in(ask, "x" + email)

    assert wrong == unknown
    assert refusal(wrong) == (400, "invalid_credentials")


def test_closed_sign_ups(ask, hosted, email):
    with hosted.auth(is_closed=True):
        answer = ask("POST", "/signup", {"email": email, "password": PASSWORD})
        settings = ask("GET", "/settings")[1]

    assert refusal(answer) == (422, "signup_disabled")
    assert (settings["disable_signup"], settings["mailer_autoconfirm"]) == (True, True)


def test_addresses_to_be_confirmed(ask, maya, hosted, email):
    new = "new-" + email
    with hosted.auth(confirms=True):
        status, user = ask("POST", "/signup", {"email": new, "password": PASSWORD})
        again = ask("POST", "/signup", {"email": new, "password": PASSWORD})
        early = signed_in(ask, new)
        taken = ask("POST", "/signup", {"email": email, "password": PASSWORD})

    assert (status, user["email"], "access_token" in user) == (200, new, False)
    assert refusal(again) == (429, "over_email_send_rate_limit")
    assert refusal(early) == (400, "email_not_confirmed")
    assert (taken[0], taken[1]["email"], "access_token" in taken[1]) == (200, email, False)
    # the answer does not tell whether the address has an account
    assert taken[1]["id"] != maya["user"]["id"]


def test_mail_that_cannot_be_sent(ask, maya, hosted, email):
    new = "new-" + email
    with hosted.auth(confirms=True, is_mail_broken=True):
        unsent = ask("POST", "/signup", {"email": new, "password": PASSWORD})
        recovery = ask("POST", "/recover", {"email": email})
        unknown = ask("POST", "/recover", {"email": new})
    with hosted.auth(confirms=True):
        early = signed_in(ask, new)

    assert (refusal(unsent), refusal(recovery)) == ((500, "unexpected_failure"),) * 2
    assert unsent[1]["message"].startswith("Error sending ")
    assert recovery[1]["message"].startswith("Error sending ")
    assert unknown == (200, {})
    assert refusal(early) == (400, "invalid_credentials")  # there is no such user


def test_banned_user(ask, maya, hosted, email):
    with hosted.connect() as rows:
        ban = "update auth.users set banned_until = now() + interval '1 hour' where email = %s"
        rows.execute(ban, [email])

    assert refusal(signed_in(ask, email)) == (400, "user_banned")
    assert refusal(renewed(ask, maya["refresh_token"])) == (400, "user_banned")
    assert refusal(ask("GET", "/user", token=maya["access_token"])) == (403, "user_banned")


def test_deleted_session(ask, maya, hosted):
    with hosted.connect() as rows:
        rows.execute("delete from auth.sessions where user_id = %s", [maya["user"]["id"]])

    assert refusal(ask("GET", "/user", token=maya["access_token"])) == (403, "session_not_found")
    assert refusal(renewed(ask, maya["refresh_token"])) == (400, "refresh_token_not_found")


def test_refresh_token_used_twice(ask, maya, hosted):
    first = maya["refresh_token"]
    # with many more, the real service answers some requests with 409: try again
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: renewed(ask, first), range(12)))
    second = answers[0][1]["refresh_token"]
    renewed(ask, second)
    with hosted.connect() as rows:
        ageing = (
            "update auth.refresh_tokens set updated_at = now() - interval '1m' where token = %s"
        )
        rows.execute(ageing, [first])

    assert {status for status, _ in answers} == {200}
    assert {document["refresh_token"] for _, document in answers} == {second}
    assert refusal(renewed(ask, first)) == (400, "refresh_token_already_used")


def test_new_password_needs_a_permit(ask, maya, hosted, email):
    refused = ask("PUT", "/user", {"password": PASSWORD + "!"}, maya["access_token"])
    with hosted.connect() as rows:
        rows.execute("select private.make_account(%s)", [maya["user"]["id"]])
        permit = "insert into private.password_permits (user_id) values (%s)"
        rows.execute(permit, [maya["user"]["id"]])
    status, _ = ask("PUT", "/user", {"password": PASSWORD + "!"}, maya["access_token"])

    assert refusal(refused) == (500, "unexpected_failure")
    assert status == 200
    assert refusal(signed_in(ask, email)) == (400, "invalid_credentials")
    assert signed_in(ask, email, PASSWORD + "!")[0] == 200


def test_sign_out_ends_one_session(ask, maya, email):
    other = signed_in(ask, email)[1]["access_token"]

    assert ask("POST", "/logout?scope=local", token=other) == (204, {})

    alive = [ask("GET", "/user", token=token)[0] for token in (maya["access_token"], other)]
    assert alive == [200, 403]


@pytest.mark.parametrize(
    ("token", "expected"), [("", (401, "no_authorization")), ("a.b.c", (403, "bad_jwt"))]
)
def test_without_a_token_there_is_no_user(ask, token, expected):
    assert refusal(ask("GET", "/user", token=token)) == expected


def test_gateway_holds_hosted_s_key_rules(hosted):
    key = hosted.publishable_key
    bearer = {"apikey": key, "authorization": f"Bearer {key}"}
    with httpx.Client(transport=LiteTransport()) as client:
        nobody, strict, stranger = (
            client.get(f"{hosted.url}/rest/v1/conversations", headers=headers)
            for headers in ({"apikey": key}, bearer, {})
        )
    direct = hosted.gateway.services["/rest/v1"](Request("GET", "/conversations", bearer, b""))

    # the request has the role anon
    assert (nobody.status_code, nobody.json()["code"]) == (401, "42501")
    assert (strict.status_code, strict.json()) == (direct.status, json.loads(direct.body))
    assert (strict.status_code, strict.json()["code"]) == (401, "PGRST301")
    assert stranger.status_code == 401
