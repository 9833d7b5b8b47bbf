"""The client of OpenID Connect providers, against two real ones."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx2
import pytest

from services.domain.single_sign_on import (
    AnswerFault,
    AnswerRefused,
    Identity,
    ProviderUnavailable,
    RequestKind,
    new_request,
)
from services.identity.oidc import Provider
from tests.identity.real_providers import BACK, Browser, real_providers


@pytest.fixture(scope="module")
def providers(cache, tmp_path_factory):
    with real_providers(cache, tmp_path_factory.mktemp("providers"), BACK) as running:
        yield running


@pytest.fixture
def strict(providers):
    return Provider("corp", providers.entry(providers.strict))


@pytest.fixture
def mock(providers):
    providers.script()
    return Provider("corp", providers.entry(providers.mock, trusts_mfa=["mfa"]))


@pytest.fixture
def maya():
    with closing(Browser("maya")) as browser:
        yield browser


def asked(provider, browser, asked=RequestKind.SIGN_IN):
    """Send *browser* to the provider; return the request and the query that it comes back with."""
    request = new_request("corp", asked, uuid4(), BACK)
    address = asyncio.run(provider.authorization_address(request))
    return request, browser.sign_in(address)


def redeemed(provider, request, query):
    return asyncio.run(provider.redeem(request, query))


def fault(provider, request, query):
    with pytest.raises(AnswerRefused) as caught:
        redeemed(provider, request, query)
    return caught.value.fault


def test_strict_provider_signs_in_with_the_address_of_its_profile(strict, providers, maya):
    answer = redeemed(strict, *asked(strict, maya))

    assert answer.identity == Identity(providers.strict, "maya")
    assert (answer.address, answer.is_verified) == ("maya@corp.example", True)


def test_strict_provider_tells_of_an_unverified_address(strict):
    with closing(Browser("new-noor")) as noor:
        answer = redeemed(strict, *asked(strict, noor))

    assert (answer.address, answer.is_verified) == ("new-noor@corp.example", False)


def test_strict_provider_names_itself_in_its_answer(strict, providers, maya):
    request, query = asked(strict, maya)

    assert dict(query)["iss"] == providers.strict
    without = [pair for pair in query if pair[0] != "iss"]
    assert fault(strict, request, without) is AnswerFault.ISSUER


def test_proof_has_the_strict_provider_ask_again(strict, maya):
    redeemed(strict, *asked(strict, maya))
    before = len(maya.prompts)
    redeemed(strict, *asked(strict, maya))
    assert len(maya.prompts) == before  # signed in there already

    answer = redeemed(strict, *asked(strict, maya, RequestKind.PROOF))

    assert maya.prompts[before] == "login"
    assert datetime.now(UTC) - answer.signed_in_at < timedelta(minutes=1)


def test_strict_provider_redeems_a_code_once(strict, maya):
    request, query = asked(strict, maya)
    redeemed(strict, request, query)

    assert fault(strict, request, query) is AnswerFault.CODE


def test_strict_provider_refuses_the_verifier_of_another_request(strict, maya):
    first, _ = asked(strict, maya)
    _, query = asked(strict, maya)
    stolen = [("state", first.state) if pair[0] == "state" else pair for pair in query]

    assert fault(strict, first, stolen) is AnswerFault.CODE


def test_strict_provider_refuses_a_wrong_secret(providers, maya):
    other = Provider("corp", providers.entry(providers.strict, client_secret="another"))

    with pytest.raises(ProviderUnavailable):
        redeemed(other, *asked(other, maya))


def test_user_who_declines_is_not_signed_in(strict):
    with closing(Browser("maya", declines=True)) as browser:
        assert fault(strict, *asked(strict, browser)) is AnswerFault.ERROR


def test_strict_provider_takes_who_signs_out(strict, providers, maya):
    redeemed(strict, *asked(strict, maya))

    address = asyncio.run(strict.sign_out_address("http://localhost:8501/"))

    assert address.startswith(f"{providers.strict}/session/end?client_id=daybook&")
    assert "Do you want to sign-out" in maya.page(address)
    with pytest.raises(httpx2.HTTPStatusError):  # it knows where users come back to
        maya.page(asyncio.run(strict.sign_out_address("https://evil.example/")))


@pytest.mark.parametrize(
    ("script", "wrong"),
    [
        ({"claims": {"aud": "another"}}, AnswerFault.AUDIENCE),
        ({"claims": {"aud": "another", "azp": "daybook"}}, AnswerFault.AUDIENCE),
        ({"claims": {"azp": "another"}}, AnswerFault.AUTHORIZED_PARTY),
        ({"claims": {"iss": "https://evil.example"}}, AnswerFault.TOKEN_ISSUER),
        ({"claims": {"nonce": "another"}}, AnswerFault.NONCE),
        ({"claims": {"nonce": None}}, AnswerFault.NONCE),
        ({"claims": {"sub": 7}}, AnswerFault.SUBJECT),
        ({"claims": {"sub": ""}}, AnswerFault.SUBJECT),
        ({"claims": {"exp": 1}}, AnswerFault.EXPIRY),
        ({"claims": {"exp": None}}, AnswerFault.EXPIRY),
        ({"query": {"state": "another"}}, AnswerFault.STATE),
        ({"query": {"iss": "https://evil.example"}}, AnswerFault.ISSUER),
        ({"query": {"error": "access_denied"}}, AnswerFault.ERROR),
        ({"header": {"kid": "another"}}, AnswerFault.TOKEN),
        (
            {"metadata": {"authorization_response_iss_parameter_supported": True}},
            AnswerFault.ISSUER,
        ),
    ],
)
def test_mock_that_says_something_wrong_is_refused(providers, mock, maya, script, wrong):
    providers.script(**script)

    assert fault(mock, *asked(mock, maya)) is wrong


def test_mock_without_a_time_proves_nothing(mock, maya):
    assert fault(mock, *asked(mock, maya, RequestKind.PROOF)) is AnswerFault.SIGN_IN_TIME


def test_mock_of_another_issuer_is_not_used(providers, mock):
    providers.script(metadata={"issuer": "https://evil.example"})

    with pytest.raises(ProviderUnavailable):
        asyncio.run(
            mock.authorization_address(new_request("corp", RequestKind.SIGN_IN, uuid4(), BACK))
        )


def test_mock_signs_in_as_it_is_told(providers, mock, maya):
    claims = {"sub": "7", "email": "maya@corp.example", "email_verified": "true", "amr": ["mfa"]}
    providers.script(claims=claims)

    answer = redeemed(mock, *asked(mock, maya))

    assert answer.identity == Identity(providers.mock, "7")
    assert (answer.address, answer.is_verified) == ("maya@corp.example", True)
    assert answer.has_factor
