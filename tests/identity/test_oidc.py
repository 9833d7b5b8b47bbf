"""The client of OpenID Connect providers, against one that forges its answers."""

import asyncio
import base64
import gc
import gzip
import json
import ssl
import time
from dataclasses import asdict
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc.jwk import OctKey

from services import events
from services.domain.single_sign_on import (
    AnswerFault,
    AnswerRefused,
    Identity,
    ProviderAnswer,
    ProviderFault,
    ProviderUnavailable,
    RequestKind,
    new_request,
    step_of,
)
from services.identity.oidc import Provider
from services.identity.oidc_checks import check_claims
from tests.identity.provider import (
    ADDRESS,
    CLIENT_ID,
    KEYS,
    LEFT_OUT,
    METADATA,
    PROFILE,
    SECRET,
    SUBJECT,
    TOKEN,
    Response,
    a_key,
    forging_provider,
)
from tests.mail_server import HOST

BACK = "http://localhost:8501/oidc/corp/back"
STEP = UUID(int=7)


@pytest.fixture(scope="module")
def tls():
    """A TLS context: it takes 20 ms to make, and a provider without TLS leaves it unused."""
    return ssl.create_default_context()


@pytest.fixture
def forger(tls, monkeypatch):
    monkeypatch.setattr(ssl, "create_default_context", lambda: tls)
    with forging_provider() as provider:
        yield provider


class Corp:
    """Our client of a forging provider, and a clock."""

    def __init__(self, forger, name="corp", seconds=10.0, **entry):
        self.forger, self.clock_seconds = forger, 1_000.0
        self.provider = Provider(
            name, forger.entry(**entry), clock=lambda: self.clock_seconds, seconds=seconds
        )

    def request(self, asked=RequestKind.SIGN_IN, name="corp"):
        request = new_request(name, asked, STEP, BACK)
        self.forger.nonce = request.nonce
        return request

    def redeem(self, request, *parameters, **changes):
        """Redeem the right query, with *changes* and further *parameters*."""
        query = {"state": request.state, "code": "right"} | changes
        sent = [(key, value) for key, value in query.items() if value is not LEFT_OUT]
        return asyncio.run(self.provider.redeem(request, [*sent, *parameters]))

    def answer(self, asked=RequestKind.SIGN_IN, *parameters, **changes):
        return self.redeem(self.request(asked), *parameters, **changes)

    def fault(self, asked=RequestKind.SIGN_IN, *parameters, **changes):
        with pytest.raises(AnswerRefused) as caught:
            self.answer(asked, *parameters, **changes)
        return caught.value.fault

    def is_down(self):
        with pytest.raises(ProviderUnavailable) as caught:
            self.answer()
        return caught.value


@pytest.fixture
def heard(monkeypatch):
    """The events that are logged, each with its measurements."""
    heard = []
    monkeypatch.setattr(events, "_listeners", [lambda *event: heard.append(event)])
    return heard


@pytest.fixture
def corp(forger):
    return Corp(forger)


def test_sign_in_gives_user_and_verified_address(corp, forger):
    answer = corp.answer()

    assert answer.identity == Identity(forger.issuer, SUBJECT)
    assert (answer.provider, answer.address, answer.is_verified) == ("corp", ADDRESS, True)
    assert (answer.is_of_domains, answer.has_factor, answer.signed_in_at) == (True, False, None)
    assert forger.paths() == [METADATA, TOKEN, KEYS]


def test_browser_is_sent_with_state_nonce_and_challenge(corp, forger):
    request = corp.request()

    address = asyncio.run(corp.provider.authorization_address(request))

    query = parse_qs(urlsplit(address).query)
    challenge = query.pop("code_challenge")
    assert address.startswith(f"{forger.issuer}/authorize?tenant=1&")
    assert query == {
        "tenant": ["1"],
        "response_type": ["code"],
        "response_mode": ["query"],
        "client_id": [CLIENT_ID],
        "redirect_uri": [BACK],
        "scope": ["openid email"],
        "state": [request.state],
        "nonce": [request.nonce],
        "code_challenge_method": ["S256"],
    }
    assert len(challenge[0]) == 43
    assert request.verifier not in address
    assert SECRET not in address


@pytest.mark.parametrize("asked", [RequestKind.PROOF, RequestKind.FRESH])
def test_proof_has_the_user_sign_in_again_at_the_provider(corp, asked):
    address = asyncio.run(corp.provider.authorization_address(corp.request(asked)))

    query = parse_qs(urlsplit(address).query)
    assert (query["max_age"], query["prompt"]) == (["0"], ["login"])


def test_google_has_the_user_choose_as_it_knows_no_other_prompt(corp, forger, monkeypatch):
    monkeypatch.setattr("services.provider_settings._GOOGLE", forger.issuer)

    address = asyncio.run(corp.provider.authorization_address(corp.request(RequestKind.FRESH)))

    query = parse_qs(urlsplit(address).query)
    assert (query["max_age"], query["prompt"]) == (["0"], ["select_account"])


def test_state_leads_to_its_step_and_no_other_text_does():
    request, other = (new_request("corp", RequestKind.SIGN_IN, STEP, BACK) for _ in range(2))

    assert step_of(request.state) == STEP
    assert not {request.state, request.nonce, request.verifier} & {
        *(other.state, other.nonce, other.verifier)
    }
    for text in ("", STEP.hex, f"{STEP}.x", f"{STEP.hex[:-1]}g.x", f"{STEP.hex.upper()}\u0130.x"):
        assert step_of(text) is None


@pytest.mark.usefixtures("older_objects_frozen")
def test_no_token_of_a_provider_is_kept(corp, forger):
    """Authlib's client has them, and is gone after the request."""
    forger.tokens["refresh_token"] = "refreshing"

    answer = corp.answer()

    gc.collect()
    assert not any(isinstance(one, AsyncOAuth2Client) for one in gc.get_objects())
    assert not {"accessible", "refreshing"} & {*map(str, asdict(answer).values())}


def test_code_is_redeemed_with_verifier_and_encoded_secret(corp, forger):
    request = corp.request()
    corp.redeem(request)

    (asked,) = (one for one in forger.asked if one.path == TOKEN)
    sent = base64.b64decode(asked.headers["Authorization"].removeprefix("Basic ")).decode()
    assert sent == f"{CLIENT_ID}:kumquat-7781%3A%2B%25%2F+"
    assert asked.form == {
        "grant_type": "authorization_code",
        "code": "right",
        "code_verifier": request.verifier,
        "redirect_uri": BACK,
    }


def test_secret_is_posted_where_the_provider_takes_nothing_else(corp, forger):
    forger.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    corp.answer()

    (asked,) = (one for one in forger.asked if one.path == TOKEN)
    assert (asked.form["client_id"], asked.form["client_secret"]) == (CLIENT_ID, SECRET)


# the answer that the browser brings


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"state": LEFT_OUT}, AnswerFault.STATE),
        ({"state": "00000000000000000000000000000007.x"}, AnswerFault.STATE),
        ({"state": "\u0130"}, AnswerFault.STATE),
        ({"iss": "https://evil.example"}, AnswerFault.ISSUER),
        ({"iss": ""}, AnswerFault.ISSUER),
        ({"code": LEFT_OUT}, AnswerFault.CODE),
        ({"code": ""}, AnswerFault.CODE),
        ({"code": "x" * 8_001}, AnswerFault.CODE),
        ({"error": "access_denied", "error_description": "kumquat"}, AnswerFault.ERROR),
        ({"error": "access_denied", "code": LEFT_OUT}, AnswerFault.ERROR),
    ],
)
def test_foreign_or_empty_answer_redeems_no_code(corp, forger, changes, fault):
    assert corp.fault(RequestKind.SIGN_IN, **changes) is fault
    assert TOKEN not in forger.paths()


@pytest.mark.parametrize("name", ["state", "code", "iss", "error"])
def test_parameter_that_comes_twice_is_refused(corp, forger, name):
    request = corp.request()
    right = {"state": request.state, "code": "right", "iss": forger.issuer, "error": ""}
    parameters = [(name, right[name]), (name, right[name])]

    with pytest.raises(AnswerRefused) as caught:
        corp.redeem(request, *parameters)

    assert caught.value.fault is AnswerFault.REPEATED


def test_issuer_of_an_answer_is_demanded_where_it_is_announced(corp, forger):
    forger.metadata["authorization_response_iss_parameter_supported"] = True

    assert corp.fault() is AnswerFault.ISSUER
    assert corp.answer(iss=forger.issuer).address == ADDRESS


def test_answer_to_another_provider_is_refused(corp, forger):
    """Two providers mixed up: the step was begun for one, and the answer comes by the path of the other."""
    request = corp.request(name="other")

    with pytest.raises(AnswerRefused) as caught:
        corp.redeem(request)

    assert caught.value.fault is AnswerFault.PROVIDER
    assert TOKEN not in forger.paths()


def test_token_of_another_provider_is_refused(corp, forger):
    with forging_provider() as other:
        other.nonce = (request := corp.request()).nonce
        forger.token = other.signed()

        with pytest.raises(AnswerRefused) as caught:
            corp.redeem(request)

    assert caught.value.fault is AnswerFault.TOKEN_ISSUER


# the ID token

CLAIMS = [
    *(
        ("iss", value, AnswerFault.TOKEN_ISSUER)
        for value in ("https://evil.example", None, LEFT_OUT)
    ),
    *(
        ("aud", value, AnswerFault.AUDIENCE)
        for value in (
            *("another", [CLIENT_ID, "another"], ["another"], [], None, LEFT_OUT),
            *([CLIENT_ID, CLIENT_ID], {CLIENT_ID: 1}),
        )
    ),
    *(("azp", value, AnswerFault.AUTHORIZED_PARTY) for value in ("another", None, [CLIENT_ID])),
    *(
        ("sub", value, AnswerFault.SUBJECT)
        for value in (
            *("", "x" * 256, 7, None, True, ["7f3c"], {"id": 7}, LEFT_OUT),
            *("a\nb", "\x00", "m\u00e4ya", "\ud800"),
        )
    ),
    *(("nonce", value, AnswerFault.NONCE) for value in ("another", "", None, 7, LEFT_OUT)),
    *(
        ("exp", value, AnswerFault.EXPIRY)
        for value in (
            *(0, -1, None, LEFT_OUT, "9999999999", True, [9999999999]),
            *(float("nan"), float("inf"), 1e300),
        )
    ),
]


@pytest.mark.parametrize(("name", "value", "fault"), CLAIMS)
def test_token_of_a_wrong_claim_is_refused(corp, forger, name, value, fault):
    forger.claims[name] = value

    assert corp.fault() is fault


def test_foreign_audience_with_our_azp_is_refused(corp, forger):
    forger.claims |= {"aud": "another", "azp": CLIENT_ID}

    assert corp.fault() is AnswerFault.AUDIENCE


@pytest.mark.parametrize(
    "changes", [{"aud": [CLIENT_ID]}, {"azp": CLIENT_ID}, {"sub": "x" * 255}, {"sub": "auth0|7 a"}]
)
def test_token_may_say_the_right_thing_otherwise(corp, forger, changes):
    forger.claims |= changes

    assert corp.answer().address == ADDRESS


NOON = 1_795_694_400  # in seconds since 1970


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        ({"exp": NOON - 59}, None),
        ({"exp": NOON - 60}, AnswerFault.EXPIRY),
        ({"exp": NOON, "auth_time": NOON + 60}, None),
        ({"exp": NOON, "auth_time": NOON + 61}, AnswerFault.SIGN_IN_TIME),
    ],
)
def test_clock_may_differ_by_a_minute(corp, forger, times, fault):
    request = corp.request()
    claims = {"iss": forger.issuer, "sub": SUBJECT, "aud": CLIENT_ID, "nonce": request.nonce}

    def check():
        now = datetime.fromtimestamp(NOON, UTC)
        check_claims(claims | times, forger.entry(), request, now)

    if fault is None:
        check()
    else:
        with pytest.raises(AnswerRefused) as caught:
            check()
        assert caught.value.fault is fault


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_our_algorithms_are_verified(corp, forger, algorithm):
    kind = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC"}.get(algorithm, "OKP")
    forger.algorithm, forger.key = algorithm, a_key(kind)
    forger.keys = [
        {"kty": "unknown"},
        {"kty": "RSA", "n": 1},
        {},
        a_key(kind).as_dict(private=False),
    ]

    assert corp.answer().address == ADDRESS


@pytest.mark.parametrize("algorithm", ["RS512", "PS384", "RS384"])
def test_algorithm_outside_of_our_list_is_refused(corp, forger, algorithm):
    forger.algorithm = algorithm

    assert corp.fault() is AnswerFault.TOKEN


@pytest.mark.parametrize("kid", ["first", LEFT_OUT])
def test_unsigned_token_is_refused(corp, forger, kid):
    forger.algorithm, forger.header = "none", {"kid": kid}

    assert corp.fault() is AnswerFault.TOKEN


@pytest.mark.parametrize("form", ["as_pem", "as_der", "as_dict"])
def test_token_signed_with_the_public_key_is_refused(corp, forger, form):
    public = getattr(a_key(), form)(private=False)
    forger.algorithm, forger.header = "HS256", {"kid": "first"}
    forger.key = public["n"].encode() if form == "as_dict" else public

    assert corp.fault() is AnswerFault.TOKEN


def test_token_signed_with_a_published_secret_is_refused(corp, forger):
    forger.algorithm, forger.header, forger.key = "HS256", {"kid": "first"}, b"x" * 32
    forger.keys = [OctKey.import_key(forger.key, {"kid": "first"}).as_dict(private=True)]

    assert corp.fault() is AnswerFault.TOKEN


@pytest.mark.parametrize("kid", ["first", "stolen", "", None, 7, LEFT_OUT])
def test_key_of_another_provider_signs_nothing(corp, forger, kid):
    forger.key = a_key("RSA", "stolen")
    forger.header = {"kid": kid, "jku": "https://evil.example/keys"}

    assert corp.fault() is AnswerFault.TOKEN


def test_key_in_the_token_itself_signs_nothing(corp, forger):
    forger.algorithm, forger.key = "ES256", a_key("EC", "stolen")
    forger.header = {"jwk": forger.key.as_dict(private=False)}

    assert corp.fault() is AnswerFault.TOKEN


def test_token_may_have_header_fields_of_its_own(corp, forger):
    forger.header = {"org.corp.service": "x", "kid": LEFT_OUT}

    assert corp.answer().address == ADDRESS


@pytest.mark.parametrize(
    "token", ["", "x", "a.b", "a.b.c", "a.b.c.d.e", "\u0130", "[" * 9_000, 7, None, LEFT_OUT]
)
def test_what_is_no_token_is_refused(corp, forger, token):
    forger.tokens["id_token"] = token

    assert corp.fault() is AnswerFault.TOKEN


@pytest.mark.parametrize("payload", ["[" * 90_000, "[]", "7", "{", "\u0130"])
def test_token_without_claims_is_refused(corp, forger, payload):
    forger.token = forger.signed(payload)

    assert corp.fault() is AnswerFault.TOKEN


@pytest.mark.parametrize("critical", [7, [["b64"]], ["b64"], ["exp"], ["org.corp.rule"]])
def test_token_with_critical_fields_is_refused(corp, forger, critical):
    forger.header = {"crit": critical, "org.corp.rule": 1}

    assert corp.fault() is AnswerFault.TOKEN


def test_token_whose_claims_are_not_encoded_is_refused(corp, forger):
    request = corp.request()
    claims = {"iss": forger.issuer, "sub": SUBJECT, "aud": CLIENT_ID, "email": ADDRESS}
    claims |= {"exp": int(time.time()) + 300, "nonce": request.nonce}
    forger.header = {"b64": False, "crit": ["b64"]}
    forger.token = forger.signed(json.dumps(claims).replace(".", "\\u002e"))

    with pytest.raises(AnswerRefused) as caught:
        corp.redeem(request)

    assert caught.value.fault is AnswerFault.TOKEN


# the address


@pytest.mark.parametrize(
    ("claims", "is_verified"),
    [
        ({"email_verified": True}, True),
        ({"email_verified": "true"}, True),
        ({"email_verified": 1}, True),
        ({"email_verified": LEFT_OUT, "xms_edov": True}, True),
        ({"email_verified": LEFT_OUT, "xms_edov": "true"}, True),
        ({"email_verified": LEFT_OUT, "xms_edov": 1}, True),
        ({"email_verified": LEFT_OUT, "xms_edov": "1"}, True),
        ({"email_verified": LEFT_OUT, "xms_edov": "0"}, False),
        *(
            ({"email_verified": value}, False)
            for value in (
                *(False, "false", "True", "yes", "1", 0, 2, 1.0, None, [True], {}, LEFT_OUT),
            )
        ),
    ],
)
def test_address_is_verified_where_the_provider_says_so(corp, forger, claims, is_verified):
    forger.claims |= claims

    answer = corp.answer()

    assert (answer.address, answer.is_verified) == (ADDRESS, is_verified)


def test_address_is_verified_where_the_entry_trusts_it(forger):
    forger.claims["email_verified"] = False
    corp = Corp(forger, trusts_address=True)

    assert corp.answer().is_verified

    forger.claims["email"] = "maya@localhost"
    assert not corp.answer().is_verified


@pytest.mark.parametrize(
    "value",
    [
        *("me@evil.example,maya@corp.example", "Maya <maya@corp.example>", "<maya@corp.example>"),
        *("maya@evil.example@corp.example", "maya@corp.example\n", "maya@c\u00f6rp.example"),
        *(
            '"maya"@corp.example',
            "maya@[127.0.0.1]",
            "maya@localhost",
            "",
            f"{'x' * 250}@b.example",
        ),
        *("\u212aim@corp.example", "\ud800@corp.example", "maya\x00@corp.example"),
        *(7, None, True, ["maya@corp.example"], {"email": "maya@corp.example"}),
        *("owner@daybook.invalid", "freed-1@daybook.invalid", "x@deleted.invalid"),
    ],
)
def test_address_of_another_form_is_none(forger, value):
    forger.claims["email"] = value
    answer = Corp(forger, trusts_address=True, domains=["corp.example"]).answer()

    assert (answer.address, answer.is_verified, answer.is_of_domains) == (None, False, False)


def test_address_is_compared_in_lower_case(corp, forger):
    forger.claims["email"] = "Maya@CORP.example"

    assert corp.answer().address == ADDRESS


def test_address_that_the_token_lacks_is_asked_for(corp, forger):
    forger.claims["email"] = LEFT_OUT
    forger.profile = {"sub": SUBJECT, "email": "other@corp.example", "email_verified": "true"}

    answer = corp.answer()

    assert (answer.address, answer.is_verified) == ("other@corp.example", True)
    assert forger.asked[-1].path == PROFILE
    assert forger.asked[-1].headers["Authorization"] == "Bearer accessible"


def test_profile_verifies_its_own_address_alone(corp, forger):
    forger.claims["email"] = LEFT_OUT  # email_verified stays in the token
    forger.profile = {"sub": SUBJECT, "email": ADDRESS}

    assert not corp.answer().is_verified


@pytest.mark.parametrize("subject", ["other", "", None, 7, [SUBJECT], LEFT_OUT])
def test_profile_of_another_user_is_refused(corp, forger, subject):
    forger.claims["email"] = LEFT_OUT
    forger.profile = {"email": ADDRESS, "email_verified": True}
    forger.profile |= {} if subject is LEFT_OUT else {"sub": subject}

    assert corp.fault() is AnswerFault.PROFILE


@pytest.mark.parametrize("token", [LEFT_OUT, 7, "\u0130", ""])
def test_user_without_profile_has_no_address(corp, forger, token):
    forger.claims["email"] = LEFT_OUT
    forger.tokens["access_token"] = token
    assert (corp.answer().address, corp.answer().is_verified) == (None, False)

    other = Corp(forger)
    forger.tokens = {}
    forger.metadata["userinfo_endpoint"] = LEFT_OUT
    assert other.answer().address is None
    assert PROFILE not in forger.paths()


@pytest.mark.parametrize(
    ("address", "is_of_domains"),
    [
        ("maya@corp.example", True),
        ("maya@CORP.example", True),
        ("maya@other.example", True),
        ("maya@evilcorp.example", False),
        ("maya@sub.corp.example", False),
        ("maya@corp.example.evil.example", False),
        ("corp.example@evil.example", False),
    ],
)
def test_domains_are_compared_whole(forger, address, is_of_domains):
    forger.claims["email"] = address
    corp = Corp(forger, domains=["corp.example", "other.example"])

    assert corp.answer().is_of_domains is is_of_domains


def test_unverified_address_is_of_no_domain(forger):
    forger.claims["email_verified"] = False

    assert not Corp(forger, domains=["corp.example"]).answer().is_of_domains


@pytest.mark.parametrize(
    ("organisation", "is_of_domains"),
    [
        ("corp.example", True),
        *((one, False) for one in ("other.example", None, ["corp.example"], "", LEFT_OUT)),
    ],
)
def test_google_has_to_name_the_organisation_too(forger, monkeypatch, organisation, is_of_domains):
    monkeypatch.setattr("services.provider_settings._GOOGLE", forger.issuer)
    forger.claims["hd"] = organisation
    answer = Corp(forger, domains=["corp.example"]).answer()

    assert (answer.is_member, answer.is_of_domains) == (is_of_domains, is_of_domains)
    assert Corp(forger).answer().is_member


# proofs and factors


def test_proof_wants_the_time_of_the_sign_in(corp, forger):
    assert corp.fault(RequestKind.PROOF) is AnswerFault.SIGN_IN_TIME

    forger.claims["auth_time"] = 1_700_000_000
    signed_in_at = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert corp.answer(RequestKind.PROOF).signed_in_at == signed_in_at


def test_fresh_answer_may_come_without_a_time(corp):
    assert corp.answer(RequestKind.FRESH).signed_in_at is None


@pytest.mark.parametrize(
    "value", ["1700000000", None, True, -1, float("nan"), 9_999_999_999, 1e300]
)
@pytest.mark.parametrize("asked", RequestKind)
def test_time_of_a_sign_in_is_a_past_number(corp, forger, value, asked):
    forger.claims["auth_time"] = value

    assert corp.fault(asked) is AnswerFault.SIGN_IN_TIME


@pytest.mark.parametrize(
    ("claims", "has_factor"),
    [
        ({"amr": ["pwd", "mfa"]}, True),
        ({"acr": "gold"}, True),
        ({"amr": ["pwd"], "acr": "silver"}, False),
        ({"amr": "mfa"}, False),
        ({"amr": {"mfa": 1}}, False),
        ({"amr": [["mfa"], {"mfa": 1}, 7], "acr": ["gold"]}, False),
        ({}, False),
    ],
)
def test_factor_of_a_provider_counts_by_the_values_that_are_trusted(forger, claims, has_factor):
    forger.claims |= claims

    assert Corp(forger, trusts_mfa=["mfa", "gold"]).answer().has_factor is has_factor
    assert not Corp(forger).answer().has_factor


# what the provider publishes


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example"},
        {"issuer": LEFT_OUT},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": "https://me:secret@evil.example/token"},
        {"token_endpoint": "/token"},
        {"token_endpoint": LEFT_OUT},
        {"jwks_uri": "http://evil.example/keys"},
        {"jwks_uri": 7},
        {"userinfo_endpoint": "http://evil.example/me"},
        {"end_session_endpoint": "http://evil.example/end"},
    ],
)
def test_metadata_of_another_issuer_or_unsafe_address_is_not_used(corp, forger, changes):
    forger.metadata |= changes

    corp.is_down()

    assert forger.paths() == [METADATA]


@pytest.mark.parametrize("end", ["/", "/x", "?"])
def test_issuer_of_metadata_is_compared_to_the_byte(corp, forger, end):
    forger.metadata["issuer"] = f"{forger.issuer}{end}"

    corp.is_down()


@pytest.mark.parametrize("path", [METADATA, TOKEN, KEYS, PROFILE])
def test_no_redirect_is_followed(corp, forger, path):
    forger.claims["email"] = LEFT_OUT
    with forging_provider() as other:
        forger.instead[path] = Response(b"", 307, {"Location": f"{other.issuer}{path}"})

        corp.is_down()

        assert other.asked == []


RAW = {
    "no object": Response(b"[]"),
    "not found": Response(b"{}", 404),
    "an error": Response(b"{}", 500),
    "a page": Response(b"<html>", 200, {"Content-Type": "text/html"}),
    "nothing": Response(b""),
    "no UTF-8": Response(b'{"keys": "\xff"}'),
    "deeply nested": Response(b"[" * 200_000),
    "too long": Response(b'{"x": "' + b"x" * 256_000 + b'"}'),
}


@pytest.mark.parametrize("path", [METADATA, TOKEN, KEYS, PROFILE])
@pytest.mark.parametrize("raw", RAW)
def test_answer_that_cannot_be_read_is_an_outage(corp, forger, path, raw):
    forger.claims["email"] = LEFT_OUT
    forger.instead[path] = RAW[raw]
    if (path, raw) == (TOKEN, "not found"):  # JSON without a token
        assert corp.fault() is AnswerFault.TOKEN
        return
    if (path, raw) == (PROFILE, "no UTF-8"):
        forger.instead[path] = Response(b'{"sub": "\xff"}')

    corp.is_down()


@pytest.mark.parametrize("path", [METADATA, TOKEN, KEYS, PROFILE])
@pytest.mark.parametrize("size", [0, 9_000_000])
def test_compressed_answer_is_not_read(corp, forger, path, size):
    forger.claims["email"] = LEFT_OUT
    forger.profile = {"sub": SUBJECT}
    request = corp.request()
    body = gzip.compress(json.dumps(forger.answer(path)).encode() + b" " * size)
    forger.instead[path] = Response(body, 200, {"Content-Encoding": "gzip"})

    with pytest.raises(ProviderUnavailable):
        corp.redeem(request)


@pytest.mark.parametrize("value", ["soon", [7], float("inf"), "9" * 5_000])
def test_token_answer_that_authlib_cannot_read_is_an_outage(corp, forger, value):
    forger.tokens["expires_in"] = value

    corp.is_down()


@pytest.mark.parametrize("path", [METADATA, TOKEN, KEYS, PROFILE])
@pytest.mark.parametrize("how", [{"seconds": 30}, {"drips": 0.05}])
def test_slow_provider_is_left_in_time(forger, path, how):
    forger.claims["email"] = LEFT_OUT
    forger.instead[path] = Response(b"x" * 1_000, 200, **how)
    corp, began = Corp(forger, seconds=0.5), time.monotonic()

    corp.is_down()

    assert time.monotonic() - began < 5


def test_provider_that_is_down_holds_up_no_other(forger):
    """Ten requests of a provider that hangs, and one of another, on one event loop."""
    forger.instead[METADATA] = Response(seconds=30)
    slow = Corp(forger, seconds=2.0)
    with forging_provider() as running:
        quick = Corp(running, "other")
        request, began = quick.request(name="other"), time.monotonic()

        async def all_at_once():
            waiting = [
                asyncio.create_task(slow.provider.authorization_address(slow.request()))
                for _ in range(10)
            ]
            await asyncio.sleep(0)
            await quick.provider.authorization_address(request)
            seconds = time.monotonic() - began
            return seconds, await asyncio.gather(*waiting, return_exceptions=True)

        seconds, failures = asyncio.run(all_at_once())

    assert seconds < 1.5
    assert {type(one) for one in failures} == {ProviderUnavailable}


def test_refused_connection_is_an_outage():
    with forging_provider() as gone:
        corp = Corp(gone)
    assert corp.is_down().fault is ProviderFault.CALL


@pytest.mark.parametrize(
    ("path", "answer", "fault"),
    [
        (METADATA, Response(b"{}", 404), ProviderFault.METADATA),
        (METADATA, Response(b"<html>"), ProviderFault.METADATA),
        (KEYS, Response(b"{}", 500), ProviderFault.KEYS),
        (PROFILE, Response(b"{}", 403), ProviderFault.PROFILE),
        (TOKEN, Response(b'{"error": "invalid_client"}', 401), ProviderFault.CLIENT),
        # the answer of Keycloak to a wrong secret
        (TOKEN, Response(b'{"error": "unauthorized_client"}', 401), ProviderFault.CLIENT),
        (TOKEN, Response(b'{"error": "invalid_scope"}', 400), ProviderFault.TOKEN),
        *(
            (TOKEN, Response(b'{"error": %s}' % value, 400), ProviderFault.TOKEN)
            for value in (b'{"code": "invalid_client"}', b'["invalid_grant"]', b"7", b"null")
        ),
        (TOKEN, Response(b"<html>"), ProviderFault.TOKEN),
    ],
)
def test_outage_says_which_answer_cannot_be_used(corp, forger, heard, path, answer, fault):
    forger.claims["email"] = LEFT_OUT
    forger.instead[path] = answer

    assert corp.is_down().fault is fault

    [fields] = [fields for event, fields in heard if event == "oidc.unavailable"]
    assert fields["reason"] == fault
    assert fields["status"] == (None if path == TOKEN else answer.status)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"issuer": "https://corp.example"}, ProviderFault.ISSUER),
        ({"token_endpoint": "http://corp.example/token"}, ProviderFault.ADDRESS),
    ],
)
def test_outage_says_what_is_wrong_in_the_metadata(corp, forger, changes, fault):
    forger.metadata |= changes

    assert corp.is_down().fault is fault


@pytest.mark.parametrize(
    ("error", "fault"), [("invalid_grant", AnswerFault.CODE), ("invalid_client", None)]
)
def test_refused_code_is_told_from_a_wrong_setting(corp, forger, error, fault):
    body = json.dumps({"error": error, "error_description": "kumquat"}).encode()
    forger.instead[TOKEN] = Response(body, 400)

    if fault:
        assert corp.fault() is fault
    else:
        corp.is_down()


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ("access_denied", AnswerFault.ERROR),
        ("invalid_scope", AnswerFault.REQUEST),
        ("unauthorized_client", AnswerFault.REQUEST),
    ],
)
def test_refused_request_is_told_from_a_user_who_declines(corp, error, fault):
    assert corp.fault(error=error) is fault


def test_words_of_a_provider_reach_no_error_and_no_log(corp, forger, heard, caplog):
    body = json.dumps({"error": "kumquat", "error_description": "kumquat"}).encode()
    forger.instead[TOKEN] = Response(body, 400)

    error = corp.is_down()
    corp.fault(error="kumquat", error_description="kumquat")

    assert "kumquat" not in f"{error!r}{error.public}{error.__cause__}{heard}{caplog.text}"
    fields = {"reason": "token", "status": None, "error": "OAuthError"}
    assert ("oidc.unavailable", fields) in heard
    assert ("oidc.refused", {"fault": "error"}) in heard


# keys


def test_metadata_and_keys_are_fetched_once_an_hour(corp, forger):
    corp.answer()
    corp.clock_seconds += 3_599
    corp.answer()
    assert forger.paths() == [METADATA, TOKEN, KEYS, TOKEN]

    corp.clock_seconds += 1
    corp.answer()
    assert forger.paths()[4:] == [METADATA, TOKEN, KEYS]


@pytest.mark.parametrize("kid", ["first", "second"])
def test_new_key_is_fetched_when_a_token_is_signed_with_it(corp, forger, kid):
    corp.answer()
    forger.key = a_key("RSA", kid, 3072)
    forger.keys = [forger.key.as_dict(private=False)]
    corp.clock_seconds += 61

    assert corp.answer().address == ADDRESS
    assert forger.paths().count(KEYS) == 2


def test_keys_are_fetched_again_at_most_once_a_minute(corp, forger):
    corp.answer()
    forger.key = a_key("RSA", "stolen")
    for seconds, times in ((59, 1), (1, 2), (59, 2), (1, 3)):
        corp.clock_seconds += seconds
        assert corp.fault() is AnswerFault.TOKEN
        assert forger.paths().count(KEYS) == times


def test_failed_fetch_of_keys_is_repeated_after_a_minute(corp, forger):
    forger.instead[KEYS] = Response(status=500)
    for seconds, times in ((0, 1), (59, 1), (1, 2)):
        corp.clock_seconds += seconds
        corp.is_down()
        assert forger.paths().count(KEYS) == times

    del forger.instead[KEYS]
    corp.clock_seconds += 60
    assert corp.answer().address == ADDRESS


def test_known_keys_stay_in_use_while_a_fetch_fails(corp, forger):
    corp.answer()
    known, stolen = forger.key, a_key("RSA", "stolen")
    forger.instead[KEYS] = Response(status=500)
    corp.clock_seconds += 3_600
    corp.is_down()  # this one waits for the fetch
    for seconds, times in ((0, 2), (59, 2), (1, 3)):
        corp.clock_seconds += seconds
        if times == 3:
            corp.is_down()
        forger.key = stolen
        assert corp.fault() is AnswerFault.TOKEN
        forger.key = known
        assert corp.answer().address == ADDRESS
        assert forger.paths().count(KEYS) == times


def test_requests_at_once_fetch_a_document_once(corp, forger):
    async def redeem_five():
        request = corp.request()
        query = [("state", request.state), ("code", "right")]
        redeeming = (corp.provider.redeem(request, query) for _ in range(5))
        return {type(one) for one in await asyncio.gather(*redeeming, return_exceptions=True)}

    async def redeem_five_twice():
        assert await redeem_five() == {ProviderAnswer}
        assert (forger.paths().count(METADATA), forger.paths().count(KEYS)) == (1, 1)

        forger.key = a_key("RSA", "stolen")
        corp.clock_seconds += 61
        assert await redeem_five() == {AnswerRefused}
        assert forger.paths().count(KEYS) == 2

    asyncio.run(redeem_five_twice())


def test_published_private_key_signs_nothing(corp, forger):
    forger.keys = [a_key().as_dict(private=True)]

    assert corp.fault() is AnswerFault.TOKEN


# signing out


def test_sign_out_at_the_provider_names_us_and_no_token(corp, forger):
    address = asyncio.run(corp.provider.sign_out_address("https://daybook.example/"))

    assert address == (
        f"{forger.issuer}/end?client_id=daybook"
        "&post_logout_redirect_uri=https%3A%2F%2Fdaybook.example%2F"
    )


def test_provider_without_sign_out_has_no_address_for_it(corp, forger):
    forger.metadata["end_session_endpoint"] = LEFT_OUT

    assert asyncio.run(corp.provider.sign_out_address("https://daybook.example/")) is None


# TLS


@pytest.mark.parametrize("subject", [HOST, "other.daybook.test"])
def test_provider_is_asked_over_checked_tls(trusted, subject):
    """A certificate for the name is taken, and one for another is not."""
    with forging_provider(trusted.context(subject)) as provider:
        provider.host = f"https://{HOST}"
        request = new_request("corp", RequestKind.SIGN_IN, STEP, BACK)
        asking = Provider("corp", provider.entry()).authorization_address(request)
        if subject == HOST:
            assert asyncio.run(asking).startswith(f"{provider.issuer}/authorize?")
        else:
            with pytest.raises(ProviderUnavailable):
                asyncio.run(asking)
            assert provider.asked == []


def test_garbled_tls_is_an_outage(trusted):
    """Anybody on the network can write a record into the connection."""
    with forging_provider(trusted.context(HOST)) as provider:
        provider.host = f"https://{HOST}"
        provider.instead[METADATA] = Response(is_garbled=True)
        request = new_request("corp", RequestKind.SIGN_IN, STEP, BACK)

        with pytest.raises(ProviderUnavailable):
            asyncio.run(Provider("corp", provider.entry()).authorization_address(request))


def test_https_provider_leads_to_no_address_without_tls(trusted):
    with forging_provider(trusted.context(HOST)) as provider:
        provider.host = f"https://{HOST}"
        provider.metadata["token_endpoint"] = f"http://127.0.0.1:{provider.port}{TOKEN}"
        request = new_request("corp", RequestKind.SIGN_IN, STEP, BACK)

        with pytest.raises(ProviderUnavailable):
            asyncio.run(Provider("corp", provider.entry()).authorization_address(request))

        assert provider.paths() == [METADATA]
