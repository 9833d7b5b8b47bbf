"""What is sent to the Supabase API."""

import httpx
import pytest
from pydantic import SecretStr

from services.store.gateway import Gateway

KEY = "sb_publishable_key"


@pytest.mark.parametrize("bearer", ["", "an.access.token"])
def test_publishable_key_is_never_sent_as_bearer_token(bearer: str):
    sent = list[httpx.Headers]()

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200, json={})

    gateway = Gateway.to("http://database.test", SecretStr(KEY), httpx.MockTransport(answer))
    client = gateway.client()
    if bearer:
        client.postgrest.auth(bearer)
    client.rpc("open_session", {}).execute()
    client.auth.reset_password_for_email("maya@daybook.test")

    assert [headers["apikey"] for headers in sent] == [KEY, KEY]
    calls = [headers.get("Authorization") for headers in sent]
    assert calls == [f"Bearer {bearer}" if bearer else None, None]
