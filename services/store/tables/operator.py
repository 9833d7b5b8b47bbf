"""The operator's commands on a store over tables."""

from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.crypto import refuse_missing
from services.domain import AccountRole, UserId
from services.domain.accounts import CredentialsAction, Limits
from services.domain.addresses import NO_ADDRESS, EmailAddress
from services.errors import BadInput, FileDamaged, Misconfigured, StoreUnavailable
from services.rules import ADDRESS_TAKEN, Refusal, part_of
from services.rules.accounts import Lookup, Settings, change_refusal, differences, ways_in_refusal
from services.rules.budget import Budget
from services.store.backend import StoredCredentials
from services.store.notices import operator_notice
from services.store.operator import (
    CopiedRows,
    Finding,
    Mark,
    PresentKeys,
    UserCaps,
    few_names,
    judge_lookups,
    judge_root_keys,
    judge_ways_in,
    unchecked,
)
from services.store.tables import schema
from services.store.tables.access import (
    claiming,
    note,
    put_notice,
    put_ways_in,
    root_key_uses,
    root_key_versions,
    settings_of,
)
from services.store.tables.administration import (
    ENDED_AT_ONCE,
    admins_of,
    has_accounts,
    sessions_of,
)
from services.store.tables.blocks import accepted, delete_all, found, run_until_answered
from services.store.tables.copying import TablesCopy
from services.store.tables.opening import only_account
from services.store.tables.protocol import AllTables, Block, StorePlace, Table
from services.store.tables.schema import AccountRow, CredentialsRow

_UNKNOWN_ACCOUNT = "There is no account with this address: sign up, and sign in once."
_NO_ADDRESS_YET = (
    "The account of this store was made without sign-in, and has no address: "
    f"`set-password EMAIL` gives it one. Until then, name it {NO_ADDRESS}."
)


@dataclass(frozen=True, slots=True)
class TablesOperator:
    """Implements `Operator` for one deployment. Each call opens the store and closes it."""

    place: StorePlace
    open_tables: Callable[[], AllTables]  # opens the store; raises Misconfigured
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def migrate(self, proof_keys: Mapping[int, bytes]) -> Sequence[str]:
        with self._tables() as tables:  # opening the store has brought it up to date
            needed = tables.of(None).run(lambda block: root_key_versions(block, self.now()))
        refuse_missing(needed, proof_keys)
        for mark, text in self.place.check().values():
            if mark is Mark.FAIL:
                raise Misconfigured(f"The store needs more: {text}.")
        return ()

    def check(
        self,
        keys: PresentKeys | str,
        mail_to: EmailAddress | None = None,
        *,
        sends_mail: bool = False,
    ) -> dict[str, Finding]:
        if mail_to:
            raise BadInput("Only Supabase Auth sends mails of its own, and this store has none.")
        stored = None
        # opening the store reads a file, too; if a file is damaged, `place.check` below reports it
        with suppress(FileDamaged), self._tables() as tables, suppress(FileDamaged):
            stored = tables.of(None).run(
                lambda block: (
                    block.select(schema.CREDENTIALS),
                    block.select(schema.LOOKUPS),
                    root_key_versions(block, self.now()),
                    block.get(schema.ROOT_KEY, "root key"),
                    block.select(schema.ACCOUNTS, {"deleted_at": None}),
                )
            )
        findings = self.place.check()
        if not stored:
            names = ("accounts", "root keys", "credentials", "ways in", "look-ups")
            return findings | unchecked("whole files", *names)
        rows, former, needed, tag, accounts = stored
        findings["accounts"] = Mark.OK, str(len(accounts))
        if isinstance(keys, str):
            return findings | {"root keys": (Mark.FAIL, keys)}
        if tag:  # the store cannot be opened without the root key of its tag
            needed.append(tag.version)
        # 0 is the version of a damaged text, which names no root key and therefore needs none
        findings["root keys"] = judge_root_keys({*needed} - {0}, keys.proof_keys, keys.current)
        if findings["root keys"][0] is Mark.FAIL:
            return findings | unchecked("the root keys", "credentials", "ways in", "look-ups")
        return findings | self._check_sealed(keys, rows, former, accounts)

    def _check_sealed(
        self,
        keys: PresentKeys,
        rows: Sequence[CredentialsRow],
        former: Sequence[Lookup],
        accounts: Sequence[AccountRow],
    ) -> dict[str, Finding]:
        """Return the findings about what the root keys open: the credentials *rows*, and the look-up values *former*."""
        findings = dict[str, Finding]()
        by_id = {row.id: row for row in rows}
        broken = [one for one in accounts if not (row := by_id.get(one.id)) or not keys.opens(row)]
        names = few_names([str(one.email) for one in broken], keys.most_named)
        findings["credentials"] = (
            (Mark.FAIL, f"gone, or do not open ({names}): put a backup back")
            if broken
            else (Mark.OK, "all open")
        )
        named = [(str(one.email), row) for one in accounts if (row := by_id.get(one.id))]
        findings["ways in"] = judge_ways_in(
            [email for email, row in named if not keys.has_way_in(row)],
            [email for email, row in named if keys.holds_refused_passkey(row)],
            keys.most_named,
        )
        lookups = defaultdict[UserId, list[str]](list)
        for one in former:
            if one.is_good(self.now()):
                lookups[one.user_id].append(one.lookup)
        emails = {one.id: str(one.email) for one in accounts}
        users = {row.user_id: row for row in rows if row.user_id}
        findings["look-ups"] = judge_lookups(
            {
                emails.get(user_id, str(user_id)): keys.lookup_faults(
                    users.get(user_id), lookups.get(user_id, ())
                )
                for user_id in {**users, **lookups}
            },
            keys.most_named,
        )
        return findings

    def root_key_users(self) -> Mapping[int, Collection[str]]:
        with self._tables() as tables:
            uses, accounts = tables.of(None).run(
                lambda block: (root_key_uses(block, self.now()), block.select(schema.ACCOUNTS))
            )
        emails = {account.id: str(account.email) for account in accounts}
        return {
            version: sorted(emails.get(user_id, str(user_id)) for user_id in uses[version])
            for version in sorted(uses)
            if version  # a damaged text names no root key
        }

    def grant_admin(self, email: EmailAddress) -> None:
        def grant(block: Block) -> None:
            account = _account(block, email)
            block.put(schema.ACCOUNTS, replace(account, role=AccountRole.ADMIN))
            role = [account.role, AccountRole.ADMIN]
            note(block, self.now(), None, "role.set", account.id, role=role)

        with self._tables() as tables:
            tables.of(None).run(grant)

    def is_last_admin(self, user_id: UserId) -> bool:
        with self._tables() as tables:
            admins = tables.of(None).run(admins_of)
        return [account.id for account in admins if account.is_admin] == [user_id]

    def find_credentials(
        self, email: EmailAddress, lookups: Collection[str]
    ) -> StoredCredentials | None:
        """Return the credentials found by one of *lookups*; if the only account has no address yet, return its credentials.

        Return None if an account has the address *email*, but none of *lookups* finds its credentials. Raise BadInput if no
        account has this address.
        """

        def find(block: Block) -> StoredCredentials | None:
            for lookup in lookups:
                for row in block.select(schema.CREDENTIALS, {"lookup": lookup}):
                    if row.user_id:
                        return part_of(StoredCredentials, row)
            _account(block, email)
            return None

        with self._tables() as tables:
            try:
                return tables.of(None).run(find)
            except BadInput:
                if (only := _only_without_address(tables)) is None:
                    raise
                return only

    def change_credentials(
        self,
        new: StoredCredentials,
        seen_generation: int,
        email: EmailAddress | None = None,
        action: CredentialsAction = CredentialsAction.PASSWORD_SET,
        claims: Collection[str] = (),
        ways_in: Sequence[str] | None = None,
    ) -> bool:
        user_id = UserId(new.id)

        def change(block: Block) -> bool | Refusal | None:
            stored, account = (
                block.get(schema.CREDENTIALS, user_id),
                block.get(schema.ACCOUNTS, user_id),
            )
            sessions = sessions_of(block, user_id)
            notice = operator_notice()
            of_kind = block.select(schema.NOTICES, {"kind": notice.kind})
            others = [one for one in claiming(block, claims, self.now()) if one.id != user_id]
            beside = block.select(schema.LOOKUPS, {"user_id": user_id})
            named = found(block, schema.LOOKUPS, ways_in or ())
            if any(one.user_id for one in others):
                return ADDRESS_TAKEN
            refusal = change_refusal(action, stored, new, seen_generation, by_operator=True)
            if not account or refusal:
                return False
            if refusal := ways_in_refusal(named, user_id):
                return refusal
            if len(sessions) == ENDED_AT_ONCE:
                # more may be left, so the change waits for a later block
                delete_all(block, schema.SESSIONS, sessions)
                return None
            if ways_in is not None:
                put_ways_in(block, user_id, ways_in, named)
            if claims:
                delete_all(block, schema.CREDENTIALS, others)
                delete_all(block, schema.LOOKUPS, [one for one in beside if one.expires_at])
            block.put(schema.CREDENTIALS, part_of(CredentialsRow, new))
            if email:
                block.put(schema.ACCOUNTS, replace(account, email=email))
            note(block, self.now(), None, action, user_id)
            put_notice(block, self.now(), notice, of_kind)
            delete_all(block, schema.SESSIONS, sessions)
            return True

        with self._tables() as tables:
            answer = run_until_answered(tables.of(user_id), change)
        return accepted("change_credentials", answer)

    def credentials(self) -> list[StoredCredentials]:
        with self._tables() as tables:
            rows = tables.of(None).run(lambda block: block.select(schema.CREDENTIALS))
        return [part_of(StoredCredentials, row) for row in rows if row.user_id]

    def repair_sign_in(self, user_id: UserId, email: EmailAddress, password: str) -> None:
        raise BadInput("This store has no users beside its accounts: there is nothing to repair.")

    def set_caps(self, email: EmailAddress | None, changes: Mapping[str, int | None]) -> UserCaps:
        with self._tables() as tables:
            user_id = None
            if email:
                user_id = tables.of(None).run(lambda block: _account(block, email)).id
            return tables.of(user_id).run(lambda block: self._set_caps(block, user_id, changes))

    def _set_caps(
        self, block: Block, user_id: UserId | None, changes: Mapping[str, int | None]
    ) -> UserCaps:
        """Change the limits of a user, or of new users if *user_id* is None."""
        before = settings = settings_of(block)
        if user_id:
            before = block.get(schema.BUDGETS, "budget") or part_of(Budget, settings)
        after = replace(before, **changes)
        if changed := differences(*(asdict(part_of(Limits, one)) for one in (before, after))):
            if isinstance(after, Settings):
                block.put(schema.SETTINGS, after)
            else:
                block.put(schema.BUDGETS, after)
            action = "caps.set" if user_id else "settings.set"
            note(block, self.now(), None, action, user_id, **changed)
        return part_of(UserCaps, after)

    def backup(self, target: Path) -> None:
        with self._tables() as tables:
            self.place.backup(target)
            made = schema.Backup(self.now())
            with suppress(StoreUnavailable):  # the copy is whole, even if the store's disk is full
                tables.of(None).run(lambda block: block.put(schema.BACKUP, made))

    def load(
        self,
        proof_keys: Mapping[int, bytes],
        make: Callable[[datetime], CopiedRows],
        managed_password: Callable[[StoredCredentials], str],
    ) -> None:
        with self._tables() as tables:
            if tables.of(None).run(has_accounts):
                raise BadInput("There are accounts already: the demo is for a fresh deployment.")
            rows = dict(make(self.now()))
            accounts = {
                name: rows.pop(name) for name in (schema.CREDENTIALS.name, schema.ACCOUNTS.name)
            }
            # store accounts last, so that no user exists before all their rows do
            for name, stored in (rows | accounts).items():
                _put_all(tables, schema.TABLES[name], stored)

    @contextmanager
    def _tables(self) -> Generator[AllTables]:
        tables = self.open_tables()
        try:
            yield tables
        except StoreUnavailable as error:
            raise Misconfigured(error.public) from None
        finally:
            tables.close()


def _put_all(
    tables: AllTables, table: Table[Any], rows: Sequence[tuple[UserId | None, object]]
) -> None:
    by_user = defaultdict[UserId | None, list[object]](list)
    for user_id, row in rows:
        by_user[user_id].append(row)
    for user_id, stored in by_user.items():
        TablesCopy(tables).put(table, user_id, stored)


def _account(block: Block, email: EmailAddress) -> AccountRow:
    rows = block.select(schema.ACCOUNTS, {"deleted_at": None})
    for row in rows:
        if row.email == email:
            return row
    is_without = [row.email for row in rows] == [NO_ADDRESS]
    raise BadInput(_NO_ADDRESS_YET if is_without else _UNKNOWN_ACCOUNT)


def _only_without_address(tables: AllTables) -> StoredCredentials | None:
    try:
        only = only_account(tables)
    except Misconfigured:  # there are several accounts, or the credentials are missing
        return None
    if only is None:
        return None
    account = tables.of(None).run(lambda block: block.get(schema.ACCOUNTS, only.id))
    return only if account and account.email == NO_ADDRESS else None
