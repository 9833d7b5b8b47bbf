"""Identities and passkeys: look-ups lead to them, and the seal alone lets their user in."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from services.domain.accounts import CredentialsAction
from services.domain.passkeys import Passkey, Passkeys
from services.domain.sign_in_methods import BY_PASSKEY, BY_PASSWORD, SignInMethod, UsedMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import (
    FactorNeeded,
    FactorUsed,
    ProofNeeded,
    RateLimited,
    StoreUnavailable,
    Tampered,
    WayInTaken,
)
from services.store.credentials import seal_stored
from services.store.identities import linked, renamed, unlinked
from services.store.linking import given_identity
from services.store.passkeys import added, removed
from tests.authenticator import Authenticator
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conformance.accounts.test_addresses import move, restore
from tests.store.conformance.accounts.test_factors import change, instead_of
from tests.store.conformance.accounts.test_proofs import MINUTE
from tests.store.conftest import new_email
from tests.stores import NOT_COUNTED, Faulty

NOON = datetime(2025, 11, 26, 12, tzinfo=UTC)
HANDLE = bytes(range(64))


@dataclass(frozen=True)
class Kind:
    """A kind of ways in, which were added so many *days* ago."""

    days: float = 365

    @property
    def created_at(self):
        return datetime.now(UTC).replace(microsecond=0) - timedelta(days=self.days)


class Identities(Kind):
    """Identities as one kind of ways in."""

    added, removed = CredentialsAction.IDENTITY_ADDED, CredentialsAction.IDENTITY_REMOVED
    by = UsedMethod(SignInMethod.OIDC, "example")

    def id(self, name):
        return Identity("https://login.example.com", name)

    def way_in(self, name):
        return LinkedIdentity(identity=self.id(name), name=name, created_at=self.created_at)

    def with_one(self, credentials, name):
        identities = linked(credentials.identities, self.way_in(name))
        return replace(credentials, identities=identities)

    def without(self, credentials, name):
        identities = unlinked(credentials.identities, self.id(name))
        return replace(credentials, identities=identities)

    def tags(self, ring, name):
        return ring.identity_tags(self.id(name))

    def find(self, accounts, name):
        return accounts.find_identity(self.id(name), NOT_COUNTED)


class PasskeyWays(Kind):
    """Passkeys as one kind of ways in."""

    added, removed = CredentialsAction.PASSKEY_ADDED, CredentialsAction.PASSKEY_REMOVED
    by = BY_PASSKEY

    def id(self, name):
        return name.encode()

    def way_in(self, name):
        return Passkey(
            credential_id=self.id(name),
            public_key=b"key",
            sign_count=0,
            rp_id="daybook.test",
            verifies_user=True,
            name=name,
            created_at=self.created_at,
        )

    def with_one(self, credentials, name):
        passkeys = credentials.passkeys or Passkeys(user_handle=HANDLE)
        return replace(credentials, passkeys=added(passkeys, self.way_in(name)))

    def without(self, credentials, name):
        return replace(credentials, passkeys=removed(credentials.passkeys, self.id(name)))

    def tags(self, ring, name):
        return ring.passkey_tags(self.id(name))

    def find(self, accounts, name):
        return accounts.find_passkey(self.id(name), NOT_COUNTED)


@pytest.fixture(params=[Identities(), PasskeyWays()], ids=["identity", "passkey"])
def ways(request):
    return request.param


@pytest.fixture
def name():
    return new_email()


def next_one(new, credentials):
    return replace(new, generation=credentials.generation + 1)


def add(user, ways, name, **options):
    def new(credentials):
        return next_one(ways.with_one(credentials, name), credentials)

    return change(user, ways.added, new, **options)


def remove(user, ways, name, **options):
    def new(credentials):
        return next_one(ways.without(credentials, name), credentials)

    return change(user, ways.removed, new, **options)


def tag(deployment, ways, name):
    ring = deployment.accounts.root_keys
    return ways.tags(ring, name)[ring.current]


def found(deployment, ways, name):
    """The id of the user whom a way in leads to; None: it leads nowhere."""
    account = ways.find(deployment.accounts, name)
    return account and account.stored.user_id


# --- added, found, removed


def test_way_in_that_was_added_leads_to_its_user(deployment, ways, maya, name):
    assert found(deployment, ways, name) is None

    assert add(maya, ways, name)

    account = ways.find(deployment.process(), name)
    assert (account.email, account.stored.user_id) == (maya.email, maya.id)
    checked = account.opened(account.stored, account.credentials, ways.by)
    assert deployment.accounts.sign_in(checked)[1].user_id == maya.id
    assert deployment.lookups(maya) == [tag(deployment, ways, name)]
    assert maya.usage.account_changes()[0].action == ways.added
    assert maya.sign_in().id == maya.id


def test_way_in_that_was_removed_leads_nowhere(deployment, ways, maya, name):
    other = name + "2"
    add(maya, ways, name)
    add(maya, ways, other)

    assert remove(maya, ways, name)

    assert found(deployment, ways, name) is None
    assert found(deployment, ways, other) == maya.id
    assert deployment.lookups(maya) == [tag(deployment, ways, other)]
    assert maya.usage.account_changes()[0].action == ways.removed


def test_change_of_a_way_in_can_end_the_other_sessions(deployment, ways, maya, name):
    other = maya.sign_in()
    add(maya, ways, name)
    assert len(deployment.devices(maya.session)) == 2

    remove(maya, ways, name, ends_others=True)

    assert [*deployment.accounts.ended([other.session])] == [other.session.id]
    assert list(deployment.devices(maya.session)) == [maya.session.id]


def test_change_of_a_way_in_wants_a_recent_proof(deployment, ways, maya, name):
    deployment.let_pass(10 * MINUTE + 1)

    with pytest.raises(ProofNeeded):
        add(maya, ways, name)

    assert (found(deployment, ways, name), deployment.lookups(maya)) == (None, [])


def test_change_that_another_overtook_stores_no_look_up(deployment, ways, maya, name):
    before = deployment.accounts.current(maya.cookie)
    add(maya, ways, name + "2")
    late = next_one(ways.with_one(before.credentials, name), before.credentials)

    assert not deployment.accounts.change_credentials(maya.session, late, before.stored, ways.added)

    assert found(deployment, ways, name) is None
    assert deployment.lookups(maya) == [tag(deployment, ways, name + "2")]


def test_new_password_may_leave_ways_in_out(deployment, ways, maya, name):
    add(maya, ways, name)
    add(maya, ways, name + "2")

    def new(credentials):
        return next_one(ways.without(credentials, name), credentials)

    assert change(maya, CredentialsAction.PASSWORD_SET, new, ends_others=True)

    assert [found(deployment, ways, one) for one in (name, name + "2")] == [None, maya.id]
    assert deployment.lookups(maya) == [tag(deployment, ways, name + "2")]


def test_kinds_of_ways_in_do_not_meet(deployment, maya, name):
    identities, passkeys = Identities(), PasskeyWays()
    add(maya, identities, name)

    assert found(deployment, passkeys, name) is None
    assert add(maya, passkeys, name)
    assert remove(maya, identities, name)
    assert found(deployment, passkeys, name) == maya.id


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_change_of_a_way_in_without_an_answer_is_found_or_not_made(
    deployment, ways, maya, name, is_done
):
    backend = Faulty(maya.session.backend)
    if is_done:
        backend.lost = {"change_credentials"}
    else:
        backend.failures = {"change_credentials": StoreUnavailable()}

    with nullcontext() if is_done else pytest.raises(StoreUnavailable):
        add(replace(maya, session=replace(maya.session, backend=backend)), ways, name)

    assert (found(deployment, ways, name) == maya.id) is is_done
    assert len(deployment.lookups(maya)) == is_done
    assert maya.sign_in().id == maya.id


def test_look_ups_come_with_changes_of_ways_in_alone(deployment, ways, maya, name):
    stored = deployment.credentials()[maya.id]
    new = replace(stored, generation=stored.generation + 1)
    put = partial(
        maya.session.backend.change_credentials,
        new,
        stored.generation,
        ends_others=False,
    )

    with pytest.raises((ValueError, StoreUnavailable)):
        put(action=ways.added)
    with pytest.raises((ValueError, StoreUnavailable)):
        put(action=CredentialsAction.ADDRESS_CONFIRMED, ways_in=[tag(deployment, ways, name)])

    assert deployment.lookups(maya) == []


# --- two accounts


def test_way_in_of_another_account_is_refused(deployment, ways, maya, omar, name):
    add(maya, ways, name)
    before = deployment.credentials()

    with pytest.raises(WayInTaken):
        add(omar, ways, name)

    assert deployment.credentials() == before
    assert (found(deployment, ways, name), deployment.lookups(omar)) == (maya.id, [])


def test_way_in_is_free_once_it_was_removed(deployment, ways, maya, omar, name):
    add(maya, ways, name)
    remove(maya, ways, name)

    assert add(omar, ways, name)

    assert found(deployment, ways, name) == omar.id


def test_of_two_who_add_one_way_in_at_once_one_gets_it(deployment, ways, maya, omar, name):
    answers = at_once(*[partial(add, user, ways, name) for user in (maya, omar)])

    assert {type(answer) for answer in answers} == {bool, WayInTaken}
    winner = maya if answers[0] is True else omar
    assert found(deployment, ways, name) == winner.id
    assert len(deployment.lookups(maya)) + len(deployment.lookups(omar)) == 1


def test_account_that_ends_frees_its_ways_in(deployment, ways, maya, omar, name):
    add(maya, ways, name)

    maya.administration.delete(maya.id)

    assert (found(deployment, ways, name), deployment.lookups(maya)) == (None, [])
    assert add(omar, ways, name)


# --- an account that begins with an identity


def begin(deployment, identity, email=None):
    """Make an account by *identity*; return the session."""
    accounts = deployment.accounts
    found = accounts.find_for_sign_up(email or new_email(), NOT_COUNTED)
    return accounts.sign_up(found, None, identity=identity)[1]


def test_account_begins_with_an_identity(deployment, name):
    way_in = Identities().way_in(name)

    session = begin(deployment, way_in)

    account = Identities().find(deployment.accounts, name)
    assert account.stored.user_id == session.user_id
    assert account.credentials.identities == (way_in,)
    assert account.credentials.password_hash is None


def test_account_does_not_begin_with_the_identity_of_another(deployment, maya, name):
    add(maya, Identities(), name)
    email = new_email()

    with pytest.raises(WayInTaken):
        begin(deployment, Identities().way_in(name), email)

    assert found(deployment, Identities(), name) == maya.id
    assert deployment.sign_up(email).id != maya.id


def test_of_two_who_begin_with_one_identity_at_once_one_gets_it(deployment, name):
    way_in = Identities().way_in(name)

    answers = at_once(*[partial(begin, deployment, way_in) for _ in range(2)])

    [refused] = [answer for answer in answers if isinstance(answer, Exception)]
    [session] = [answer for answer in answers if not isinstance(answer, Exception)]
    assert isinstance(refused, WayInTaken)
    assert found(deployment, Identities(), name) == session.user_id


# --- an address that is taken back


@pytest.fixture
def confirmed(deployment, maya):
    return move(deployment, maya)


def test_address_that_is_taken_back_brings_its_ways_in(deployment, ways, confirmed, name):
    thiefs, later = name + "2", name + "3"
    add(confirmed, ways, name)
    moved = move(deployment, confirmed)
    remove(moved, ways, name)
    add(moved, ways, thiefs)
    kept = deployment.lookups(confirmed)

    back = restore(deployment, moved, confirmed.email)

    assert len(kept) == 2  # the former address, and the thief's
    assert [found(deployment, ways, one) for one in (name, thiefs)] == [confirmed.id, None]
    assert deployment.lookups(confirmed) == [tag(deployment, ways, name)]
    assert add(back, ways, later)
    assert found(deployment, ways, later) == confirmed.id


def test_new_address_leaves_the_ways_in(deployment, ways, confirmed, name):
    add(confirmed, ways, name)

    move(deployment, confirmed)

    assert found(deployment, ways, name) == confirmed.id
    assert len(deployment.lookups(confirmed)) == 2


def test_way_in_that_a_thief_has_taken_keeps_no_user_from_the_address(
    deployment, ways, confirmed, omar, name
):
    add(confirmed, ways, name)
    add(confirmed, ways, name + "2")
    moved = move(deployment, confirmed)
    remove(moved, ways, name)
    add(omar, ways, name)  # the thief's other account

    assert restore(deployment, moved, confirmed.email).id == confirmed.id

    assert found(deployment, ways, name) == omar.id
    assert found(deployment, ways, name + "2") == confirmed.id


def test_way_in_that_a_thief_adds_before_the_address_moves_does_not_come_back(
    deployment, ways, confirmed, name
):
    """A passkey or identity of the last 72 hours before the address was left."""
    young, old = replace(ways, days=2.9), replace(ways, days=3.1)
    add(confirmed, old, name)
    add(confirmed, young, name + "2")
    moved = move(deployment, confirmed)

    restore(deployment, moved, confirmed.email)

    both = [found(deployment, ways, one) for one in (name, name + "2")]
    assert both == [confirmed.id, None]
    assert deployment.lookups(confirmed) == [tag(deployment, ways, name)]


# --- attacks by who writes to the store


def test_look_up_that_a_writer_puts_in_lets_nobody_in(deployment, ways, maya, name, caplog):
    caplog.set_level("INFO")
    deployment.put_lookup(tag(deployment, ways, name), maya, is_way_in=True)

    with pytest.raises(Tampered):
        ways.find(deployment.accounts, name)

    assert "credentials.unopened" in caplog.text
    assert maya.sign_in().id == maya.id


def test_look_up_that_a_writer_re_points_lets_nobody_in(deployment, ways, maya, omar, name, caplog):
    caplog.set_level("INFO")
    add(maya, ways, name)
    add(maya, ways, name + "2")
    deployment.put_lookup(tag(deployment, ways, name), omar, is_way_in=True)

    with pytest.raises(Tampered):
        ways.find(deployment.accounts, name)

    assert "credentials.unopened" in caplog.text
    assert remove(maya, ways, name + "2")  # which a look-up of another user does not hinder
    assert deployment.lookups(omar) == [tag(deployment, ways, name)]


def test_look_up_that_a_writer_re_points_lets_nobody_in_who_has_another(
    deployment, ways, maya, omar, name
):
    add(maya, ways, name)
    add(omar, ways, name + "2")
    deployment.put_lookup(tag(deployment, ways, name), omar, is_way_in=True)

    with pytest.raises(Tampered):
        ways.find(deployment.accounts, name)

    assert found(deployment, ways, name + "2") == omar.id


def test_look_up_of_an_address_is_not_taken_from_beside_credentials(deployment, maya, omar):
    """Who writes to the store could have the look-up value of an address name another account."""
    ring = deployment.accounts.root_keys
    deployment.put_lookup(ring.address_tags(omar.email)[ring.current], maya, is_way_in=True)

    account = deployment.accounts.find(omar.email, NOT_COUNTED)

    assert account.credentials is None or account.stored.user_id == omar.id


def test_identity_of_a_writer_is_in_no_seal(deployment, ways, maya, omar, name):
    """Sealed credentials of another user that have the way in are no credentials of the user."""
    add(omar, ways, name)
    row = deployment.credentials()[omar.id]
    deployment.put_credentials(replace(deployment.credentials()[maya.id], sealed=row.sealed))
    deployment.put_lookup(tag(deployment, ways, name), maya, is_way_in=True)

    with pytest.raises(Tampered):
        ways.find(deployment.accounts, name)


def test_credentials_that_are_put_back_let_nobody_in_by_a_way_in(deployment, ways, maya, name):
    add(maya, ways, name)
    row = deployment.credentials()[maya.id]
    remove(maya, ways, name)
    deployment.put_credentials(row)
    deployment.put_lookup(tag(deployment, ways, name), maya, is_way_in=True)

    with pytest.raises(Tampered):
        ways.find(deployment.accounts, name)


# --- a newer root key


def test_way_in_is_found_under_a_newer_root_key_and_stored_anew(alone, ways, name):
    maya = alone.sign_up()
    add(maya, ways, name)
    accounts = alone.process_with_new_root_key()
    tags = ways.tags(accounts.root_keys, name)
    assert ways.find(accounts, name).stored.user_id == maya.id
    assert alone.lookups(maya) == [tags[1]]

    found = ways.find(accounts, name)
    accounts.sign_in(found.opened(found.stored, found.credentials, ways.by))

    assert alone.lookups(maya) == [tags[2]]
    alone.let_pass(30 * 86400)  # it does not expire
    alone.sweep()
    assert ways.find(accounts, name).stored.user_id == maya.id


def test_new_address_stores_the_ways_in_under_the_root_key_that_seals_it(alone, ways, name):
    """Else they would be lost with the older key, which the credentials no longer need."""
    maya = alone.sign_up()
    add(maya, ways, name)
    accounts = (
        alone.process_with_new_root_key()
    )  # the session was opened by a process with the older key

    moved = move(alone, maya, accounts=accounts)

    assert alone.lookups(moved) == [ways.tags(accounts.root_keys, name)[2]]


def test_look_ups_follow_the_root_key_that_seals_the_credentials(alone, ways, name):
    """A process with the older key would otherwise store look-ups that are lost together with that key."""
    maya, other = alone.sign_up(), name + "2"
    add(maya, ways, name)
    row = alone.credentials()[maya.id]
    newer = alone.process_with_new_root_key()
    newer.open(maya.cookie)  # stores the credentials and look-ups under the newer key
    older = replace(alone.accounts, root_keys=newer.root_keys.of(row.sealed))
    current = older.current(maya.cookie)
    new = next_one(ways.with_one(current.credentials, other), current.credentials)

    assert older.change_credentials(maya.session, new, current.stored, ways.added)

    expected = [ways.tags(newer.root_keys, one)[2] for one in (name, other)]
    assert sorted(alone.lookups(maya)) == sorted(expected)


def test_look_up_of_a_way_in_made_in_advance_is_never_overwritten(alone, ways, name):
    maya, omar = alone.sign_up(), alone.sign_up()
    add(maya, ways, name)
    accounts = alone.process_with_new_root_key()
    tags = ways.tags(accounts.root_keys, name)
    alone.put_lookup(tags[2], omar, is_way_in=True)

    found = accounts.find(maya.email, NOT_COUNTED)
    accounts.sign_in(found.opened(found.stored, found.credentials, BY_PASSWORD))

    assert alone.lookups(omar) == [tags[2]]


def test_look_up_of_a_way_in_does_not_expire(deployment, ways, maya, name):
    add(maya, ways, name)

    deployment.let_pass(timedelta(days=4).total_seconds())
    deployment.sweep()

    assert found(deployment, ways, name) == maya.id


# --- the use of a passkey


def with_passkeys(user, name, *, is_factor=False):
    """Give *user* a passkey, perhaps one that is asked for after the password."""
    ways = PasskeyWays()
    add(user, ways, name)
    if is_factor:
        stored = user.deployment.credentials()[user.id]
        credentials = user.deployment.accounts.current(user.cookie).credentials
        asked_for = replace(credentials.passkeys, is_factor=True)
        sealed = seal_stored(
            user.deployment.accounts.root_keys, replace(credentials, passkeys=asked_for), user.id
        )
        user.deployment.put_credentials(replace(stored, sealed=sealed.sealed, wants_factor=True))


def use(deployment, name, count=1, *, is_verified=True):
    """The credentials of the account that has a passkey, after its use."""
    account = deployment.accounts.find_passkey(name.encode(), NOT_COUNTED)
    passkey = replace(PasskeyWays().way_in(name), sign_count=count, last_used_at=NOON)
    checked = account.opened(account.stored, account.credentials, BY_PASSKEY)
    return replace(
        checked,
        has_factor=is_verified,
        used=account.credentials.passkey_used(passkey),
        used_by=CredentialsAction.PASSKEY_USED,
    )


@pytest.mark.parametrize("is_factor", [False, True])
def test_use_of_a_passkey_is_stored_with_the_session_that_begins(deployment, maya, name, is_factor):
    with_passkeys(maya, name, is_factor=is_factor)
    before = deployment.credentials()[maya.id]

    _, session = deployment.accounts.sign_in(use(deployment, name, 7))

    row = deployment.credentials()[maya.id]
    assert (session.user_id, row.wants_factor) == (maya.id, is_factor)
    assert (row.uses, row.generation) == (before.uses + 1, before.generation)
    used = deployment.accounts.current(maya.cookie).credentials.passkeys.each[0]
    assert (used.sign_count, used.last_used_at) == (7, NOON)
    assert maya.usage.account_changes()[0].action == "passkey.use"
    assert found(deployment, PasskeyWays(), name) == maya.id


def test_use_of_a_passkey_that_another_overtook_begins_no_session(deployment, maya, name):
    with_passkeys(maya, name)
    late = use(deployment, name)
    deployment.accounts.sign_in(use(deployment, name))
    devices = deployment.devices(maya.session)

    with pytest.raises(FactorUsed):
        deployment.accounts.sign_in(late)

    assert deployment.devices(maya.session) == devices


def test_use_of_a_passkey_is_a_proof(deployment, maya, name):
    with_passkeys(maya, name)
    deployment.let_pass(10 * MINUTE + 1)

    cookie = deployment.accounts.prove(maya.session, maya.cookie, use(deployment, name, 3))

    assert add(replace(maya, cookie=cookie), PasskeyWays(), name + "2")
    assert deployment.credentials()[maya.id].uses == 1


def test_passkey_without_verification_is_no_factor(deployment, maya, name):
    with_passkeys(maya, name)
    assert deployment.accounts.sign_in(use(deployment, name, is_verified=False))
    with_passkeys(maya, name + "2", is_factor=True)
    touched = use(deployment, name, is_verified=False)
    devices = deployment.devices(maya.session)

    with pytest.raises(FactorNeeded):
        deployment.accounts.sign_in(touched)
    used = seal_stored(deployment.accounts.root_keys, touched.used, maya.id)
    with pytest.raises((ValueError, StoreUnavailable)):  # the store asks for it, too
        maya.session.backend.prove(
            touched.stored.generation,
            (),
            instead_of(maya),
            used=used,
            used_by=CredentialsAction.PASSKEY_USED,
        )

    assert deployment.devices(maya.session) == devices


def test_passkey_without_verification_is_no_factor_that_the_deployment_requires(alone, name):
    maya = alone.sign_up()
    with_passkeys(maya, name)
    alone.put_factor_rule(is_on=True)
    touched = use(alone, name, is_verified=False)
    given = replace(touched, has_factor=True)
    forgetful = replace(touched, requires_factor=False)

    # the last one: the store would take it for a factor that was given at a provider
    for checked in (touched, forgetful, given):
        with pytest.raises(FactorNeeded):
            alone.accounts.sign_in(checked)

    assert alone.credentials()[maya.id].uses == 0


# --- the use of an identity


def with_identity(user, name, *, wants_factor=False):
    """Give *user* an identity, perhaps beside an authenticator app."""
    add(user, Identities(), name)
    if wants_factor:
        Authenticator().enrol(user.deployment.accounts, user.session)


def come(deployment, name, *, has_factor=False):
    """The credentials that a user of a provider comes to."""
    account = deployment.accounts.find_identity(Identities().id(name), NOT_COUNTED)
    checked = account.opened(account.stored, account.credentials, Identities.by)
    return replace(checked, has_factor=has_factor)


def sign_in_by(deployment, name, checked):
    accounts = deployment.accounts
    return given_identity(accounts, checked, Identities().id(name), accounts.sign_in)


def last_used(user):
    """When each identity of *user* was used."""
    credentials = user.deployment.accounts.current(user.cookie).credentials
    return [one.last_used_at for one in credentials.identities]


@pytest.mark.parametrize("wants_factor", [False, True])
def test_use_of_an_identity_is_stored_with_the_session_that_begins(
    deployment, maya, name, wants_factor
):
    with_identity(maya, name, wants_factor=wants_factor)
    add(maya, Identities(), name + "2")
    before = deployment.credentials()[maya.id]

    _, session = sign_in_by(deployment, name, come(deployment, name, has_factor=wants_factor))

    row = deployment.credentials()[maya.id]
    assert (session.user_id, row.wants_factor) == (maya.id, wants_factor)
    assert (row.uses, row.generation) == (before.uses + 1, before.generation)
    [used, unused] = last_used(maya)
    assert abs(deployment.accounts.now() - used) < timedelta(minutes=1)
    assert unused is None
    assert maya.usage.account_changes()[0].action == "identity.use"
    assert found(deployment, Identities(), name) == maya.id


def test_use_of_an_identity_that_another_overtook_is_noted_again(deployment, maya, name):
    with_identity(maya, name)
    late = come(deployment, name)
    sign_in_by(deployment, name, come(deployment, name))

    assert sign_in_by(deployment, name, late)[1].user_id == maya.id

    assert deployment.credentials()[maya.id].uses == 2


def test_of_two_who_sign_in_by_one_identity_at_once_both_get_in(deployment, maya, name):
    with_identity(maya, name)
    checked = come(deployment, name)

    answers = at_once(*[partial(sign_in_by, deployment, name, checked) for _ in range(2)])

    assert [session.user_id for _, session in answers] == [maya.id, maya.id]
    assert deployment.credentials()[maya.id].uses == 2


def test_identity_that_was_removed_meanwhile_signs_nobody_in(deployment, maya, name):
    with_identity(maya, name)
    checked = come(deployment, name)
    remove(maya, Identities(), name)

    with pytest.raises(RateLimited):
        sign_in_by(deployment, name, checked)

    assert last_used(maya) == []


def test_use_of_an_identity_is_a_proof(deployment, maya, name):
    with_identity(maya, name)
    deployment.let_pass(10 * MINUTE + 1)
    accounts = deployment.accounts
    prove = partial(accounts.prove, maya.session, maya.cookie)

    cookie = given_identity(accounts, come(deployment, name), Identities().id(name), prove)

    proven = replace(maya, cookie=cookie)
    assert last_used(proven) != [None]
    assert add(proven, PasskeyWays(), name + "2")
    assert deployment.credentials()[maya.id].uses == 1


def test_identity_is_no_factor(deployment, maya, name):
    with_identity(maya, name, wants_factor=True)
    checked = come(deployment, name)
    before = deployment.credentials()[maya.id]

    with pytest.raises(FactorNeeded):
        sign_in_by(deployment, name, checked)
    used = replace(checked.credentials, uses=checked.credentials.uses + 1)
    with pytest.raises((ValueError, StoreUnavailable)):  # the store asks for it, too
        maya.session.backend.prove(
            checked.stored.generation,
            (),
            instead_of(maya),
            used=seal_stored(deployment.accounts.root_keys, used, maya.id),
            used_by=CredentialsAction.IDENTITY_USED,
        )

    assert deployment.credentials()[maya.id] == before


def test_identity_is_renamed_and_stays_what_it_is(deployment, maya, name):
    with_identity(maya, name)
    accounts, before = deployment.accounts, deployment.credentials()[maya.id]

    current = accounts.current(maya.cookie)
    identities = renamed(current.credentials.identities, Identities().id(name), "  Work  ")
    accounts.change_credentials(
        maya.session,
        replace(current.credentials, identities=identities),
        current.stored,
        CredentialsAction.RESEAL,
    )

    row, [own] = (
        deployment.credentials()[maya.id],
        accounts.current(maya.cookie).credentials.identities,
    )
    assert (own.name, own.identity) == ("Work", Identities().id(name))
    assert (row.uses, row.generation) == (before.uses, before.generation)
    assert found(deployment, Identities(), name) == maya.id
