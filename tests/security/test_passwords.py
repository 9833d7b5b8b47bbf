"""Attempts to set a password or use a session without the app."""

import httpx
import pytest

from services.errors import WrongCredentials
from tests.store.conformance.talk import begun_with, titles
from tests.store.conftest import PASSWORD, make_sessions, new_email
from tests.stores import NOT_COUNTED, store_of

OTHER_PASSWORD = "wrong horse battery staple"
CHANGES = (  # of a user, at Supabase Auth
    {"password": OTHER_PASSWORD},
    {"email": "thief@daybook.test"},
    {"phone": "+15551234567"},
    {"data": {"name": "x" * 20_000}},
    {"data": {"role": "admin"}},
)


@pytest.fixture(scope="module", params=["stack", "hosted"], ids=["embedded", "hosted"])
def backend(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sessions(backend):
    made = make_sessions(backend)
    yield made
    made.backend.gateway.http.close()


@pytest.fixture
def email(sessions):
    """The address of an account."""
    address = new_email()
    sessions.sign_up_with(address, PASSWORD)
    return address


@pytest.fixture
def api(backend):
    headers = {"apikey": backend.publishable_key}
    with httpx.Client(base_url=backend.url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def database(backend):
    with backend.connect() as connection:
        yield connection


def bearer(tokens):
    return {"Authorization": f"Bearer {tokens.json()['access_token']}"}


def test_token_from_the_database_sets_no_password(sessions, email, api, database):
    query = (
        "select token from auth.refresh_tokens join auth.users on users.id::text = user_id::text"
        " where email = %s"
    )
    (refresh,) = database.execute(query, [email]).fetchone()
    tokens = api.post("/auth/v1/token?grant_type=refresh_token", json={"refresh_token": refresh})
    assert tokens.json()["user"]["email"] == email

    changed = api.put("/auth/v1/user", headers=bearer(tokens), json={"password": OTHER_PASSWORD})

    assert changed.status_code in (404, 500)
    with pytest.raises(WrongCredentials):
        sessions.sign_in_with(email, OTHER_PASSWORD)
    sessions.sign_in_with(email, PASSWORD)


@pytest.mark.parametrize("way", ["password", "recovery"])
def test_session_not_started_by_the_app_opens_nothing(sessions, email, api, database, way):
    if way == "password":  # which nobody knows
        managed = sessions.find(email, NOT_COUNTED).credentials.managed_password
        credentials = {"email": email, "password": managed}
        tokens = api.post("/auth/v1/token?grant_type=password", json=credentials)
    else:
        api.post("/auth/v1/recover", json={"email": email})
        query = "select coalesce(to_jsonb(users) ->> 'recovery_token', '') from auth.users where email = %s"
        (hashed,) = database.execute(query, [email]).fetchone()
        redeemed = {"type": "recovery", "token_hash": hashed}
        tokens = api.post("/auth/v1/verify", json=redeemed)
        if tokens.status_code == 404:  # at the real Auth alone it is redeemed
            assert hashed == ""
            return

    assert api.get("/rest/v1/user_keys", headers=bearer(tokens)).json() == []
    account = api.post("/rest/v1/rpc/my_account", headers=bearer(tokens))
    assert account.json()["code"] == "PT401"
    password = {"password": OTHER_PASSWORD}
    changed = api.put("/auth/v1/user", headers=bearer(tokens), json=password)
    assert changed.status_code in (404, 500)


def test_holder_of_a_token_neither_opens_nor_breaks_the_account(sessions, email, api, database):
    """Whatever they ask of Supabase Auth, its answers open nothing, and the owner still signs in."""
    session = sessions.sign_in_with(email, PASSWORD)[1]
    begun_with(store_of(session), "Letters")
    query = (
        "select token from auth.refresh_tokens where user_id::text = %s order by id desc limit 1"
    )
    (refresh,) = database.execute(query, [str(session.user_id)]).fetchone()
    tokens = api.post("/auth/v1/token?grant_type=refresh_token", json={"refresh_token": refresh})
    held = bearer(tokens)

    for method, path, body in (
        *(("PUT", "/user", one) for one in CHANGES),
        ("POST", "/factors", {"factor_type": "totp", "friendly_name": "theirs"}),
        ("POST", "/factors", {"factor_type": "phone", "phone": "+15551234567"}),
        ("GET", "/user/identities/authorize?provider=google", None),
        *(("POST", f"/{way}", {"email": email}) for way in ("recover", "otp", "magiclink")),
        ("POST", "/resend", {"email": email, "type": "signup"}),
        ("POST", "/verify", {"email": email, "type": "recovery", "token": "123456"}),
        ("GET", "/reauthenticate", None),
    ):
        api.request(method, f"/auth/v1{path}", json=body, headers=held)

    again = api.post("/auth/v1/token?grant_type=refresh_token", json={"refresh_token": refresh})
    for found in (tokens, again):
        if found.is_success:
            assert len(found.json()["access_token"]) < 4_000  # gateways take 8,000 bytes of headers
    with pytest.raises(WrongCredentials):
        sessions.sign_in_with(email, OTHER_PASSWORD)
    opened = store_of(sessions.sign_in_with(email, PASSWORD)[1])
    assert titles(opened.conversations.recent()) == ["Letters"]
