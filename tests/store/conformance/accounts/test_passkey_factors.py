"""A passkey as second factor, and the recovery codes that it shares with an authenticator app."""

from dataclasses import replace
from functools import partial

import pytest

from services.crypto import sha
from services.domain.accounts import CredentialsAction, ProofScope, SecondFactor
from services.errors import (
    BadInput,
    FactorNeeded,
    FactorRequired,
    PasskeyMissing,
    ProofNeeded,
    StoreUnavailable,
    WrongFactor,
)
from services.operate.accounts import reset_factors
from services.store.accounts import second_factor
from services.store.factors import asking_passkey, given, renewed, turned_off, use_passkey
from tests.confirmed import confirm
from tests.store.conformance.accounts.test_factors import (
    CODES,
    FACTORS,
    SECRET,
    by,
    change,
    checked,
    enrol,
    require,
    row_of,
    sign_in,
)
from tests.store.conformance.accounts.test_ways_in import NOON, Identities, PasskeyWays, add, remove
from tests.store.conftest import PASSWORD, new_email

PASSKEYS = PasskeyWays()
ADDED, REMOVED = CredentialsAction.PASSKEY_FACTOR_ADDED, CredentialsAction.PASSKEY_FACTOR_REMOVED


def used(passkey, user_handle):
    """The passkey after its use, in the place of the check of a signature."""
    return replace(passkey, sign_count=passkey.sign_count + 1, last_used_at=NOON)


def ask(user, name):
    """Add a passkey, and have it asked for after the password."""
    assert add(user, PASSKEYS, name)
    hashes = [sha(code) for code in CODES]
    change(user, ADDED, lambda one: renewed_with(asking_passkey(one, is_asked=True), hashes))


def renewed_with(credentials, hashes):
    return replace(renewed(credentials, hashes), generation=credentials.generation)


def by_passkey(name, verify=used):
    """The use of the factor by the passkey *name*."""
    return partial(use_passkey, credential_id=PASSKEYS.id(name), verify=verify)


def sign_in_by(user, name, verify=used, **options):
    """Sign in with the password and the passkey *name*; return the session."""
    accounts = user.deployment.accounts
    known, action = checked(accounts, user), CredentialsAction.PASSKEY_USED
    return given(accounts, known, by_passkey(name, verify), accounts.sign_in, action)[1]


def credentials_of(user):
    return checked(user.deployment.accounts, user).credentials


@pytest.fixture
def name():
    return new_email()


def test_passkey_that_is_asked_for_is_wanted_after_the_password(deployment, maya, name):
    ask(maya, name)
    accounts, devices = deployment.accounts, deployment.devices(maya.session)
    known = checked(accounts, maya)

    with pytest.raises(FactorNeeded) as refusal:
        accounts.sign_in(known)
    assert (refusal.value.since, refusal.value.asks_passkey) == (None, True)
    forgetful = replace(known.credentials.passkeys, is_factor=False)
    forgetful = replace(known, credentials=replace(known.credentials, passkeys=forgetful))
    with pytest.raises(FactorNeeded):  # the store asks for it, too
        accounts.sign_in(forgetful)
    assert deployment.devices(maya.session) == devices

    sign_in_by(maya, name)

    assert second_factor(credentials_of(maya)) == SecondFactor(
        since=None, codes_left=3, asks_passkey=True
    )
    [passkey] = credentials_of(maya).passkeys.each
    assert (passkey.sign_count, passkey.last_used_at) == (1, NOON)
    assert row_of(maya).uses == 1
    assert "passkey.use" in [one.action for one in maya.usage.account_changes()]


def test_recovery_code_takes_the_place_of_the_passkey(maya, name):
    ask(maya, name)

    assert sign_in(maya, "R-one").user_id == maya.id

    with pytest.raises(WrongFactor):
        sign_in(maya, "R-one")
    assert second_factor(credentials_of(maya)).codes_left == 2


def test_passkey_is_the_users_own_and_asked_for(maya, omar, name):
    ask(maya, name)
    with pytest.raises(PasskeyMissing):
        sign_in_by(maya, "another")
    assert add(omar, PASSKEYS, f"own {name}")

    with pytest.raises(PasskeyMissing):  # of an account that does not ask for it
        sign_in_by(omar, f"own {name}")


def test_answer_is_verified_again_where_another_use_was_faster(maya, name):
    ask(maya, name)
    seen = []

    def verify(passkey, user_handle):
        if not seen:
            sign_in(maya, "R-one")
        seen.append(passkey.sign_count)
        return used(passkey, user_handle)

    assert sign_in_by(maya, name, verify).user_id == maya.id
    assert (len(seen), row_of(maya).uses) == (2, 2)


def test_app_and_passkey_may_both_be_asked_for(maya, name):
    enrol(maya)
    ask(maya, name)

    assert sign_in(maya, "11").user_id == sign_in_by(maya, name).user_id == maya.id

    assert change(maya, CredentialsAction.FACTOR_REMOVED, turned_off)
    with pytest.raises(WrongFactor):
        sign_in(maya, "12")
    assert sign_in(maya, "R-one").user_id == sign_in_by(maya, name).user_id == maya.id
    new = partial(FACTORS.enrolled, secret=SECRET, entered="20", recovery=[sha("R-new")])
    assert change(maya, CredentialsAction.FACTOR_ADDED, new)
    assert change(maya, REMOVED, partial(asking_passkey, is_asked=False))
    with pytest.raises(PasskeyMissing):
        sign_in_by(maya, name)
    assert sign_in(maya, "21").user_id == sign_in(maya, "R-new").user_id == maya.id


def test_proof_in_part_replaces_no_recovery_codes(deployment, maya, name):
    ask(maya, name)
    deployment.let_pass(601)
    maya = prove_by(maya, name, ProofScope.PART)
    new = partial(FACTORS.enrolled, secret=SECRET, entered="20", recovery=[sha("R-new")])

    with pytest.raises(ProofNeeded):
        change(maya, CredentialsAction.FACTOR_ADDED, new)

    assert sign_in(maya, "R-one").user_id == maya.id


@pytest.mark.parametrize("last", ["asked", "removed"])
def test_recovery_codes_go_with_the_last_factor(maya, name, last):
    ask(maya, name)
    assert credentials_of(maya).recovery
    maya = prove_by(maya, name)

    if last == "asked":
        assert change(maya, REMOVED, partial(asking_passkey, is_asked=False))
    else:
        assert remove(maya, PASSKEYS, name)

    assert credentials_of(maya).recovery == ()
    assert not row_of(maya).wants_factor
    assert maya.sign_in().id == maya.id


def prove_by(user, name, scope=ProofScope.FULL):
    """Prove who *user* is by the password and the passkey; return the user with the new cookie."""
    accounts = user.deployment.accounts
    prove = partial(accounts.prove, user.session, user.cookie)
    action = CredentialsAction.PASSKEY_USED
    known = replace(checked(accounts, user), scope=scope)
    cookie = given(accounts, known, by_passkey(name), prove, action)
    return replace(user, cookie=cookie)


def test_proof_from_before_a_passkey_was_asked_for_counts_no_more(maya, name):
    ask(maya, name)
    off = partial(asking_passkey, is_asked=False)
    with pytest.raises(ProofNeeded):
        change(maya, REMOVED, off)
    known = checked(maya.deployment.accounts, maya)
    with pytest.raises(FactorNeeded):
        maya.deployment.accounts.prove(maya.session, maya.cookie, known)

    assert change(prove_by(maya, name), REMOVED, off)


def test_account_without_passkeys_asks_for_none(maya):
    with pytest.raises(PasskeyMissing):
        asking_passkey(credentials_of(maya), is_asked=True)


# --- where the deployment requires a factor


def test_required_factor_is_met_by_a_passkey_that_is_asked_for(alone, name):
    admin, maya = alone.sign_up_admin(), alone.sign_up()
    ask(maya, name)
    maya = prove_by(maya, name)
    require(admin)
    assert not alone.accounts.ended([maya.session])
    with pytest.raises(FactorRequired):
        change(maya, REMOVED, partial(asking_passkey, is_asked=False))
    with pytest.raises(FactorRequired):
        remove(maya, PASSKEYS, name)

    assert sign_in_by(maya, name).user_id == maya.id

    new = partial(FACTORS.enrolled, secret=SECRET, entered="20", recovery=())
    assert change(maya, CredentialsAction.FACTOR_ADDED, new)
    assert change(maya, REMOVED, partial(asking_passkey, is_asked=False))


def test_passkey_alone_meets_no_required_factor_of_an_account_without_one(alone, name):
    """The password alone would let somebody set one up."""
    admin, maya = alone.sign_up_admin(), alone.sign_up()
    assert add(maya, PASSKEYS, name)
    require(admin)
    known = replace(checked(alone.accounts, maya), has_factor=True)

    with pytest.raises(FactorNeeded) as refusal:
        alone.accounts.sign_in(known)

    assert not refusal.value.has_form


def test_enrolment_takes_the_place_of_no_factor_that_stands(alone, name):
    maya = alone.sign_up()
    ask(maya, name)
    known = checked(alone.accounts, maya)
    used_up = FACTORS.enrolled(known.credentials, SECRET, "20", ())

    with pytest.raises((ValueError, StoreUnavailable)):  # the latter from SQL
        alone.accounts.sign_in(replace(known, has_factor=True, used=used_up))


# --- operators and addresses


def test_reset_of_the_factor_asks_for_no_passkey_and_drops_the_codes(alone, name):
    maya = alone.sign_up()
    ask(maya, name)

    reset_factors(alone.operator, alone.accounts.root_keys, maya.email)

    credentials = credentials_of(maya)
    assert (credentials.wants_factor, credentials.recovery) == (False, ())
    assert [one.name for one in credentials.passkeys.each] == [name]


def test_reset_removes_passkeys_and_their_look_ups_if_asked(alone, name):
    """From an account that has no second factor, too; another way in stays, under the root key of the credentials."""
    maya, identities = alone.sign_up(), Identities()
    assert add(maya, identities, name)
    assert add(maya, PASSKEYS, name)
    root_keys = alone.process_with_new_root_key().root_keys
    with pytest.raises(BadInput, match="--passkeys"):
        reset_factors(alone.operator, root_keys, maya.email)

    reset_factors(alone.operator, root_keys, maya.email, keeps_passkeys=False)

    assert not alone.accounts.backend.is_alive(maya.cookie.hash)
    assert credentials_of(maya).passkeys.each == ()
    assert alone.lookups(maya) == [identities.tags(root_keys, name)[1]]
    with pytest.raises(BadInput, match=r"no second factor\.$"):
        reset_factors(alone.operator, root_keys, maya.email, keeps_passkeys=False)


def test_reset_removes_passkeys_that_sign_in_asks_for(alone, name):
    maya = alone.sign_up()
    ask(maya, name)
    enrol(prove_by(maya, name))

    reset_factors(alone.operator, alone.accounts.root_keys, maya.email, keeps_passkeys=False)

    assert (credentials_of(maya).wants_factor, alone.lookups(maya)) == (False, [])
    assert alone.accounts.sign_in_with(maya.email, PASSWORD)[1].user_id == maya.id


def test_address_taken_back_asks_for_the_passkey_that_stood_before(deployment, maya, name):
    accounts = deployment.accounts
    confirm(accounts, maya.session)
    ask(maya, name)
    maya = prove_by(maya, name)
    left, email = maya.email, new_email()
    accounts.change_address(maya.session, email, accounts.current(maya.cookie).stored.generation)
    assert change(replace(maya, email=email), REMOVED, partial(asking_passkey, is_asked=False))
    hashed = accounts.current(maya.cookie).hashed(PASSWORD)
    with pytest.raises(FactorNeeded) as refusal:
        accounts.restore_address(left, hashed)
    assert refusal.value.asks_passkey

    accounts.restore_address(left, hashed, use=by_passkey(name))

    assert second_factor(credentials_of(maya)) == SecondFactor(
        since=None, codes_left=3, asks_passkey=True
    )
    assert credentials_of(maya).passkeys.each[0].sign_count == 2
    with pytest.raises(FactorNeeded):
        accounts.sign_in_with(left, PASSWORD)


def test_recovery_code_of_a_passkey_is_not_good_again_by_an_address_taken_back(
    deployment, maya, name
):
    accounts = deployment.accounts
    confirm(accounts, maya.session)
    ask(maya, name)
    maya = prove_by(maya, name)
    left, email = maya.email, new_email()
    accounts.change_address(maya.session, email, accounts.current(maya.cookie).stored.generation)
    sign_in(replace(maya, email=email), "R-one")
    hashed = accounts.current(maya.cookie).hashed(PASSWORD)

    with pytest.raises(WrongFactor):
        accounts.restore_address(left, hashed, use=by("R-one"))
    accounts.restore_address(left, hashed, use=by("R-two"))
