"""The second factor in one process: what it asks for before it calls anything, and its races."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pytest

from services.crypto import Factor, RootKeys, new_key
from services.domain import AccountRole
from services.domain.accounts import CredentialsAction
from services.domain.addresses import checked_address
from services.domain.sign_in_methods import SignInMethod, UsedMethod
from services.errors import (
    FactorNeeded,
    FactorUsed,
    Misconfigured,
    PasskeyMissing,
    RateLimited,
    StoreUnavailable,
    TooManyAttempts,
    WrongFactor,
)
from services.rules.accounts import Settings
from services.store.accounts import Cookie, CookieSealer
from services.store.backend import NewAddress, NewCookie, NewSession
from services.store.credentials import seal_stored
from services.store.factors import Factors, asking_passkey, given, renewed
from services.store.tables import administration, backend, operator
from services.store.tables.backend import TablesBackend
from services.store.tables.blocks import delete_all
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.operator import TablesOperator
from services.store.tables.schema import ACCOUNTS, SESSIONS, SETTINGS
from tests.stores import NOT_COUNTED, accounts_in_memory
from tests.unit.test_passkeys import MAYAS

pytestmark = pytest.mark.usefixtures("cheap_passwords")
MAYA, PASSWORD = checked_address("maya@daybook.test"), "correct horse, correct battery"
SECRET, NOON = bytes(range(20)), datetime(2026, 11, 25, 12, tzinfo=UTC)


def _step(secret, digits, now, newer_than):
    """The time step that *digits* are, in the place of TOTP."""
    return int(digits) if digits.isdecimal() and int(digits) > newer_than else None


FACTORS = Factors(_step, lambda text: None, lambda: NOON)


def by(code):
    """The use of the factor by *code*."""
    return partial(FACTORS.use, entered=code)


@pytest.fixture
def accounts():
    accounts = accounts_in_memory(InMemoryStore())
    return replace(accounts, backend=Late(accounts.backend))


@pytest.fixture
def maya(accounts):
    """The session of a user with a factor."""
    cookie, session = accounts.sign_up_with(MAYA, PASSWORD)
    current = accounts.current(cookie)
    new = FACTORS.enrolled(current.credentials, SECRET, "10", ())
    assert accounts.change_credentials(session, new, current.stored, CredentialsAction.FACTOR_ADDED)
    return session


def checked(accounts):
    return accounts.find(MAYA, NOT_COUNTED).checked(PASSWORD)


class Without:
    """A port in which *name* is not called."""

    def __init__(self, port, name):
        self._port, self._name = port, name

    def __getattr__(self, name):
        assert name != self._name
        return getattr(self._port, name)


@pytest.mark.parametrize("is_required", [False, True])
def test_sign_in_and_proof_ask_for_the_factor_first(accounts, maya, is_required):
    asking = replace(accounts, backend=Without(accounts.backend, "sign_in"))
    session = replace(maya, backend=Without(maya.backend, "prove"))
    known = checked(accounts)
    if is_required:
        credentials = replace(known.credentials, factor=None)
        stored = replace(known.stored, wants_factor=False)
        known = replace(known, stored=stored, credentials=credentials, requires_factor=True)
        known = replace(known, by=UsedMethod(SignInMethod.OIDC, "example"))

    with pytest.raises(FactorNeeded):
        asking.sign_in(known)
    if not is_required:  # a session has given what all need
        with pytest.raises(FactorNeeded):
            asking.prove(session, Cookie.new(), known)


def test_code_is_of_a_factor_that_there_is(accounts, maya):
    credentials = checked(accounts).credentials
    with pytest.raises(WrongFactor):
        FACTORS.use(replace(credentials, factor=None), "11")
    with pytest.raises(WrongFactor):
        FACTORS.enrolled(credentials, SECRET, "0", ())

    used = FACTORS.use(credentials, "11")

    assert used.factor == Factor(secret=SECRET, since=NOON, step=11)
    assert (used.uses, used.generation) == (1, 2)


def test_recovery_code_is_of_an_account_that_wants_a_factor(accounts, maya):
    """Credentials in this process may have more than is stored of them."""
    factors = replace(FACTORS, recovery_hash=lambda text: text)
    known = replace(checked(accounts).credentials, recovery=("a" * 64,))

    assert factors.use(known, "a" * 64).recovery == ()
    with pytest.raises(WrongFactor):
        factors.use(replace(known, factor=None), "a" * 64)


def test_passkey_that_is_gone_is_not_asked_for(accounts, maya):
    gone = replace(MAYAS, each=(), is_factor=False)

    with pytest.raises(PasskeyMissing):
        asking_passkey(replace(checked(accounts).credentials, passkeys=gone), is_asked=False)


class Late:
    """A backend whose answer to an attempt is from before what happens meanwhile."""

    def __init__(self, backend):
        self._backend, self.meanwhile = backend, []

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def count_attempt(self, attempt):
        answer = self._backend.count_attempt(attempt)
        if self.meanwhile:
            self.meanwhile.pop()()
        return answer


def test_use_that_this_process_saw_while_it_read_is_read_again(accounts, maya):
    known = checked(accounts)

    def sign_in():
        given(accounts, known, by("11"), accounts.sign_in)

    accounts.backend.meanwhile.append(sign_in)

    assert checked(accounts).stored.uses == 1


def test_password_that_changed_beside_a_use_ends_the_sign_in(accounts, maya):
    tried = []

    def act(now):
        tried.append(now)
        accounts.change_password(maya, now, now.hashed("another horse, another battery"))
        raise FactorUsed

    with pytest.raises(RateLimited):
        given(accounts, checked(accounts), by("11"), act)

    assert len(tried) == 1


def new_address(accounts, maya, credentials, *, is_restored):
    """Return the change of Maya's address to that of *credentials*."""
    return NewAddress(
        credentials=seal_stored(accounts.root_keys, credentials, maya.user_id),
        address=credentials.address,
        claims=(),
        former=(),
        is_restored=is_restored,
        ways_in=(),
    )


def test_new_address_does_not_undo_a_use(accounts, maya):
    before = checked(accounts)
    given(accounts, before, by("11"), accounts.sign_in)
    moved = replace(before.credentials, address=checked_address("b@daybook.test"), generation=3)

    assert not maya.backend.change_address(new_address(accounts, maya, moved, is_restored=False))

    assert checked(accounts).stored.uses == 1


def test_use_of_a_factor_names_its_own_user(accounts, maya):
    other = uuid4()
    used = FACTORS.use(checked(accounts).credentials, "11")
    row = replace(seal_stored(accounts.root_keys, used, maya.user_id), id=other, user_id=other)
    identity = accounts.backend.sign_in.sign_in(maya.user_id, MAYA, "")
    new = NewSession(
        id=uuid4(),
        device=None,
        cookie_hash="0" * 64,
        idle_seconds=60,
        lifetime_seconds=60,
        generation=2,
        account=None,
        returned=(),
        has_factor=True,
        used=row,
    )
    sealer = CookieSealer(accounts.root_keys.session_vault(bytes(32)), new.cookie_hash)
    cookie = NewCookie(replaces="1" * 64, cookie_hash=new.cookie_hash, sealer=sealer)

    with pytest.raises(ValueError, match="another user"):
        maya.backend.prove(2, (), cookie, has_factor=True, used=row)
    with pytest.raises(ValueError, match="another user"):
        accounts.backend.start_session(identity, new, sealer)


def test_setting_of_the_factor_is_changed_by_its_own_verb_alone(accounts):
    _, admin = accounts.sign_up_with(checked_address("admin@daybook.test"), PASSWORD)
    role = partial(_make_admin, user_id=admin.user_id)
    accounts.backend.all_tables.of(admin.user_id).run(role)

    with pytest.raises(ValueError, match="require_factor"):
        admin.backend.administration.change_settings({"requires_factor": True})


def _make_admin(block, user_id):
    account = block.get(ACCOUNTS, user_id)
    block.put(ACCOUNTS, replace(account, role=AccountRole.ADMIN))


def test_deployment_without_sign_in_demands_no_factor():
    store = InMemoryStore()
    backend = TablesBackend(store, wants_proofs=False)
    accounts = replace(accounts_in_memory(store, RootKeys({1: new_key()}, 1)), backend=backend)
    settings = Settings(requires_factor=True)
    store.of(None).run(lambda block: block.put(SETTINGS, settings))
    cookie, session = accounts.enter(None)
    current = accounts.current(cookie)
    new = FACTORS.enrolled(current.credentials, SECRET, "10", ())
    assert accounts.change_credentials(session, new, current.stored, CredentialsAction.FACTOR_ADDED)

    _, again = accounts.enter(accounts.current(cookie).stored)

    assert again.user_id == session.user_id


def test_factor_that_is_removed_was_given_in_none_of_many_sessions(accounts, maya, monkeypatch):
    """Those that do not fit into the block of the change follow."""
    monkeypatch.setattr(backend, "ENDED_AT_ONCE", 2)
    given(accounts, checked(accounts), by("11"), accounts.sign_in)
    given(accounts, checked(accounts), by("12"), accounts.sign_in)
    known = checked(accounts)
    generation = known.stored.generation + 1
    new = replace(known.credentials, factor=None, generation=generation)

    assert accounts.change_credentials(maya, new, known.stored, CredentialsAction.FACTOR_REMOVED)

    sessions = accounts.backend.tables.run(lambda block: block.select(SESSIONS))
    assert [one.has_factor for one in sessions] == [False] * 3


def new_password(accounts, maya, known):
    accounts.change_password(maya, known, known.hashed("another horse"))


def restored_address(accounts, maya, known):
    new = replace(known.credentials, generation=known.stored.generation + 1)
    assert maya.backend.change_address(new_address(accounts, maya, new, is_restored=True))


def password_of_an_operator(accounts, maya, known):
    new = replace(known.credentials, generation=known.stored.generation + 1)
    stored = seal_stored(accounts.root_keys, new, maya.user_id)
    by_operator = TablesOperator(None, lambda: accounts.backend.all_tables)
    assert by_operator.change_credentials(stored, known.stored.generation)


@pytest.mark.parametrize(
    ("change", "left"), [(new_password, 1), (restored_address, 1), (password_of_an_operator, 0)]
)
def test_credentials_change_only_with_the_end_of_the_last_other_session(
    accounts, maya, monkeypatch, change, left
):
    """One block ends one session, and the second such block fails."""
    given(accounts, checked(accounts), by("11"), accounts.sign_in)
    given(accounts, checked(accounts), by("12"), accounts.sign_in)
    known, ended = checked(accounts), []

    def end(block, table, rows):
        if table is SESSIONS:
            ended.extend(rows)
        if table is SESSIONS and len(ended) == 2:
            raise StoreUnavailable
        delete_all(block, table, rows)

    for module in administration, backend, operator:
        monkeypatch.setattr(module, "ENDED_AT_ONCE", 1, raising=False)
        monkeypatch.setattr(module, "delete_all", end)

    def count():
        return accounts.backend.tables.run(lambda block: len(block.select(SESSIONS)))

    with pytest.raises((StoreUnavailable, Misconfigured)):
        change(accounts, maya, known)
    assert (count(), checked(accounts).stored) == (2, known.stored)

    change(accounts, maya, known)
    assert count() == left


def test_changes_of_an_account_are_throttled_but_not_a_new_password(accounts, maya):
    """Each change voids mailed codes, and a reset, which sets a new password, must not be refused."""

    def renew():
        now = checked(accounts)
        new, action = renewed(now.credentials, ()), CredentialsAction.RECOVERY_RENEWED
        assert accounts.change_credentials(maya, new, now.stored, action)

    for _ in range(19):  # the fixture has made the first change
        renew()
    with pytest.raises(TooManyAttempts):
        renew()

    now = checked(accounts)
    accounts.change_password(maya, now, now.hashed("another horse, another battery"))
