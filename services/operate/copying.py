"""Copying of a deployment from one store to another, user by user. Another run continues an interrupted copy."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.crypto import RootKeys
from services.domain import ConversationId, UserId
from services.domain.addresses import NO_ADDRESS
from services.errors import BadInput, Misconfigured
from services.operate.accounts import opens
from services.store.copies import CopySource, CopyTarget, chat_missing, lacking, other_data
from services.store.credentials import open_stored
from services.store.tables import schema
from services.store.tables.protocol import Table

# the shared tables that are copied; not copied are sessions, steps, throttles, nonces and a store's records of its root
# key and backup
_SHARED: tuple[Table[Any], ...] = (
    *(schema.CREDENTIALS, schema.LOOKUPS, schema.INVITATIONS, schema.AUDIT),
)
_CHOSEN_BY_ADMINS: tuple[Table[Any], ...] = (schema.SETTINGS, schema.MODELS)


def check_source(
    source: CopySource, ring: RootKeys, *, needs_addresses: bool, is_for_one: bool = False
) -> None:
    """Raise BadInput or Misconfigured if *source* cannot be copied now, or cannot be decrypted with these root keys.

    *needs_addresses*: users of the target sign in with an address; *is_for_one*: the target is a store for one user.
    """
    users = 0
    if source.has_open_turns():
        raise BadInput(
            "A reply of the source is still open: let Daybook run there for a minute without users, stop it "
            "(not an embedded one), and copy then."
        )
    for user_id in source.user_ids():
        account = next(iter(source.rows(schema.ACCOUNTS, user_id)), None)
        if account is None:
            raise BadInput("The source is a copy that was cut short: finish that one first.")
        if needs_addresses and account.email == NO_ADDRESS:
            raise BadInput(
                "The user of the source has no address to sign in by: give one with `operate set-password EMAIL` first."
            )
        users += not account.deleted_at
        if is_for_one and users > 1:
            raise BadInput("The source has accounts of several people: json-plain is for one.")
        credentials = source.rows(schema.CREDENTIALS, user_id)
        if not account.deleted_at and not (credentials and opens(ring, credentials[0])):
            raise Misconfigured(
                "An account of the source does not open: put the root key of that store back; `operate check` says more."
            )


def managed_password(source: CopySource, ring: RootKeys, user_id: UserId) -> str | None:
    """Return a user's password at Supabase Auth; None for a deleted user."""
    is_deleted = any(one.deleted_at for one in source.rows(schema.ACCOUNTS, user_id))
    found = [] if is_deleted else source.rows(schema.CREDENTIALS, user_id)
    return next((open_stored(ring, one).managed_password for one in found), None)


@dataclass(frozen=True, slots=True)
class Copying:
    """A copy of *source* into *target*, which may already contain a part of the copy."""

    source: CopySource
    target: CopyTarget
    is_dry: bool  # True: nothing is written
    # the number of copied rows, keyed by table name
    counts: Counter[str] = field(default_factory=Counter[str])

    def run(self, report: Callable[[int, int], None]) -> None:
        """Copy all rows; call *report* with the number of copied users and of all users. Raise BadInput, Misconfigured."""
        user_ids = self.source.user_ids()
        tables = {user_id: self._tables(user_id) for user_id in user_ids}
        self._number(user_ids)
        # before the first write, check that the target has no rows that the source lacks
        for user_id in self.target.user_ids():
            if user_id not in tables:
                raise other_data()
            for table in tables[user_id]:
                self._lacking(table, user_id)
        for table in _SHARED:
            self._lacking(table, None)
        # copy the settings before the users: otherwise an app started after an interrupted copy would apply the default
        # settings to the users
        with self.target.at_once():
            for table in _CHOSEN_BY_ADMINS:
                self._copy_row(table)
        for number, user_id in enumerate(user_ids, 1):
            *others, last = tables[user_id]
            with self.target.at_once():
                self._copy(others, user_id)
                # these rows make the user exist in the target, so they are written last, after the other rows are
                # verified
                self._copy([last], user_id)
            report(number, len(user_ids))
        with self.target.at_once():
            self._copy(_SHARED, None)
            self._copy_row(schema.DEPLOYMENT)

    def _tables(self, user_id: UserId) -> list[Table[Any]]:
        """Return the tables of a user, in the order in which they are written."""
        accounts = self.source.rows(schema.ACCOUNTS, user_id)
        is_ended = any(one.is_ended for one in accounts)
        names = self.target.order(is_ended=is_ended)
        left: list[Table[Any]] = [schema.ERASURES]
        if any(one.deleted_at for one in accounts):
            # a deleted user's turns and documents may refer to rows that the sweep has already destroyed; the sweep
            # destroys turns and documents later
            left += [schema.TURNS, schema.DOCUMENTS]
        is_erased = is_ended or schema.ERASURES.name in names
        if not is_erased and any(self.source.rows(table, user_id) for table in left):
            raise BadInput(
                "The source still has to destroy what was deleted: start Daybook there, and stop it after a minute."
            )
        if schema.MESSAGES.name in names:
            chats = {one.id for one in self.source.rows(schema.CONVERSATIONS, user_id)}
            for one in self.source.rows(schema.MESSAGES, user_id):
                if one.conversation_id not in chats:
                    raise chat_missing(one.conversation_id)
        return [schema.TABLES[name] for name in names]

    def _number(self, user_ids: Iterable[UserId]) -> None:
        for name in self.target.numbered:
            table = schema.TABLES[name]
            owners = [None] if table.is_shared else user_ids
            rows = (row for one in owners for row in self.source.rows(table, one))
            self.target.number(name, [row.id for row in rows])

    def _copy(self, tables: Sequence[Table[Any]], user_id: UserId | None) -> None:
        for is_verified in (False, True):
            for table in tables:
                count = self._lacking(table, user_id, is_written=not (self.is_dry or is_verified))
                if is_verified and count and not self.is_dry:
                    raise Misconfigured(f"Rows of {table.name} were not stored: copy once more.")
                self.counts[table.name] += 0 if is_verified else count

    def _copy_row(self, table: Table[Any]) -> None:
        rows = self.target.kept(table, self.source.rows(table, None))
        self.counts[table.name] += rows not in ([], self.target.rows(table, None))
        if rows and not self.is_dry:
            self.target.put(table, None, rows)

    def _lacking(
        self, table: Table[Any], user_id: UserId | None, *, is_written: bool = False
    ) -> int:
        """Count the rows that the target lacks; if *is_written*, write them.

        Raise BadInput if the target has rows that the source lacks.
        """
        count, parts = 0, list[ConversationId | None]([None])
        # read one chat at a time, because all attachment pieces of a user could fill the memory
        if table is schema.PIECES:
            parts = [row.id for row in self.source.rows(schema.CONVERSATIONS, user_id)]
        for conversation_id in parts:
            rows = self.target.kept(table, self.source.rows(table, user_id, conversation_id))
            rows = lacking(table, rows, self.target.rows(table, user_id, conversation_id))
            if rows and is_written:
                self.target.put(table, user_id, rows)
            count += len(rows)
        return count
