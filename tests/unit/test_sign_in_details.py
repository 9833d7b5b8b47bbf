"""What a user sees of the credentials on the page Account."""

from dataclasses import replace

from services.domain.accounts import SecondFactor
from services.users.sign_in_details import SignInDetails, sign_in_details
from tests.unit.test_sign_in_policy import (
    CODE,
    CONFIRMED,
    NOBODY,
    OIDC,
    ONLY,
    PASSKEY,
    PASSWORD,
    WITH_PASSWORD,
    policy,
    with_identity,
    with_passkey,
)


def seen(credentials, *methods, **providers):
    return sign_in_details(credentials, policy(*methods, **providers))


def test_account_without_ways_in_has_none():
    none = seen(NOBODY, PASSWORD, CODE)

    assert none == SignInDetails(False, False, False, None, (), (), None)


def test_password_is_one_that_opens_the_account():
    assert seen(WITH_PASSWORD, PASSWORD).has_password
    assert not seen(WITH_PASSWORD, CODE).has_password


def test_code_proves_where_the_address_is_confirmed_and_codes_are_on():
    assert seen(CONFIRMED, CODE).takes_code
    confirmed, unconfirmed = seen(CONFIRMED, PASSWORD), seen(NOBODY, CODE)
    assert (confirmed.is_confirmed, confirmed.takes_code) == (True, False)
    assert (unconfirmed.is_confirmed, unconfirmed.takes_code) == (False, False)


def test_all_ways_in_are_seen():
    identities, keys = with_identity().identities, with_passkey().passkeys
    asking = replace(NOBODY, identities=identities, passkeys=replace(keys, is_factor=True))

    own = seen(asking, PASSWORD)

    assert (own.identities, own.passkeys) == (identities, keys.each)
    assert own.factor == SecondFactor(since=None, codes_left=0, asks_passkey=True)


def test_last_way_in_is_seen():
    key, identity = with_passkey(), with_identity()
    both = replace(key, identities=identity.identities)

    assert seen(key, PASSKEY, CODE).last_way == key.passkeys.each[0]
    assert seen(identity, OIDC).last_way == identity.identities[0]
    assert seen(both, PASSKEY, PASSWORD).last_way == key.passkeys.each[0]
    assert seen(both, PASSKEY, OIDC).last_way is None
    assert seen(replace(key, password_hash="a hash"), PASSKEY, PASSWORD).last_way is None
    assert seen(key, PASSWORD).last_way is None
    # a first visit at the provider could link it again, but removing it is refused all the same
    of_corp = replace(CONFIRMED, identities=identity.identities)
    assert seen(of_corp, OIDC, CODE, of=ONLY).last_way == identity.identities[0]
