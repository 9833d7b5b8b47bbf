"""The embedded API serves only the paths of Supabase Auth that the app uses, and answers a wrong value with a client error."""

import http.client
import json
from urllib.parse import urlsplit

import httpx
import pytest

USED = [
    ("GET", "/auth/v1/health"),
    ("GET", "/auth/v1/settings"),
    ("POST", "/auth/v1/logout"),
    ("POST", "/auth/v1/signup"),
    ("POST", "/auth/v1/token?grant_type=password"),
]
UNUSED = [
    ("GET", "/auth/v1/user"),
    ("PUT", "/auth/v1/user"),
    ("GET", "/auth/v1/verify?token=1&type=recovery"),
    ("GET", "/auth/v1/authorize?provider=google"),
    ("GET", "/auth/v1/reauthenticate"),
    ("GET", "/auth/v1/admin/users"),
    *[("POST", f"/auth/v1/{verb}") for verb in ("verify", "otp", "magiclink", "resend")],
]
SPELLINGS = [
    "/auth/v1/recover",
    "//auth/v1/recover",
    "/auth//v1/recover",
    "/AUTH/V1/RECOVER",
    "/auth/v1/recover/",
    "/auth/v1/./recover",
    "/auth/v1/token/../recover",
    "/auth/v1/token/%2e%2e/recover",
    "/rest/v1/../../auth/v1/recover",
    "/rest/v1/%2E./..%2fauth/v1/recover",
    "/%61uth/v1/recover",
    "http://localhost/auth/v1/recover",
    "/auth/v1/recover?/rest/v1/",
    "/auth/v1/recover#/rest/v1/",
    "/auth/v1\\recover",
]
# as long as the host that Node's URL makes of it, whose length lite uses to find the path
HIDING_HOST = "\xfc.\xfc.\xfc.\xfc.\xfc/auth/v1/recover?xxxxxxxxxxxxx"


def status(stack, method, target, host="localhost", body=b"{}"):
    """Return the status of a request for *target*, which is sent unchanged."""
    address = urlsplit(stack.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    try:
        connection.putrequest(method, target, skip_host=True)
        connection.putheader("Host", host.encode("latin-1"))
        connection.putheader("apikey", stack.publishable_key)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "target"), USED)
def test_used_auth_paths_are_answered(stack, method, target):
    assert status(stack, method, target) != 404


@pytest.mark.parametrize(
    ("method", "target"), UNUSED + [("POST", spelling) for spelling in SPELLINGS]
)
def test_unused_auth_paths_are_not_found(stack, method, target):
    assert status(stack, method, target) == 404


def test_request_without_the_key_is_refused(stack):
    for path in ("/rest/v1/conversations", "/rest/v1/rpc/throttle", "/auth/v1/settings"):
        address = f"{stack.url}{path}"

        assert httpx.get(address, trust_env=False).status_code == 401, path


def test_forged_host_hides_no_auth_path(stack):
    assert status(stack, "POST", "/rest/v1/rpc/throttle", HIDING_HOST) == 404


@pytest.mark.parametrize(
    "wrong", [{"new_tokens": "plain"}, {"seen_generation": "x"}, {"new_tokens": ["plain"]}]
)
def test_wrong_value_without_a_proof_is_the_senders_fault(stack, wrong):
    """Text in place of sealed text fails in a check of its type, before the proof is checked."""
    given = {"cookie": "x", "seen_generation": 1, "new_tokens": "p", "made_at": 1, "proof": "x"}
    body = json.dumps(given | wrong).encode()

    assert status(stack, "POST", "/rest/v1/rpc/store_tokens", body=body) == 400


@pytest.mark.parametrize("wrong", [1, True, [], {}])
def test_day_that_is_no_text_is_the_senders_fault(stack, wrong):
    body = json.dumps({"first_day": wrong, "last_day": "2026-11-24"}).encode()

    assert status(stack, "POST", "/rest/v1/rpc/my_usage", body=body) == 400
