"""The transport for the embedded API."""

import json

import httpx

from services.store.supabase.lite_transport import LiteTransport


def test_times_in_replies_get_their_standard_form(monkeypatch):
    sent = json.dumps({"at": "2026-11-20 06:50:10.726+00", "note": "2026-11-20 06:50"}).encode()
    monkeypatch.setattr(
        httpx.HTTPTransport,
        "handle_request",
        lambda *_: httpx.Response(200, headers={"x-other": "kept"}, content=sent),
    )
    with httpx.Client(transport=LiteTransport()) as client:
        received = client.get("http://here/auth/v1/user")

    assert received.json() == {"at": "2026-11-20T06:50:10.726+00:00", "note": "2026-11-20 06:50"}
    assert received.headers["x-other"] == "kept"
