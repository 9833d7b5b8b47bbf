"""The second factor: what no session and no proof begins without, and what who writes to the store cannot do about it."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from services.crypto import sha, token_version
from services.domain.accounts import CredentialsAction, SessionEnd
from services.domain.sign_in_methods import SignInMethod, UsedMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import (
    AddressTaken,
    BadInput,
    FactorNeeded,
    FactorRequired,
    FactorUsed,
    ProofNeeded,
    RateLimited,
    SignedOut,
    Tampered,
    WrongCredentials,
    WrongFactor,
)
from services.operate.accounts import opens, reset_factors
from services.store import codes, factors
from services.store.accounts import Cookie, CookieSealer
from services.store.backend import NewCookie
from services.store.credentials import seal_stored
from services.store.factors import Factors
from tests.confirmed import confirm
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED

SECRET, NEW_SECRET = bytes(range(20)), bytes(range(20, 40))
OTHER = "another horse, another battery"
CODES = ("R-one", "R-two", "R-three")  # recovery codes
PROVIDER = UsedMethod(SignInMethod.OIDC, "example")


def _step(secret, digits, now, newer_than):
    """The time step that *digits* are, in the place of TOTP: of a new secret after an N."""
    if secret == NEW_SECRET:
        digits = digits[1:] if digits.startswith("N") else ""
    step = int(digits) if secret in (SECRET, NEW_SECRET) and digits.isdecimal() else 0
    return step if step > newer_than else None


FACTORS = Factors(_step, lambda text: sha(text) if text.startswith("R-") else None)


def change(user, action, new, *, ends_others=False):
    """Change the credentials of *user*; *new* makes them out of those that are stored."""
    accounts = user.deployment.accounts
    current = accounts.current(user.cookie)
    changed = new(current.credentials)
    return accounts.change_credentials(
        user.session, changed, current.stored, action, ends_others=ends_others
    )


def enrol(user):
    hashes = [sha(code) for code in CODES]
    new = partial(FACTORS.enrolled, secret=SECRET, entered="10", recovery=hashes)
    assert change(user, CredentialsAction.FACTOR_ADDED, new)


def without(credentials):
    return replace(credentials, factor=None, generation=credentials.generation + 1)


def checked(accounts, user, password=PASSWORD):
    return accounts.find(user.email, NOT_COUNTED).checked(password)


def sign_in(user, code, accounts=None, password=PASSWORD):
    """Sign in with the password and *code*; return the session."""
    accounts = accounts or user.deployment.accounts
    known = checked(accounts, user, password)
    return factors.given(accounts, known, by(code), accounts.sign_in)[1]


def by(code):
    """The use of the factor by *code*."""
    return partial(FACTORS.use, entered=code)


def instead_of(user):
    """A cookie in place of that of *user*."""
    new, accounts = Cookie.new(), user.deployment.accounts
    sealer = CookieSealer(accounts.root_keys.session_vault(new.secret), new.hash)
    return NewCookie(replaces=user.cookie.hash, cookie_hash=new.hash, sealer=sealer)


def row_of(user):
    return user.deployment.credentials()[user.id]


def require(admin):
    """Have the deployment require a factor, by an admin who has one."""
    enrol(admin)
    admin.administration.require_factor(is_on=True)


@pytest.fixture
def maya(maya):
    enrol(maya)
    return maya


# --- sign-in


def test_account_with_a_factor_is_not_signed_in_to_without_it(deployment, maya):
    accounts, devices = deployment.accounts, deployment.devices(maya.session)
    given = checked(accounts, maya)

    with pytest.raises(FactorNeeded):
        accounts.sign_in(given)
    forgetful = replace(given, credentials=replace(given.credentials, factor=None))
    with pytest.raises(FactorNeeded):  # the store asks for it, too
        accounts.sign_in(forgetful)
    with pytest.raises(WrongFactor):
        sign_in(maya, "10")  # it has confirmed the factor
    with pytest.raises(WrongFactor):
        sign_in(maya, "R-four")

    assert deployment.devices(maya.session) == devices
    assert sign_in(maya, "11").user_id == maya.id


def test_no_code_opens_an_account_whose_password_is_wrong(maya):
    with pytest.raises(WrongCredentials):
        sign_in(maya, "11", password=PASSWORD + "!")


def test_code_is_good_once(maya):
    for code in ("11", "R-one"):
        sign_in(maya, code)
        with pytest.raises(WrongFactor):
            sign_in(maya, code)
    with pytest.raises(WrongFactor):
        sign_in(maya, "11")
    sign_in(maya, "12")
    sign_in(maya, "R-two")

    assert (row_of(maya).uses, row_of(maya).generation) == (4, 2)
    actions = [one.action for one in maya.usage.account_changes()]
    assert (actions.count("factor.use"), actions.count("recovery.use")) == (2, 2)


@pytest.mark.parametrize("code", ["11", "R-one"])
def test_code_that_two_give_at_once_lets_one_in(deployment, maya, code):
    processes = [deployment.process(), deployment.process()]

    answers = at_once(*[partial(sign_in, maya, code, one) for one in processes])

    assert sorted(isinstance(one, WrongFactor) for one in answers) == [False, True]
    assert len(deployment.devices(maya.session)) == 2


def test_use_that_another_overtook_begins_no_session(deployment, maya):
    accounts = deployment.accounts
    given = checked(accounts, maya)
    late = replace(given, has_factor=True, used=FACTORS.use(given.credentials, "11"))
    sign_in(maya, "12")
    devices = deployment.devices(maya.session)

    with pytest.raises(FactorUsed):
        accounts.sign_in(late)
    with pytest.raises(FactorUsed):
        accounts.prove(maya.session, maya.cookie, late)

    assert deployment.devices(maya.session) == devices
    assert row_of(maya).uses == 1


def test_two_browsers_at_once_both_get_in(deployment, maya, omar):
    users, codes = (maya, maya), ("R-one", "R-two")
    sessions = at_once(*[partial(sign_in, *each) for each in zip(users, codes, strict=True)])
    assert {one.user_id for one in sessions} == {maya.id}
    assert row_of(maya).uses == 2

    signed_in = at_once(omar.sign_in, omar.sign_in)

    assert {one.id for one in signed_in} == {omar.id}
    assert row_of(omar).uses == 0


# --- proofs


def test_proof_of_an_account_with_a_factor_needs_it(deployment, maya):
    accounts = deployment.accounts
    deployment.let_pass(601)
    given = checked(accounts, maya)
    with pytest.raises(FactorNeeded):
        accounts.prove(maya.session, maya.cookie, given)
    with pytest.raises(FactorNeeded):
        maya.session.backend.prove(given.stored.generation, (), instead_of(maya))
    with pytest.raises(ProofNeeded):
        change(maya, CredentialsAction.FACTOR_REMOVED, without)

    prove = partial(accounts.prove, maya.session)
    proven = factors.given(accounts, given, by("11"), partial(prove, maya.cookie))

    with pytest.raises(WrongFactor):
        factors.given(accounts, checked(accounts, maya), by("11"), partial(prove, proven))
    maya = replace(maya, cookie=proven)
    assert change(maya, CredentialsAction.FACTOR_REMOVED, without)
    assert maya.sign_in().id == maya.id


def test_proof_from_before_the_factor_counts_no_more(deployment, omar):
    """Another session knows the password alone, and was proved by it when the factor was added."""
    accounts, thief = deployment.accounts, omar.sign_in()
    enrol(omar)

    with pytest.raises(ProofNeeded):
        change(thief, CredentialsAction.FACTOR_REMOVED, without, ends_others=True)
    proven = {one.session: one.is_proven for one in thief.session.backend.devices()}
    assert proven == {omar.session.id: True, thief.session.id: False}

    prove = partial(accounts.prove, thief.session, thief.cookie)
    cookie = factors.given(accounts, checked(accounts, omar), by("11"), prove)
    thief = replace(thief, cookie=cookie)
    assert change(thief, CredentialsAction.FACTOR_REMOVED, without)


# --- changes


def test_change_by_credentials_from_before_a_use_changes_nothing(deployment, maya):
    accounts = deployment.accounts
    before = accounts.current(maya.cookie)
    sign_in(maya, "11")
    row = row_of(maya)

    with pytest.raises(RateLimited):
        accounts.change_password(maya.session, before, before.hashed(OTHER))
    anew = seal_stored(accounts.root_keys, before.credentials, maya.id)
    user = maya.session.backend
    seen, options = anew.generation, {"ends_others": False}
    assert not user.change_credentials(anew, seen, action=CredentialsAction.RESEAL, **options)

    assert row_of(maya) == row


def test_new_password_keeps_the_factor(deployment, maya):
    current = deployment.accounts.current(maya.cookie)
    deployment.accounts.change_password(maya.session, current, current.hashed(OTHER))

    with pytest.raises(FactorNeeded):
        deployment.accounts.sign_in_with(maya.email, OTHER)
    assert sign_in(maya, "11", password=OTHER).user_id == maya.id


def test_reset_by_a_factor_keeps_its_use(deployment, maya):
    accounts = deployment.accounts
    given, hashed = checked(accounts, maya), accounts.current(maya.cookie).hashed(OTHER)

    reset = partial(codes.reset, accounts, password_hash=hashed, kept=())
    _, session = factors.given(accounts, given, by("11"), reset)

    assert set(deployment.devices(session)) == {session.id}
    with pytest.raises(WrongFactor):
        sign_in(maya, "11", password=OTHER)
    assert sign_in(maya, "12", password=OTHER).user_id == maya.id


def test_factor_is_no_more_wanted_once_it_is_removed(deployment, maya):
    other = sign_in(maya, "11")

    assert change(maya, CredentialsAction.FACTOR_REMOVED, without, ends_others=True)

    assert deployment.accounts.ended([other]) == {other.id: SessionEnd.ENDED}
    assert maya.sign_in().id == maya.id
    assert maya.usage.account_changes()[0].action == "factor.remove"


def test_renewed_recovery_codes_take_the_place_of_the_old_ones(maya):
    def renewed(credentials):
        return factors.renewed(credentials, [sha("R-new")])

    assert change(maya, CredentialsAction.RECOVERY_RENEWED, renewed)

    with pytest.raises(WrongFactor):
        sign_in(maya, "R-one")
    assert sign_in(maya, "R-new").user_id == maya.id


def test_replaced_factor_takes_the_place_of_the_old_one(deployment, maya):
    other, before = sign_in(maya, "11"), row_of(maya)
    new = partial(FACTORS.enrolled, secret=NEW_SECRET, entered="N1", recovery=[sha("R-new")])

    assert change(maya, CredentialsAction.FACTOR_REPLACED, new, ends_others=True)

    assert deployment.accounts.ended([other]) == {other.id: SessionEnd.ENDED}
    row = row_of(maya)
    assert (row.wants_factor, row.uses) == (True, before.uses)
    assert row.generation == before.generation + 1
    assert maya.usage.account_changes()[0].action == "factor.replace"
    for code in ("12", "N1", "R-one"):
        with pytest.raises(WrongFactor):
            sign_in(maya, code)
    for code in ("N2", "R-new"):
        assert sign_in(maya, code).user_id == maya.id


def test_required_factor_is_replaced_after_a_proof_alone(alone):
    maya = alone.sign_up_admin()
    require(maya)
    new = partial(FACTORS.enrolled, secret=NEW_SECRET, entered="N1", recovery=())
    alone.let_pass(601)
    with pytest.raises(ProofNeeded):
        change(maya, CredentialsAction.FACTOR_REPLACED, new)

    accounts = alone.accounts
    prove = partial(accounts.prove, maya.session, maya.cookie)
    maya = replace(maya, cookie=factors.given(accounts, checked(accounts, maya), by("11"), prove))

    assert change(maya, CredentialsAction.FACTOR_REPLACED, new)
    assert sign_in(maya, "N2").user_id == maya.id


def test_factor_that_is_used_while_it_is_replaced_stays(deployment, maya):
    current = deployment.accounts.current(maya.cookie)
    new = FACTORS.enrolled(current.credentials, NEW_SECRET, "N1", ())
    sign_in(maya, "11")

    action = CredentialsAction.FACTOR_REPLACED
    replaced = deployment.accounts.change_credentials(maya.session, new, current.stored, action)

    assert not replaced
    assert sign_in(maya, "12").user_id == maya.id


# --- attacks by who writes to the store


def test_flag_that_disagrees_with_the_seal_lets_nobody_in(deployment, maya, omar, caplog):
    caplog.set_level("INFO")
    ring = deployment.accounts.root_keys
    rows = row_of(maya), row_of(omar)
    deployment.put_credentials(replace(rows[0], wants_factor=False))
    deployment.put_credentials(replace(rows[1], wants_factor=True))

    for user in (maya, omar):
        with pytest.raises(WrongCredentials):
            checked(deployment.process(), user)
        with pytest.raises(Tampered):
            deployment.process().open(user.cookie)
        assert not opens(ring, row_of(user))
    assert "credentials.unopened" in caplog.text
    deployment.put_credentials(*rows)
    assert all(opens(ring, row) for row in rows)


def test_number_of_uses_that_disagrees_with_the_seal_lets_nobody_in(deployment, maya):
    row = row_of(maya)

    deployment.put_credentials(replace(row, uses=row.uses + 1))

    with pytest.raises(WrongCredentials):
        checked(deployment.process(), maya)


def test_credentials_from_before_a_use_are_refused_by_a_process_that_saw_it(deployment, maya):
    old = row_of(maya)
    sign_in(maya, "R-one")

    deployment.put_credentials(old)

    with pytest.raises(WrongCredentials):
        sign_in(maya, "R-one")
    with pytest.raises(Tampered):
        deployment.accounts.open(maya.cookie)


# --- a factor for all


def test_required_factor_is_enrolled_in_the_sign_in(alone):
    admin, maya = alone.sign_up_admin(), alone.sign_up()
    require(admin)
    assert alone.accounts.ended([maya.session]) == {maya.session.id: SessionEnd.ENDED}
    given = checked(alone.accounts, maya)
    with pytest.raises(FactorNeeded):
        alone.accounts.sign_in(given)
    with pytest.raises(FactorNeeded):  # the store asks for it, too
        alone.accounts.sign_in(replace(given, requires_factor=False))

    used = FACTORS.enrolled(given.credentials, SECRET, "20", ())
    _, session = alone.accounts.sign_in(replace(given, has_factor=True, used=used))

    assert session.user_id == maya.id
    with pytest.raises(WrongFactor):
        sign_in(maya, "20")
    assert sign_in(maya, "21").user_id == maya.id


def test_required_factor_is_enrolled_in_the_sign_up(alone):
    require(alone.sign_up_admin())
    accounts, email = alone.accounts, new_email()
    found = accounts.find_for_sign_up(email, NOT_COUNTED)
    hashed = found.hashed(PASSWORD)
    with pytest.raises(FactorNeeded):
        accounts.sign_up(found, hashed)
    state = replace(found.sign_ups, requires_factor=False)
    with pytest.raises(FactorNeeded):  # the store asks for it, too
        accounts.sign_up(replace(found, sign_ups=state), hashed)

    found = accounts.find(email, NOT_COUNTED)
    given = found.checked(PASSWORD)  # a sign-up that was cut
    used = FACTORS.enrolled(given.credentials, SECRET, "20", ())
    _, session = accounts.sign_in(replace(given, has_factor=True, used=used))

    assert (alone.credentials()[session.user_id].wants_factor, session.email) == (True, email)
    found = accounts.find_for_sign_up(new_email(), NOT_COUNTED)
    _, session = accounts.sign_up(found, hashed, factor=used.factor)
    assert alone.credentials()[session.user_id].wants_factor


def test_taken_address_is_refused_before_a_factor_is_set_up(alone):
    admin = alone.sign_up_admin()
    require(admin)
    found = alone.accounts.find_for_sign_up(admin.email, NOT_COUNTED)

    with pytest.raises(AddressTaken):
        alone.accounts.sign_up(found, found.hashed(PASSWORD))


def test_admin_requires_a_factor_only_with_a_proof_and_a_factor(alone):
    admin, maya = alone.sign_up_admin(), alone.sign_up()
    with pytest.raises(FactorNeeded):
        admin.administration.require_factor(is_on=True)
    enrol(admin)
    alone.let_pass(601)
    with pytest.raises(ProofNeeded):
        admin.administration.require_factor(is_on=True)
    assert maya.account().user_id == maya.id

    accounts = alone.accounts
    prove = partial(accounts.prove, admin.session, admin.cookie)
    factors.given(accounts, checked(accounts, admin), by("11"), prove)
    admin.administration.require_factor(is_on=True)

    assert accounts.backend.sign_up_state().requires_factor
    with pytest.raises(SignedOut):
        maya.account()
    assert admin.account().user_id == admin.id
    assert admin.administration.audit()[0].detail == {"requires_factor": [False, True]}
    admin.administration.require_factor(is_on=False)
    assert maya.sign_in().id == maya.id


def test_required_factor_ends_sessions_without_one(alone):
    """A session outlives the setting if its user has a factor, and gave it there or enrolled it there."""
    admin, maya, omar = alone.sign_up_admin(), alone.sign_up(), alone.sign_up()
    before = maya.sign_in()
    enrol(maya)
    enrol(omar)
    assert change(omar, CredentialsAction.FACTOR_REMOVED, without)
    later = sign_in(maya, "11")

    require(admin)

    sessions = [one.session for one in (maya, before, omar)] + [later]
    assert set(alone.accounts.ended(sessions)) == {before.session.id, omar.session.id}
    with pytest.raises(FactorRequired):
        change(maya, CredentialsAction.FACTOR_REMOVED, without)
    assert row_of(maya).wants_factor


def test_session_that_lacks_the_required_factor_is_refused(alone):
    """As where the process was killed once the setting was stored: no session is ended, and none is open."""
    admin, maya, omar = alone.sign_up_admin(), alone.sign_up(), alone.sign_up()
    before = admin.sign_in()
    enrol(admin)
    enrol(omar)
    assert change(omar, CredentialsAction.FACTOR_REMOVED, without)
    accounts, refused = alone.accounts, (maya, omar, before)

    alone.put_factor_rule(is_on=True)

    for user in refused:
        with pytest.raises(SignedOut):
            alone.process().open(user.cookie)
        assert not accounts.backend.is_alive(user.cookie.hash)
    ended = accounts.ended([one.session for one in (admin, *refused)])
    assert ended == {one.session.id: SessionEnd.ENDED for one in refused}
    for call in (maya.account, maya.session.backend.devices, maya.usage.account_changes):
        with pytest.raises(SignedOut):
            call()
    with pytest.raises(SignedOut):  # nor does it enrol one, or give one
        enrol(maya)
    with pytest.raises(SignedOut):
        maya.session.backend.prove(1, (), instead_of(maya), has_factor=True)
    assert admin.account().user_id == alone.process().open(admin.cookie).user_id
    alone.put_factor_rule(is_on=False)
    assert all(alone.process().open(one.cookie).user_id == one.id for one in refused)


def test_session_that_a_rule_ended_stays_ended_after_it(alone):
    admin, maya = alone.sign_up_admin(), alone.sign_up()
    require(admin)

    admin.administration.require_factor(is_on=False)

    assert alone.accounts.ended([maya.session]) == {maya.session.id: SessionEnd.ENDED}


# --- a factor that was given at a provider


def at_a_provider(user):
    """The credentials that *user* comes to by a provider that is trusted with the factor."""
    found = user.deployment.accounts.find(user.email, NOT_COUNTED)
    return found.opened(found.stored, found.credentials, PROVIDER, has_factor=True)


def come(user):
    """Sign *user* in by a provider; return the user in the new session."""
    cookie, session = user.deployment.accounts.sign_in(at_a_provider(user))
    return replace(user, cookie=cookie, session=session)


def test_required_factor_is_met_at_a_provider(alone):
    admin, maya = alone.sign_up_admin(), alone.sign_up()
    before = come(maya)
    require(admin)
    given = at_a_provider(maya)
    with pytest.raises(FactorNeeded):
        alone.accounts.sign_in(replace(given, has_factor=False))
    with pytest.raises(FactorNeeded):  # the store asks for it, too
        alone.accounts.sign_in(replace(given, has_factor=False, requires_factor=False))

    later = come(maya)

    for user in (before, later):
        assert user.account().user_id == alone.process().open(user.cookie).user_id
        assert alone.accounts.backend.is_alive(user.cookie.hash)
    ended = alone.accounts.ended([one.session for one in (maya, before, later)])
    assert ended == {maya.session.id: SessionEnd.ENDED}
    assert not row_of(maya).wants_factor
    with pytest.raises(FactorNeeded):
        alone.accounts.sign_in(checked(alone.accounts, maya))


def test_account_begins_by_a_factor_that_was_given_at_a_provider(alone):
    require(alone.sign_up_admin())
    accounts, email = alone.accounts, new_email()
    found, now = accounts.find_for_sign_up(email, NOT_COUNTED), datetime.now(UTC)
    identity = LinkedIdentity(
        identity=Identity("https://login.example.com", email), name="Work", created_at=now
    )
    begin = partial(accounts.sign_up, found, None, identity=identity)
    with pytest.raises(FactorNeeded):
        begin()

    _, session = begin(has_factor=True)

    assert session.backend.account().user_id == session.user_id
    assert not alone.credentials()[session.user_id].wants_factor


@pytest.mark.parametrize("how", ["removed", "reset"])
def test_factor_that_is_removed_was_given_in_no_session(alone, how):
    """Neither in that which removed it, nor at a provider before."""
    maya, omar = alone.sign_up(), come(alone.sign_up())
    enrol(maya)
    others = [sign_in(maya, "11"), come(maya).session]

    if how == "removed":
        assert change(maya, CredentialsAction.FACTOR_REMOVED, without)
    else:
        accounts, current = alone.accounts, alone.accounts.current(maya.cookie)
        hashed = current.hashed(OTHER)
        accounts.change_password(maya.session, current, hashed, keeps_factor=False)
    assert maya.account().user_id == maya.id
    alone.put_factor_rule(is_on=True)

    sessions = [maya.session, *others]
    ended = alone.accounts.ended([*sessions, omar.session])
    assert ended == {one.id: SessionEnd.ENDED for one in sessions}
    with pytest.raises(SignedOut):
        maya.account()


def test_factor_that_is_set_up_or_stays_was_given(alone):
    """A new password and a new address change nothing about it, also where the account has none of its own."""
    maya, omar, accounts = alone.sign_up(), come(alone.sign_up()), alone.accounts
    enrol(maya)
    for one in (maya, omar):
        current = accounts.current(one.cookie)
        accounts.change_password(one.session, current, current.hashed(OTHER))
        generation = accounts.current(one.cookie).stored.generation
        accounts.change_address(one.session, new_email(), generation)

    alone.put_factor_rule(is_on=True)

    assert accounts.ended([maya.session, omar.session]) == {}


def test_admin_requires_a_factor_only_with_one_of_their_own(alone):
    """A provider that is away, or trusted no more, must not keep the admin out."""
    admin = come(alone.sign_up_admin())
    with pytest.raises(FactorNeeded):
        admin.administration.require_factor(is_on=True)

    enrol(admin)

    admin.administration.require_factor(is_on=True)
    assert admin.account().user_id == admin.id


def test_proof_in_a_session_of_a_provider_asks_for_the_own_factor_alone(alone):
    require(alone.sign_up_admin())
    alone.put_factor_rule(is_on=False)
    maya = alone.sign_up()
    alone.put_factor_rule(is_on=True)
    maya, accounts = come(maya), alone.accounts
    alone.let_pass(601)
    with pytest.raises(ProofNeeded):
        enrol(maya)

    cookie = accounts.prove(maya.session, maya.cookie, checked(accounts, maya))

    proven = replace(maya, cookie=cookie)
    enrol(proven)
    with pytest.raises(FactorNeeded):
        accounts.prove(maya.session, cookie, checked(accounts, maya))
    with pytest.raises(FactorNeeded):  # the store asks for it, too
        maya.session.backend.prove(row_of(maya).generation, (), instead_of(proven))


# --- addresses


def test_address_that_is_taken_back_brings_its_factor_back(deployment, maya):
    accounts = deployment.accounts
    confirm(accounts, maya.session)
    left, email = maya.email, new_email()
    generation = accounts.current(maya.cookie).stored.generation
    accounts.change_address(maya.session, email, generation)
    thief = replace(maya, email=email)
    assert change(thief, CredentialsAction.FACTOR_REMOVED, without)
    with pytest.raises(FactorNeeded):
        accounts.restore_address(left, "a hash")
    with pytest.raises(WrongFactor):
        accounts.restore_address(left, "a hash", use=partial(FACTORS.use, entered="10"))
    assert len(deployment.devices(maya.session)) == 1

    current = accounts.current(maya.cookie)
    restored = accounts.restore_address(
        left, current.hashed(OTHER), use=partial(FACTORS.use, entered="11")
    )

    assert restored.session.email == left
    with pytest.raises(WrongFactor):
        sign_in(maya, "11", password=OTHER)
    assert sign_in(maya, "12", password=OTHER).user_id == maya.id


def test_address_that_is_taken_back_drops_the_factor_of_a_thief(deployment, omar):
    accounts = deployment.accounts
    confirm(accounts, omar.session)
    left, email = omar.email, new_email()
    accounts.change_address(omar.session, email, accounts.current(omar.cookie).stored.generation)
    enrol(replace(omar, email=email))
    sign_in(replace(omar, email=email), "11")

    current = accounts.current(omar.cookie)
    accounts.restore_address(left, current.hashed(OTHER))

    assert (row_of(omar).wants_factor, row_of(omar).uses) == (False, 1)
    assert accounts.sign_in_with(left, OTHER)[1].user_id == omar.id


def test_reset_removes_the_factor_of_a_former_address(alone):
    """A thief who has a factor, moves the account and turns the factor off."""
    accounts, maya = alone.accounts, alone.sign_up()
    confirm(accounts, maya.session)
    enrol(maya)
    left, email = maya.email, new_email()
    current = accounts.current(maya.cookie)
    accounts.change_address(maya.session, email, current.stored.generation)
    assert change(replace(maya, email=email), CredentialsAction.FACTOR_REMOVED, without)

    reset_factors(alone.operator, accounts.root_keys, email)

    assert accounts.restore_address(left, "a hash").session.email == left
    with pytest.raises(BadInput):
        reset_factors(alone.operator, accounts.root_keys, left)


def test_use_and_reset_of_a_factor_leave_former_addresses_to_be_found(alone):
    """Under a newer root key: what seals the credentials seals the look-ups anew with them, or neither."""
    maya = alone.sign_up()
    confirm(alone.accounts, maya.session)
    left, email = maya.email, new_email()
    generation = alone.accounts.current(maya.cookie).stored.generation
    alone.accounts.change_address(maya.session, email, generation)
    enrol(replace(maya, email=email))
    accounts = alone.process_with_new_root_key()
    tags = accounts.root_keys.former_address_tags(left)
    reset_factors(alone.operator, accounts.root_keys, email)
    assert alone.lookups(maya) == [tags[1]]
    assert token_version(row_of(maya).sealed) == 1
    given = accounts.find(email, NOT_COUNTED).checked(PASSWORD)
    used = FACTORS.enrolled(given.credentials, SECRET, "20", ())

    accounts.sign_in(replace(given, has_factor=True, used=used))

    assert alone.lookups(maya) == [tags[2]]
    assert token_version(row_of(maya).sealed) == 2
    assert sign_in(replace(maya, email=email), "21", accounts).user_id == maya.id


def test_root_key_that_a_former_address_needs_is_named(alone):
    """Where a session that was opened under the old root key changes a way in under a newer one."""
    maya = alone.sign_up()
    confirm(alone.accounts, maya.session)
    left, email = maya.email, new_email()
    current = alone.accounts.current(maya.cookie)
    alone.accounts.change_address(maya.session, email, current.stored.generation)
    accounts, old = alone.process_with_new_root_key(), alone.accounts
    tags = accounts.root_keys.former_address_tags(left)
    current = old.current(maya.cookie)

    accounts.change_password(maya.session, current, current.hashed(OTHER))

    assert alone.lookups(maya) == [tags[1]]
    assert token_version(row_of(maya).sealed) == 1
    assert 1 in alone.server.root_key_versions()
    accounts.sign_in_with(email, OTHER)
    assert alone.lookups(maya) == [tags[2]]
    assert token_version(row_of(maya).sealed) == 2


def test_address_taken_back_is_no_way_around_a_required_factor(alone):
    """Where the ways in that come back have no factor, one is enrolled; a session that began without one ends."""
    admin, maya, accounts = alone.sign_up_admin(), alone.sign_up(), alone.accounts
    confirm(accounts, maya.session)
    left, email = maya.email, new_email()
    accounts.change_address(maya.session, email, accounts.current(maya.cookie).stored.generation)
    enrol(replace(maya, email=email))
    require(admin)

    hashed = accounts.current(maya.cookie).hashed(OTHER)
    with pytest.raises(FactorNeeded):
        accounts.restore_address(left, hashed)

    # as if the factor had become required meanwhile
    restored = accounts.restore_address(left, hashed, use=lambda credentials: credentials)

    ended = accounts.ended([restored.session, maya.session])
    assert ended == dict.fromkeys([restored.session.id, maya.session.id], SessionEnd.ENDED)
    with pytest.raises(FactorNeeded):
        accounts.sign_in_with(left, OTHER)


@pytest.mark.parametrize("has_factor", [False, True])
def test_address_taken_back_gives_the_factor_that_comes_back(alone, has_factor):
    """The session that takes it back begins without the factor of a thief."""
    maya, accounts = alone.sign_up(), alone.accounts
    confirm(accounts, maya.session)
    if has_factor:
        enrol(maya)
    left, current = maya.email, accounts.current(maya.cookie)
    accounts.change_address(maya.session, new_email(), current.stored.generation)
    use = partial(FACTORS.use, entered="11") if has_factor else None
    restored = accounts.restore_address(left, current.hashed(OTHER), use=use)

    alone.put_factor_rule(is_on=True)

    assert bool(accounts.ended([restored.session])) is not has_factor


@pytest.mark.parametrize("code", ["11", "R-one"])
def test_used_code_is_not_good_again_by_an_address_taken_back(deployment, maya, code):
    accounts = deployment.accounts
    confirm(accounts, maya.session)
    left, email = maya.email, new_email()
    accounts.change_address(maya.session, email, accounts.current(maya.cookie).stored.generation)
    moved = replace(maya, email=email)
    sign_in(moved, code)
    assert change(moved, CredentialsAction.FACTOR_REMOVED, without)

    hashed = accounts.current(maya.cookie).hashed(OTHER)
    with pytest.raises(WrongFactor):
        accounts.restore_address(left, hashed, use=partial(FACTORS.use, entered=code))
    accounts.restore_address(left, hashed, use=partial(FACTORS.use, entered="R-two"))
