"""The operator's commands on a store over tables, here an SQLite file beside an app that uses it."""

import base64
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import cbor2
import pytest
from click.testing import CliRunner

from services.crypto import Factor, RootKeys, new_key
from services.domain import AccountRole, UserId
from services.domain.accounts import CredentialsAction
from services.domain.addresses import NO_ADDRESS, ConfirmedBy
from services.domain.passkeys import Passkey, Passkeys
from services.domain.sign_in_methods import SignInMethod, UsedMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import BadInput, FactorNeeded, Misconfigured, StoreBlocked, WrongCredentials
from services.operate.__main__ import operate
from services.operate.accounts import (
    free_address,
    has_way_in,
    holds_refused_passkey,
    lookup_faults,
    open_account,
    opens,
    reset_factors,
    set_password,
)
from services.operate.demo import make_demo
from services.settings import Settings
from services.store.credentials import lookups_of, open_stored, seal_stored
from services.store.files import FilesPlace
from services.store.operator import Mark, PresentKeys
from services.store.sign_in_policy import SignInPolicy
from services.store.sqlite import SqlitePlace
from services.store.sqlite.store import SqliteStore
from services.store.tables.backend import TablesBackend
from services.store.tables.opening import check_root_key, only_account
from services.store.tables.operator import TablesOperator
from services.store.tables.schema import (
    ACCOUNTS,
    AUDIT,
    CONVERSATIONS,
    CREDENTIALS,
    LOOKUPS,
)
from services.stores import open_copy_source, open_operator
from services.users.ways_in import WaysIn
from tests.confirmed import confirm
from tests.passkeys import KEYS, cose
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, WholeAccounts

RING_KEY = new_key()
RING = RootKeys({1: RING_KEY}, 1)


@pytest.fixture
def place(tmp_path):
    return SqlitePlace(tmp_path / "daybook.db")


@pytest.fixture
def tables(place):
    with closing(place.open()) as opened:
        yield opened


@pytest.fixture
def accounts(tables):
    return WholeAccounts(TablesBackend(tables), RING, 3600, 3600)


@pytest.fixture
def operator(place, tables):
    return TablesOperator(place, lambda: place.open(is_app=False))


def operate_at(store, *arguments):
    """Return the result of a command of `operate` on a *store*, a value of DAYBOOK_STORE."""
    key = base64.urlsafe_b64encode(RING_KEY).decode()
    settings = {"DAYBOOK_STORE": store, "DAYBOOK_ROOT_KEYS": key}
    return CliRunner().invoke(operate, arguments, env=settings)


def rows(tables, table):
    return tables.of(None).run(lambda block: block.select(table))


def findings(operator, ring=RING):
    judges = (
        *(partial(opens, ring), partial(lookup_faults, ring)),
        partial(has_way_in, ring, SignInPolicy()),
        partial(holds_refused_passkey, ring),
    )
    return operator.check(PresentKeys(ring.proof_keys(), ring.current, *judges))


def test_account_becomes_admin_and_is_audited(accounts, operator, tables):
    email = new_email()
    accounts.sign_up_with(email, PASSWORD)

    operator.grant_admin(email)

    (account,) = rows(tables, ACCOUNTS)
    assert account.role is AccountRole.ADMIN
    assert [row.action for row in rows(tables, AUDIT)][-1] == "role.set"
    with pytest.raises(BadInput):
        operator.grant_admin("nobody@daybook.test")


def test_first_admin_may_have_come_by_a_provider(accounts, operator):
    """Without a password: sign in, then `grant-admin`."""
    email, identity = new_email(), Identity("https://login.example.com", "7f3c")
    linked = LinkedIdentity(identity=identity, name="Corp", created_at=datetime.now(UTC))
    found = accounts.find_for_sign_up(email, NOT_COUNTED)
    accounts.sign_up(found, None, identity=linked)

    operator.grant_admin(email)

    found = accounts.find_identity(identity, NOT_COUNTED)
    by = UsedMethod(SignInMethod.OIDC, "corp")
    _, session = accounts.sign_in(found.opened(found.stored, found.credentials, by))
    assert session.backend.account().role is AccountRole.ADMIN


def test_new_password_ends_sessions_and_opens_the_account(accounts, operator):
    email = new_email()
    cookie, _ = accounts.sign_up_with(email, PASSWORD)

    set_password(operator, RING, email, "another long password")

    assert not accounts.backend.is_alive(cookie.hash)
    assert not accounts.sign_in_with(email, "another long password")[1].is_confirmed
    with pytest.raises(WrongCredentials):
        accounts.sign_in_with(email, PASSWORD)


def test_change_of_outdated_credentials_changes_nothing(accounts, operator):
    email = new_email()
    cookie, _ = accounts.sign_up_with(email, PASSWORD)
    stored, credentials = open_account(operator, RING, email)
    row = seal_stored(RING, replace(credentials, generation=9), stored.id)

    assert not operator.change_credentials(row, stored.generation + 1)

    assert accounts.backend.is_alive(cookie.hash)


def enrol(accounts, cookie, session):
    """Give the account of *session* a second factor."""
    current, factor = accounts.current(cookie), Factor(secret=bytes(20), since=datetime.now(UTC))
    new = replace(current.credentials, factor=factor, generation=2)
    assert accounts.change_credentials(session, new, current.stored, CredentialsAction.FACTOR_ADDED)


def test_reset_removes_the_factor_and_ends_sessions(accounts, operator, tables):
    email = new_email()
    cookie, session = accounts.sign_up_with(email, PASSWORD)
    with pytest.raises(BadInput):  # there is none
        reset_factors(operator, RING, email)
    enrol(accounts, cookie, session)
    set_password(operator, RING, email, PASSWORD)  # which keeps it
    with pytest.raises(FactorNeeded):
        accounts.sign_in_with(email, PASSWORD)

    reset_factors(operator, RING, email)

    assert not accounts.backend.is_alive(cookie.hash)
    assert accounts.sign_in_with(email, PASSWORD)[1].user_id == session.user_id
    removal = [row for row in rows(tables, AUDIT) if row.action == "factor.remove"]
    assert [(row.actor, row.target) for row in removal] == [(None, session.user_id)]


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_command_says_if_its_user_may_be_mailed(accounts, operator, is_confirmed):
    email = new_email()
    cookie, session = accounts.sign_up_with(email, PASSWORD)
    if is_confirmed:
        confirm(accounts, session)
    current, factor = accounts.current(cookie), Factor(secret=bytes(20), since=datetime.now(UTC))
    new = replace(current.credentials, factor=factor, generation=current.stored.generation + 1)
    assert accounts.change_credentials(session, new, current.stored, CredentialsAction.FACTOR_ADDED)

    assert set_password(operator, RING, email, PASSWORD) is is_confirmed
    assert reset_factors(operator, RING, email) is is_confirmed


@pytest.mark.parametrize("has_factor", [False, True])
def test_check_names_an_account_whose_flag_disagrees(accounts, operator, tables, has_factor):
    email = new_email()
    cookie, session = accounts.sign_up_with(email, PASSWORD)
    if has_factor:
        enrol(accounts, cookie, session)
    assert findings(operator)["credentials"][0] is Mark.OK
    (row,) = rows(tables, CREDENTIALS)

    changed = replace(row, wants_factor=not has_factor)
    tables.of(None).run(lambda block: block.put(CREDENTIALS, changed))

    mark, text = findings(operator)["credentials"]
    assert mark is Mark.FAIL
    assert email in text


def test_only_user_gets_an_address_and_a_password(accounts, operator, tables):
    accounts.enter(None)
    email = new_email()

    set_password(operator, RING, email, PASSWORD)

    assert accounts.sign_in_with(email, PASSWORD)[1].email == email
    assert rows(tables, ACCOUNTS)[0].email == email
    assert open_account(operator, RING, email)[1].confirmed.how is ConfirmedBy.OPERATOR
    accounts.enter(only_account(tables))  # a store without sign-in needs no address
    with pytest.raises(BadInput):
        open_account(operator, RING, new_email())


def test_only_user_without_an_address_is_named_by_none(accounts, operator):
    accounts.enter(None)
    email = new_email()

    for call in (operator.grant_admin, lambda email: operator.set_caps(email, {})):
        with pytest.raises(BadInput, match=r"without sign-in, .*: `set-password EMAIL` gives it"):
            call(email)
        with pytest.raises(BadInput, match=f"name it {NO_ADDRESS}"):
            call(email)
    assert operator.set_caps(NO_ADDRESS, {"daily_cap_micro": 5}).daily_cap_micro == 5

    set_password(operator, RING, email, PASSWORD)
    operator.grant_admin(email)
    with pytest.raises(BadInput, match="sign up, and sign in once"):
        operator.grant_admin(new_email())


def test_only_user_without_an_address_has_none_to_free(accounts, operator, tables):
    accounts.enter(None)

    with pytest.raises(BadInput, match="a placeholder"):
        free_address(operator, RING, new_email())

    assert rows(tables, ACCOUNTS)[0].email == NO_ADDRESS


def test_no_password_opens_the_only_user(accounts):
    accounts.enter(None)

    found = accounts.find(NO_ADDRESS, NOT_COUNTED)

    assert found.is_taken
    with pytest.raises(WrongCredentials):
        found.checked("")


def test_limits_of_one_account_and_of_new_ones_are_set(accounts, operator):
    email = new_email()
    accounts.sign_up_with(email, PASSWORD)

    of_new = operator.set_caps(None, {"daily_cap_micro": 5})
    of_one = operator.set_caps(email, {"monthly_cap_micro": 7, "daily_cap_tokens": None})

    assert (of_new.daily_cap_micro, of_one.monthly_cap_micro) == (5, 7)
    assert operator.set_caps(email, {}).monthly_cap_micro == 7
    with pytest.raises(BadInput):
        operator.set_caps("nobody@daybook.test", {})


def test_check_names_accounts_that_do_not_open(accounts, operator, tables):
    accounts.sign_up_with("maya@daybook.test", PASSWORD)
    marks = {name: mark for name, (mark, _) in findings(operator).items()}
    assert marks.pop("SQLite") in (Mark.OK, Mark.NOTE)
    judged = ["file", "accounts", "root keys", "credentials", "ways in", "look-ups"]
    assert marks == dict.fromkeys(judged, Mark.OK)

    (row,) = rows(tables, CREDENTIALS)
    tables.of(None).run(lambda block: block.delete(CREDENTIALS, row.id))

    mark, sentence = findings(operator)["credentials"]
    assert (mark, "maya@daybook.test" in sentence) == (Mark.FAIL, True)
    assert operator.check("The root key is missing.")["root keys"][0] is Mark.FAIL


def test_check_names_all_accounts_where_asked(accounts, operator, tables, tmp_path):
    check_root_key(tables, RING)
    emails = [f"{name}@daybook.test" for name in ("ann", "ben", "cleo", "dan")]
    for email in emails:
        accounts.sign_up_with(email, PASSWORD)
    for row in rows(tables, CREDENTIALS):
        tables.of(None).run(lambda block, row=row: block.delete(CREDENTIALS, row.id))
    store = f"sqlite:{tmp_path}/daybook.db"

    some = operate_at(store, "check").output
    everyone = operate_at(store, "check", "--all").output

    assert (sum(email in some for email in emails), "…" in some) == (3, True)
    assert (sum(email in everyone for email in emails), "…" in everyone) == (4, False)


def test_check_names_the_root_keys_that_stored_data_needs(accounts, operator, tables):
    accounts.sign_up_with("maya@daybook.test", PASSWORD)
    first, second = new_key(), new_key()
    ring = RootKeys({1: RING_KEY, 2: second}, 2)

    listed = "the command `root-keys` lists who still needs root key 1"
    text = f"stored data needs root key 1; {listed}; no stored data needs root key 2 yet"
    assert findings(operator, ring)["root keys"] == (Mark.OK, text)
    WholeAccounts(TablesBackend(tables), ring, 3600, 3600).sign_up_with(new_email(), PASSWORD)
    text = f"stored data needs root keys 1 and 2; {listed}"
    assert findings(operator, ring)["root keys"] == (Mark.OK, text)

    without = findings(operator, RootKeys({2: second, 3: first}, 2))
    advice = "stored data needs root key 1: put it back beside the others"
    assert without["root keys"] == (Mark.FAIL, advice)
    for name in ("credentials", "ways in", "look-ups"):
        assert without[name] == (Mark.UNKNOWN, "not checked: needs the root keys")


def test_check_names_the_root_key_without_which_the_store_does_not_open(operator, tables):
    ring = RootKeys({1: RING_KEY, 2: new_key()}, 2)
    check_root_key(tables, RING)

    assert "stored data needs root key 1;" in findings(operator, ring)["root keys"][1]


def test_check_asks_no_other_store_than_supabase_for_a_mail(operator):
    with pytest.raises(BadInput, match="Only Supabase Auth sends mails"):
        operator.check("no root keys", "maya@daybook.test")


def test_root_keys_lists_who_needs_an_old_one(accounts, operator, tables, tmp_path):
    maya, omar, second = "maya@daybook.test", "omar@daybook.test", new_key()
    check_root_key(tables, RING)
    for email in (omar, maya):
        accounts.sign_up_with(email, PASSWORD)
    ring = RootKeys({1: RING_KEY, 2: second}, 2)
    with pytest.raises(Misconfigured, match="Root key 1 is missing"):
        operator.migrate(RootKeys({2: second}, 2).proof_keys())
    assert operator.migrate(ring.proof_keys()) == ()

    WholeAccounts(TablesBackend(tables), ring, 3600, 3600).sign_in_with(omar, PASSWORD)

    assert operator.root_key_users() == {1: [maya, omar], 2: [omar]}
    listed = operate_at(f"sqlite:{tmp_path}/daybook.db", "root-keys").output.splitlines()
    assert listed == [
        "Root key 1, the current one: 2 users.",
        "Root key 2: 1 user, until they next sign in:",
        f"  {omar}",
    ]


def test_check_takes_damaged_credentials_for_no_missing_root_key(accounts, operator, tables):
    accounts.sign_up_with("maya@daybook.test", PASSWORD)
    (row,) = rows(tables, CREDENTIALS)
    tables.of(None).run(lambda block: block.put(CREDENTIALS, replace(row, sealed="damaged")))

    found = findings(operator)

    assert found["root keys"][0] is Mark.OK
    text = "gone, or do not open (maya@daybook.test): put a backup back"
    assert found["credentials"] == (Mark.FAIL, text)


def test_check_names_accounts_with_a_passkey_whose_key_proves_nothing(accounts, operator, tables):
    accounts.sign_up_with("maya@daybook.test", PASSWORD)
    (row,) = rows(tables, CREDENTIALS)
    credentials = open_stored(RING, row)
    good = cbor2.dumps(cose(KEYS["EdDSA"]()))
    finds = {}
    for name, point in (("good", None), ("weak", bytes(32))):
        key = cbor2.dumps(cbor2.loads(good) | {-2: point}) if point else good
        passkey = Passkey(
            credential_id=b"an id",
            public_key=key,
            sign_count=0,
            rp_id="localhost",
            name="Laptop",
            created_at=datetime(2026, 11, 1, tzinfo=UTC),
            verifies_user=True,
        )
        keys = Passkeys(user_handle=bytes(64), each=(passkey,))
        new = replace(credentials, password_hash=None, passkeys=keys)
        sealed = seal_stored(RING, new, row.id, replaces=row).sealed
        put = replace(row, sealed=sealed)
        tables.of(None).run(lambda block, put=put: block.put(CREDENTIALS, put))
        listing = SimpleNamespace(list_credentials=lambda put=put: [put])
        left_out = WaysIn(accounts).left_out(listing)
        finds[name] = (*findings(operator)["ways in"], left_out)

    assert finds["good"] == (Mark.OK, "each account has one that works here", 0)
    mark, sentence, left_out = finds["weak"]
    assert (mark, left_out) == (Mark.NOTE, 1)
    assert "1 accounts have none that works here (maya@daybook.test)" in sentence
    assert "whose key proves nothing, so it is refused (maya@daybook.test)" in sentence


def test_check_compares_former_addresses_with_the_credentials(accounts, operator, tables):
    def put(one):
        tables.of(None).run(lambda block: block.put(LOOKUPS, one))

    _, session = accounts.sign_up_with("maya@daybook.test", PASSWORD)
    confirm(accounts, session)
    accounts.change_address(session, "new@daybook.test", 2)
    (row,) = rows(tables, LOOKUPS)
    assert findings(operator)["look-ups"][0] is Mark.OK

    tables.of(None).run(lambda block: block.delete(LOOKUPS, row.lookup))
    mark, sentence = findings(operator)["look-ups"]
    missing = "a former address, identity or passkey that the credentials name is not reserved (new@daybook.test): "
    assert (mark, sentence.startswith(missing)) == (Mark.FAIL, True)

    put(row)
    put(replace(row, lookup="a" * 64))
    put(replace(row, lookup="b" * 64, user_id=(other := UserId(uuid4()))))
    mark, sentence = findings(operator)["look-ups"]
    unnamed = "a former address, identity or passkey is reserved that the credentials do not name "
    assert (mark, sentence.startswith(f"{unnamed}(new@daybook.test, {other}): ")) == (
        Mark.FAIL,
        True,
    )

    for lookup in "ab":
        put(replace(row, lookup=lookup * 64, expires_at=datetime.now(UTC) - timedelta(hours=1)))
    assert findings(operator)["look-ups"][0] is Mark.OK


def test_backup_is_a_store_and_its_time_is_shown(accounts, operator, tmp_path):
    accounts.sign_up_with(new_email(), PASSWORD)
    accounts.backend.tables.run(lambda block: None)
    target = tmp_path / "backup.db"

    operator.backup(target)

    with closing(SqlitePlace(target).open()) as copy:
        assert len(rows(copy, ACCOUNTS)) == 1
    with pytest.raises(Misconfigured):
        operator.backup(target)
    email = new_email()
    _, session = accounts.sign_up_with(email, PASSWORD)
    operator.grant_admin(email)
    assert session.backend.administration.health().figures["Last backup"] <= datetime.now(UTC)


def test_backup_of_a_store_that_takes_no_data_succeeds(operator, tables, tmp_path, monkeypatch):
    def refuse(tables, user_id, work, *, is_lasting):
        raise StoreBlocked("The disk takes no more data.")

    target = tmp_path / "backup.db"
    with monkeypatch.context() as changed:
        changed.setattr(SqliteStore, "run", refuse)
        operator.backup(target)

    with closing(SqlitePlace(target).open()) as copy:
        assert rows(copy, ACCOUNTS) == []


def test_backup_into_a_missing_folder_names_it(operator, tmp_path):
    with pytest.raises(Misconfigured) as caught:
        operator.backup(tmp_path / "missing" / "backup.db")

    assert caught.value.public == f"There is no folder {tmp_path / 'missing'}: make it."


def test_command_of_a_backup_says_what_is_not_in_it(place, tables, tmp_path):
    target = tmp_path / "backup.db"

    done = operate_at(f"sqlite:{place.path}", "backup", str(target))

    sentence = f"{target} is a whole copy. The root key is not in it: keep that apart.\n"
    assert (done.exit_code, done.output) == (0, sentence)
    SqlitePlace(target).open().close()


def test_command_of_a_backup_says_how_a_folder_is_copied(tmp_path):
    folder = tmp_path / "daybook"
    FilesPlace(folder).open().close()

    done = operate_at(f"json:{folder}", "backup", str(tmp_path / "backup"))

    sentence = f"Stop Daybook, and copy the folder {folder}: that is a backup.\n"
    assert (done.exit_code, done.output) == (1, sentence)
    assert not (tmp_path / "backup").exists()


def test_demo_fills_a_fresh_store_alone(operator, tables, accounts):
    password = "a password of the demo"

    operator.load(
        {},
        lambda now: make_demo(RING, 1, password, now),
        lambda stored: open_stored(RING, stored).managed_password,
    )

    admin = next(row for row in rows(tables, ACCOUNTS) if row.role is AccountRole.ADMIN)
    assert lookups_of(RING, admin.email)
    accounts.sign_in_with(admin.email, password)
    assert tables.of(admin.id).run(lambda block: block.select(CONVERSATIONS))
    with pytest.raises(BadInput):
        operator.load({}, lambda now: {}, lambda stored: "")


@pytest.mark.parametrize("store", ["sqlite:{}/missing.db", "sqlite:{}/typo/x.db", "json:{}/typo/x"])
def test_command_says_that_there_is_no_store_and_makes_none(tmp_path, store):
    store = store.format(tmp_path)
    chosen = Settings(DAYBOOK_STORE=store, DAYBOOK_KEY_DIR=tmp_path / "keys")

    with pytest.raises(Misconfigured, match=f"There is no store at {store}: start Daybook once."):
        open_operator(chosen).grant_admin("maya@daybook.test")
    with (
        pytest.raises(Misconfigured, match=f"There is no store at {store}."),
        open_copy_source(chosen, RING, is_dry=False),
    ):
        pass

    assert not list(tmp_path.iterdir())


def test_nothing_is_repaired_where_accounts_alone_sign_in(operator):
    with pytest.raises(BadInput):
        operator.repair_sign_in(None, "maya@daybook.test", "")
