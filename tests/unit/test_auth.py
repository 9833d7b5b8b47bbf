"""Errors by the code with which Supabase Auth refuses, as v2.196 answers."""

from uuid import uuid4

import httpx
import jwt
import pytest
from pydantic import SecretStr

from services import errors
from services.crypto import ServerProof, new_key
from services.store.supabase import auth
from services.store.supabase.api import Gateway
from services.store.supabase.backend import SupabaseBackend

WHO = ("maya@daybook.test", "correct horse battery staple")


def refusal(verb, *entered, status, **body):
    """Return the error that *verb* raises when Supabase Auth answers with *status* and *body*."""
    headers = {"X-Supabase-Api-Version": "2024-01-01"}
    answer = httpx.Response(status, headers=headers, json={"message": "…"} | body)
    gateway = Gateway.to(
        "http://auth.test", SecretStr("key"), httpx.MockTransport(lambda _: answer)
    )
    with pytest.raises(errors.AppError) as caught:
        verb(gateway.client(), *entered)
    return caught.value


def a_session():
    """Return the session with which Supabase Auth answers."""
    user = {"id": str(uuid4()), "app_metadata": {}, "user_metadata": {}, "aud": "", "created_at": 0}
    claims = {"session_id": str(uuid4())}
    return {
        "access_token": jwt.encode(claims, "a key of 32 bytes for this test.", "HS256"),
        "token_type": "bearer",
        "expires_in": 3600,
        "refresh_token": "refresh",
        "user": user,
    }


def test_short_tokens_are_in_no_cache_of_the_process():
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json=a_session()))
    gateway = Gateway.to("http://auth.test", SecretStr("key"), answer)

    one, two = (auth.sign_in(gateway.client(), *WHO) for _ in range(2))
    stored = one.model_dump_json()
    three, four = (auth.AuthTokens.model_validate_json(stored) for _ in range(2))

    assert len({id(each.refresh) for each in (one, two, three, four)}) == 4


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "invalid_credentials", errors.WrongCredentials),
        (400, "email_not_confirmed", errors.NotConfirmed),
        (400, "user_banned", errors.Suspended),
        (422, "user_already_exists", errors.AddressTaken),
        (422, "signup_disabled", errors.SignUpsClosed),
        (400, "email_provider_disabled", errors.SignUpsClosed),
        (400, "validation_failed", errors.BadAddress),
        (400, "email_address_invalid", errors.BadAddress),
        (400, "email_address_not_authorized", errors.AddressNotAllowed),
        (429, "over_request_rate_limit", errors.TooManyAttempts),
        (400, "captcha_failed", errors.StoreUnavailable),
        (422, "a_later_code", errors.StoreUnavailable),
        (500, "unexpected_failure", errors.StoreUnavailable),
    ],
)
@pytest.mark.parametrize("verb", [auth.sign_up, auth.sign_in])
def test_refused_sign_in_raises_by_its_code(verb, status, code, error, caplog):
    caplog.set_level("INFO", "daybook")
    assert type(refusal(verb, *WHO, status=status, code=code)) is error
    assert ("auth.failed" in caplog.text) is (error is errors.StoreUnavailable)


@pytest.mark.parametrize("kind", ["confirmation", "recovery"])
def test_mail_that_auth_cannot_send_has_an_error_of_its_own(kind):
    said = {"code": "unexpected_failure", "message": f"Error sending {kind} email"}

    assert type(refusal(auth.sign_up, *WHO, status=500, **said)) is errors.MailUnsent


def test_sign_up_beside_another_recognises_the_user_that_the_other_has_made():
    """Auth answers one of two sign-ups at once with an internal error; the rig cannot time them."""
    session = a_session()
    failed = httpx.Response(500, json={"code": "unexpected_failure", "message": "…"})
    answers = {"/auth/v1/signup": failed, "/auth/v1/token": httpx.Response(200, json=session)}
    transport = httpx.MockTransport(lambda request: answers[request.url.path])
    backend = SupabaseBackend(
        "http://auth.test",
        SecretStr("key"),
        ServerProof(new_key()),
        is_hosted=True,
        transport=transport,
    )

    assert str(backend.sign_in.sign_up(*WHO).user_id) == session["user"]["id"]

    answers["/auth/v1/token"] = failed
    with pytest.raises(errors.StoreUnavailable):
        backend.sign_in.sign_up(*WHO)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("For security purposes, you can only request this after 57 seconds.", 57),
        ("email rate limit exceeded", 3600),
    ],
)
def test_email_rate_limit_says_when_to_try_again(message, seconds):
    limit = {"code": "over_email_send_rate_limit", "message": message}

    error = refusal(auth.sign_up, *WHO, status=429, **limit)

    assert isinstance(error, errors.TooManyAttempts)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "refresh_token_not_found", errors.SignedOut),
        (400, "refresh_token_already_used", errors.SignedOut),
        (400, "session_not_found", errors.SignedOut),
        (400, "session_expired", errors.SignedOut),
        (400, "user_banned", errors.SignedOut),
        (409, "conflict", errors.TooManyAttempts),
        (429, "over_request_rate_limit", errors.TooManyAttempts),
        (400, "validation_failed", errors.StoreUnavailable),
        (401, "no_authorization", errors.StoreUnavailable),
        (403, "", errors.StoreUnavailable),
    ],
)
def test_only_an_ended_session_signs_a_user_out(status, code, error):
    assert type(refusal(auth.exchange, "refresh", status=status, code=code)) is error
