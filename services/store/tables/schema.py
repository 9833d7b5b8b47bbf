"""The tables of one user, the shared tables, and the dataclasses of rows that no port module defines."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import count
from operator import attrgetter
from secrets import token_hex
from typing import Any
from uuid import UUID

from services.crypto import sha
from services.domain import ConversationId, MessageId, Purpose, SessionId, TurnId, UserId
from services.domain.accounts import Exemption, Failure, counts_failures
from services.domain.models import ModelSettings
from services.domain.rows import ConversationRow, DocumentRow, MessageRow, SearchTextRow
from services.domain.usage import UsageSum
from services.rules.accounts import (
    Counter,
    Lookup,
    Settings,
    StoredAccount,
    StoredInvitation,
    StoredNotice,
    StoredSession,
    StoredStep,
)
from services.rules.budget import Budget, Deployment
from services.rules.turns import Entry, Turn
from services.store.backend import StoredCredentials, WrappedKey
from services.store.rows import ReceiptRow, ThoughtsRow
from services.store.tables.protocol import Row, Table
from services.store.writes import PutPiece

_entries = count()  # a counter, so that entries made in the same microsecond keep their order


def id_at(time: datetime) -> str:
    """Return a new id for *time*; ids sort by their times."""
    return f"{time:%Y%m%d%H%M%S%f}{next(_entries):012}{token_hex(4)}"


def failure_id(time: datetime, failure: Failure | Exemption, user_id: UserId) -> str:
    """Return the id of the audit entry that counts a user's *failure* in the hour of *time*; ids sort by the hour."""
    return f"{time.astimezone(UTC):%Y%m%d%H}{sha(f'{failure} {user_id}')[:32]:0>42}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One user's counts, which are compared with limits; each write updates them."""

    # the number of conversations, including deleted ones that are not destroyed yet
    conversations: int = 0
    discarded: int = 0  # the number of conversations that are deleted but not destroyed yet
    facts: int = 0
    spaces: int = 0
    bytes: int = 0  # the bytes of all sealed texts, without keys and heads
    content_bytes: int = 0  # the part of `bytes` in messages, pieces, search texts and receipts
    # increased when all facts are deleted: facts of earlier epochs count as deleted
    fact_epoch: int = 0

    def plus(self, **added: int) -> "Counts":
        """Return the counts, increased by the amounts in *added*."""
        return replace(self, **{name: getattr(self, name) + more for name, more in added.items()})

    def with_content(self, added: int) -> "Counts":
        """Return the counts after messages, pieces, search texts and receipts have grown by *added* bytes."""
        return self.plus(bytes=added, content_bytes=added)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConversation(ConversationRow):
    """A conversation, and the number of bytes of its messages, pieces, search texts and receipts."""

    # the last begun turn that is not a background call; turns are not compared by time, because a clock may be set back
    newest_turn_id: TurnId | None = None
    bytes: int = 0
    destroyed: int = 0  # the number of destroyed messages, which `last_seq` still counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(DocumentRow):
    """A stored document, with the fact epoch (`Counts.fact_epoch`) in which it was stored."""

    epoch: int = 0  # the value of `Counts.fact_epoch` when the fact was stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Messages that were deleted together: this row hides them until they are due to be destroyed."""

    id: UUID
    conversation_id: ConversationId
    message_ids: tuple[MessageId, ...]
    destroy_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Facts that are deleted, but not destroyed yet: those of a space, those with certain ids, or all up to an epoch."""

    id: UUID
    space_id: UUID | None = None
    fact_epoch: int = 0
    fact_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow(Entry):
    """An entry of the ledger."""

    id: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage(UsageSum):
    """The total of one day's ledger entries for one model and purpose."""

    model: str
    purpose: Purpose
    turns: int
    failed: int
    # the number of interrupted turns, with lapsed ones that were not finished later
    interrupted: int
    # the number of turns in each bucket (`bucket_of`) of the time to the first token
    first_tokens: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDay:
    """The daily totals of one user's ledger: one for each model and purpose used on *day*."""

    day: date
    sums: tuple[ModelUsage, ...]
    entries: int = 0  # the number of ledger entries on this day


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow(StoredAccount):
    """An account with the keys of its user."""

    keys: tuple[WrappedKey, ...] = ()
    # when the role was granted; set only in copies of Supabase stores
    granted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsRow(StoredCredentials):
    """The credentials of a user, or of a sign-up that is pending."""

    # when a pending sign-up expires; None if an account has these credentials
    expires_at: datetime | None = None
    signed_up_at: datetime | None = None  # set only in copies of Supabase stores


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """An entry of the audit log."""

    id: str = field(repr=False)
    at: datetime
    action: str
    actor: UserId | None
    target: UserId | None
    detail: Mapping[str, object] = field(repr=False)
    # the session in which users changed their own accounts, and the sealed name of its browser
    session: SessionId | None = None
    device: str | None = field(default=None, repr=False)

    @property
    def is_failure(self) -> bool:
        return counts_failures(self.action)


@dataclass(frozen=True, slots=True)
class RootKeyTag:
    """The tag of the root key that was current when the app last opened this store (`RootKeys.store_tags`)."""

    version: int
    tag: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Backup:
    """The last backup of the store."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Nonce:
    """The nonce of a call that may be made only once."""

    id: UUID
    seen_at: datetime


def search_text_key(row: SearchTextRow, number: int) -> str:
    """Return the key of the search text *number* of the conversation and kind of *row*."""
    return f"{row.conversation_id} {row.kind} {number}"


def _table(
    name: str, kind: type[Row], key: str, fields: str = "", *, is_shared: bool = False
) -> Table[Row]:
    """Return a table whose key is the field *key*; *fields*: comma-separated names of the fields that selections may compare."""
    return Table(name, kind, attrgetter(key), frozenset(filter(None, fields.split(","))), is_shared)


BUDGETS = Table("budgets", Budget, lambda _: "budget")
COUNTS = Table("counts", Counts, lambda _: "counts")
CONVERSATIONS = _table(
    "conversations", StoredConversation, "id", "state,space_id,destroy_at,pinned_at,updated_at"
)
MESSAGES = _table("messages", MessageRow, "id", "conversation_id,seq,parent_id")
THOUGHTS = _table("thoughts", ThoughtsRow, "id")
PIECES = Table(
    "pieces",
    PutPiece,
    lambda row: f"{row.message_id} {row.attachment_id} {row.number}",
    frozenset({"conversation_id", "message_id", "attachment_id", "number"}),
)
SEARCH_TEXTS = Table(
    "search_texts",
    SearchTextRow,
    lambda row: search_text_key(row, row.number),
    frozenset({"conversation_id", "last_seq"}),
)
DISCARDS = _table("discards", Discard, "id", "conversation_id,destroy_at")
_TURNS_BY = "client_turn_id,conversation_id,prompt_id,state,finished_at,lease_until"
TURNS = _table("turns", Turn, "id", _TURNS_BY)
RECEIPTS = _table("receipts", ReceiptRow, "turn_id")
DOCUMENTS = _table("documents", Document, "id", "kind,conversation_id,space_id,epoch")
ERASURES = _table("erasures", Erasure, "id")
NOTICES = _table("notices", StoredNotice, "id", "kind")
LEDGER = _table("ledger", LedgerRow, "id", "id,day")
DAYS = _table("days", UsageDay, "day", "day")

# the tables of a user that are destroyed with the account, in this order: all but the ledger and its daily totals
DESTROYED: tuple[Table[Any], ...] = (
    *(BUDGETS, COUNTS, THOUGHTS, MESSAGES, PIECES, SEARCH_TEXTS, DISCARDS, CONVERSATIONS),
    *(RECEIPTS, TURNS, DOCUMENTS, ERASURES, NOTICES),
)

ACCOUNTS = _table(
    "accounts", AccountRow, "id", "role,suspended_at,deleted_at,is_ended", is_shared=True
)
CREDENTIALS = _table(
    "credentials", CredentialsRow, "id", "lookup,user_id,expires_at", is_shared=True
)
LOOKUPS = _table("lookups", Lookup, "lookup", "user_id,expires_at", is_shared=True)
SESSIONS = _table("sessions", StoredSession, "cookie_hash", "id,user_id,ends_at", is_shared=True)
INVITATIONS = _table(
    "invitations", StoredInvitation, "id", "code_hash,used_by,expires_at", is_shared=True
)
THROTTLES = _table("throttles", Counter, "bucket", "window_ends", is_shared=True)
STEPS = _table("steps", StoredStep, "key", "kind_tag,expires_at", is_shared=True)
NONCES = _table("nonces", Nonce, "id", "seen_at", is_shared=True)
ROOT_KEY = Table("root_key", RootKeyTag, lambda _: "root key", is_shared=True)
BACKUP = Table("backup", Backup, lambda _: "backup", is_shared=True)
AUDIT = _table("audit", AuditRow, "id", "id,target,is_failure", is_shared=True)
SETTINGS = Table("settings", Settings, lambda _: "settings", is_shared=True)
MODELS = Table("models", ModelSettings, lambda _: "models", is_shared=True)
DEPLOYMENT = Table("deployment", Deployment, lambda _: "deployment", is_shared=True)

TABLES: dict[str, Table[Any]] = {  # all tables, keyed by name
    one.name: one for one in tuple(vars().values()) if isinstance(one, Table)
}
