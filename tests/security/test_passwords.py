"""Attempts to set a password or use a session without the app."""

import httpx
import pytest

from services.errors import WrongCredentials
from tests.store.conftest import PASSWORD, make_sessions, new_email
from tests.stores import NOT_COUNTED

OTHER_PASSWORD = "wrong horse battery staple"


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
    assert api.get("/auth/v1/user", headers=bearer(tokens)).json()["email"] == email

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
