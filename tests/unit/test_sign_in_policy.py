"""What lets users in on a deployment: methods that are on, addresses of one provider, and what is left."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.crypto import Credentials
from services.domain.addresses import NO_ADDRESS, Confirmed, ConfirmedBy, checked_address
from services.domain.passkeys import Passkey, Passkeys
from services.domain.sign_in_methods import (
    BY_CODE,
    BY_PASSKEY,
    BY_PASSWORD,
    SignInMethod,
    UsedMethod,
)
from services.domain.single_sign_on import Identity, LinkedIdentity, OtherSignInNeeded
from services.errors import LastWayIn, MethodOff
from services.provider_settings import ProviderSettings
from services.store.sign_in_policy import SignInPolicy

PASSWORD, CODE, PASSKEY, OIDC = SignInMethod
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
ADDRESS = checked_address("maya@corp.example")
HERE = "https://daybook.example"
ISSUER = "https://login.corp.example"
NOBODY = Credentials(
    address=ADDRESS,
    password_hash=None,
    account_secret=bytes(32),
    managed_password="the password at Auth",
    generation=1,
)
WITH_PASSWORD = replace(NOBODY, password_hash="a hash")
BY_OPERATOR = replace(WITH_PASSWORD, has_operator_password=True)
CONFIRMED = replace(NOBODY, confirmed=Confirmed(how=ConfirmedBy.CODE, at=NOON))
BY_CORP, BY_HOME = UsedMethod(OIDC, "corp"), UsedMethod(OIDC, "home")


def a_provider(issuer, **changes):
    fields = {"issuer": issuer, "client_id": "daybook", "client_secret": "a secret"}
    return ProviderSettings.model_validate(fields | changes)


def providers(**changes):
    return {
        "corp": a_provider(ISSUER, **changes),
        "home": a_provider("https://login.home.example"),
    }


ONLY = providers(only=True, domains=["corp.example"])


def policy(*methods, of=None, public_url=HERE):
    return SignInPolicy(
        methods=frozenset(methods), providers=of or providers(), public_url=public_url
    )


def with_identity(issuer=ISSUER):
    linked = LinkedIdentity(identity=Identity(issuer, "7f3c"), name="Corp", created_at=NOON)
    return replace(NOBODY, identities=(linked,))


def with_passkey(**changes):
    fields = {
        "credential_id": b"id",
        "public_key": b"key",
        "sign_count": 0,
        "rp_id": "daybook.example",
        "name": "Phone",
        "created_at": NOON,
        "verifies_user": True,
    }
    passkey = Passkey(**fields | changes)
    return replace(NOBODY, passkeys=Passkeys(user_handle=bytes(64), each=(passkey,)))


# --- methods


@pytest.mark.parametrize("used", [BY_PASSWORD, BY_CODE, BY_PASSKEY, BY_CORP])
def test_method_opens_where_it_is_on_alone(used):
    policy(used.method).check(WITH_PASSWORD, used)

    with pytest.raises(MethodOff):
        policy(*({*SignInMethod} - {used.method})).check(WITH_PASSWORD, used)


def test_operators_password_opens_though_passwords_are_off():
    off = policy(CODE)

    off.check(BY_OPERATOR, BY_PASSWORD)

    assert off.is_exempt(BY_OPERATOR, BY_PASSWORD)
    assert not policy(PASSWORD).is_exempt(BY_OPERATOR, BY_PASSWORD)
    assert not off.is_exempt(WITH_PASSWORD, BY_PASSWORD)
    for used in (BY_PASSKEY, BY_CORP):
        with pytest.raises(MethodOff):
            off.check(BY_OPERATOR, used)
    with pytest.raises(OtherSignInNeeded):
        policy(CODE, of=ONLY).check(BY_OPERATOR, BY_PASSWORD)


@pytest.mark.parametrize(
    ("credentials", "methods", "takes"),
    [
        (WITH_PASSWORD, [PASSWORD], True),
        (WITH_PASSWORD, [CODE], False),
        (BY_OPERATOR, [CODE], True),
        (NOBODY, [PASSWORD], False),
    ],
)
def test_account_takes_a_password_that_opens_it(credentials, methods, takes):
    assert policy(*methods).takes_password(credentials) is takes


# --- sign-up


@pytest.mark.parametrize(
    ("method", "how"),
    [
        (PASSWORD, {"has_password": True, "issuer": None}),
        (CODE, {"has_password": False, "issuer": None}),
        (OIDC, {"has_password": False, "issuer": ISSUER}),
    ],
)
def test_account_begins_by_a_method_that_is_on(method, how):
    policy(method).check_sign_up(ADDRESS, **how)

    with pytest.raises(MethodOff):
        policy(*({*SignInMethod} - {method})).check_sign_up(ADDRESS, **how)


def test_only_user_begins_without_a_method():
    policy().check_sign_up(NO_ADDRESS, has_password=False, issuer=None)


def test_address_of_a_provider_begins_an_account_by_it_alone():
    only = policy(*SignInMethod, of=ONLY)

    only.check_sign_up(ADDRESS, has_password=False, issuer=ISSUER)
    for issuer in (None, "https://login.home.example", "https://login.unknown.example"):
        with pytest.raises(OtherSignInNeeded):
            only.check_sign_up(ADDRESS, has_password=False, issuer=issuer)
    with pytest.raises(OtherSignInNeeded):
        only.check_sign_up(ADDRESS, has_password=True, issuer=None)


@pytest.mark.parametrize("inside_first", [True, False])
def test_addresses_of_a_provider_are_not_left_or_taken(inside_first):
    both = [ADDRESS, checked_address("maya@home.example")]
    before, after = both if inside_first else reversed(both)

    policy(*SignInMethod).check_move(before, after)
    with pytest.raises(OtherSignInNeeded):
        policy(*SignInMethod, of=ONLY).check_move(before, after)


# --- what is left


@pytest.mark.parametrize(
    ("credentials", "methods", "has"),
    [
        (WITH_PASSWORD, [PASSWORD], True),
        (WITH_PASSWORD, [CODE, PASSKEY, OIDC], False),
        (BY_OPERATOR, [CODE, PASSKEY, OIDC], True),
        (with_identity(), [OIDC], True),
        (with_identity(), [PASSWORD, CODE, PASSKEY], False),
        (with_identity("https://login.unknown.example"), [OIDC], False),
        (with_passkey(), [PASSKEY], True),
        (with_passkey(), [PASSWORD, CODE, OIDC], False),
        (with_passkey(verifies_user=False), [PASSKEY], False),
        (with_passkey(rp_id="localhost"), [PASSKEY], False),
        (with_passkey(rp_id="old.example"), [PASSKEY], False),
        (CONFIRMED, [CODE], True),
        (CONFIRMED, [CODE, PASSKEY], False),
        (CONFIRMED, [PASSWORD], False),
        (NOBODY, [*SignInMethod], False),
        (NOBODY, [CODE], False),
    ],
)
def test_way_in_is_what_works_here(credentials, methods, has):
    assert policy(*methods).has_way_in(credentials) is has


def test_ways_in_of_an_address_of_a_provider_are_its_identities():
    only = policy(*SignInMethod, of=ONLY)

    assert only.has_way_in(with_identity())
    for other in (WITH_PASSWORD, with_identity("https://login.home.example"), with_passkey()):
        assert not only.has_way_in(other)


@pytest.mark.parametrize(
    ("credentials", "methods", "can"),
    [
        (replace(CONFIRMED, password_hash="a hash"), [PASSWORD, OIDC], True),
        (CONFIRMED, [CODE, OIDC], True),
        (with_identity(), [OIDC], True),
        (CONFIRMED, [PASSWORD, PASSKEY, OIDC], False),
        (replace(CONFIRMED, password_hash="a hash"), [OIDC], False),
        (replace(CONFIRMED, password_hash="a hash"), [PASSWORD, CODE], False),
        (WITH_PASSWORD, [PASSWORD, CODE, OIDC], False),
    ],
)
def test_first_visit_at_the_only_provider_is_a_way_to_sign_in(credentials, methods, can):
    """It adds the sign-in to an account of the confirmed address, after a password or a mailed code."""
    assert policy(*methods, of=ONLY).has_way_in(credentials) is can
    assert not policy(PASSKEY).has_way_in(credentials)


@pytest.mark.parametrize(
    ("rp_id", "works"), [("localhost", True), ("app.localhost", True), ("daybook.example", False)]
)
def test_passkeys_work_on_localhost_where_no_address_is_set(rp_id, works):
    assert policy(PASSKEY, public_url=None).has_way_in(with_passkey(rp_id=rp_id)) is works


def test_last_way_in_that_works_is_not_removed():
    on = policy(PASSWORD, OIDC)

    with pytest.raises(LastWayIn):
        on.check_left(with_identity(), NOBODY)
    on.check_left(with_identity("https://login.unknown.example"), NOBODY)
    on.check_left(replace(with_identity(), password_hash="a hash"), WITH_PASSWORD)
    on.check_left(NOBODY, NOBODY)
    known = replace(with_identity(), confirmed=CONFIRMED.confirmed, password_hash="a hash")
    with pytest.raises(LastWayIn):
        policy(PASSWORD, OIDC, of=ONLY).check_left(known, replace(known, identities=()))


# --- proofs


@pytest.mark.parametrize(
    ("credentials", "methods", "has_mail", "proves"),
    [
        (WITH_PASSWORD, [PASSWORD, OIDC], False, True),
        (WITH_PASSWORD, [OIDC], False, False),
        (BY_OPERATOR, [OIDC], False, True),
        (CONFIRMED, [CODE, OIDC], True, True),
        (CONFIRMED, [CODE, OIDC], False, False),
        (CONFIRMED, [OIDC], True, False),
        (NOBODY, [*SignInMethod], True, False),
        (with_passkey(), [PASSKEY, OIDC], False, True),
        (with_passkey(), [OIDC], False, False),
        (with_passkey(rp_id="old.example"), [PASSKEY, OIDC], False, False),
        (with_identity(), [*SignInMethod], True, False),
    ],
)
def test_what_proves_beside_providers(credentials, methods, has_mail, proves):
    otherwise = policy(*methods).proves_otherwise

    assert otherwise(credentials, "daybook.example", has_mail=has_mail) is proves


@pytest.mark.parametrize("credentials", [WITH_PASSWORD, CONFIRMED, with_passkey()])
def test_address_of_an_only_provider_has_no_other_proof(credentials):
    otherwise = policy(*SignInMethod, of=ONLY).proves_otherwise

    assert not otherwise(credentials, "daybook.example", has_mail=True)
    assert not policy(PASSKEY).proves_otherwise(with_passkey(), None, has_mail=True)


# --- sessions


DAY = 86_400


@pytest.mark.parametrize(
    ("changes", "used", "seconds"),
    [
        ({"only": True, "domains": ["corp.example"]}, BY_CORP, 7 * DAY),
        ({"only": True, "domains": ["corp.example"], "session_days": 3}, BY_CORP, 3 * DAY),
        ({"only": True, "domains": ["corp.example"], "session_days": 365}, BY_CORP, 90 * DAY),
        ({"session_days": 3}, BY_CORP, 90 * DAY),
        *(
            ({"only": True, "domains": ["corp.example"]}, used, 90 * DAY)
            for used in (BY_HOME, BY_PASSWORD, UsedMethod(OIDC, "gone"), None)
        ),
    ],
)
def test_sessions_of_an_only_provider_last_as_its_entry_says(changes, used, seconds):
    assert policy(of=providers(**changes)).lifetime_seconds(used, 90 * DAY) == seconds
