"""Table access for an app session, which each atomic block (transaction) checks first; deployment settings; the audit log."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.crypto import token_version
from services.domain import SessionId, UserId
from services.domain.accounts import Exemption, Failure
from services.domain.models import ModelSettings
from services.errors import NotFound, ProofNeeded, SignedOut
from services.rules import part_of
from services.rules.accounts import (
    Lookup,
    Settings,
    StoredNotice,
    StoredSession,
    failure_count,
)
from services.rules.budget import Deployment
from services.store.backend import NewNotice
from services.store.tables import schema
from services.store.tables.blocks import delete_all, found
from services.store.tables.protocol import Answer, Block, Range, Tables
from services.store.tables.schema import (
    AccountRow,
    AuditRow,
    CredentialsRow,
    failure_id,
    id_at,
)

# A session lasts a minute longer in the store than its cookie, so that the app notices the end of the session before
# reads return no rows.
SESSION_GRACE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """An app session that calls the store, and its user."""

    session_id: SessionId
    user_id: UserId
    now: Callable[[], datetime]
    # False: a deployment without sign-in, where users cannot give a proof
    wants_proofs: bool = True

    def session(self, block: Block) -> StoredSession | None:
        """Return the caller's session; None if there is none. The look-up is by id, because the session's cookie may change."""
        return next(iter(block.select(schema.SESSIONS, {"id": self.session_id}, limit=1)), None)

    def account(self, block: Block) -> AccountRow:
        """Return the caller's account. Raise SignedOut if the session has ended, NotFound if it is another user's session."""
        session = self.session(block)
        account = block.get(schema.ACCOUNTS, self.user_id)
        if session and session.user_id != self.user_id:
            raise NotFound
        if not session or not account:
            raise SignedOut
        is_refused = lacks_factor(block, session, self.wants_proofs)
        if not session.is_alive(account, self.now() - SESSION_GRACE, is_refused=is_refused):
            raise SignedOut
        return account

    def require_recent(self, block: Block, *, is_part: bool = False) -> None:
        """Raise ProofNeeded unless the user gave a proof in the last ten minutes; *is_part*: a partial proof is enough."""
        session = self.session(block)
        stored = block.get(schema.CREDENTIALS, self.user_id)
        is_proven = session and session.is_proven(self.now(), stored, is_part=is_part)
        if self.wants_proofs and not is_proven:
            raise ProofNeeded


@dataclass(frozen=True, slots=True)
class SessionTables:
    """Implements `Tables` for one user: each block first checks the session of `caller`, and raises SignedOut if it has ended."""

    tables: Tables
    caller: Caller

    def run(self, work: Callable[[Block], Answer], *, is_lasting: bool = True) -> Answer:
        def checked(block: Block) -> Answer:
            self.caller.account(block)
            return work(block)

        return self.tables.run(checked, is_lasting=is_lasting)


def note(
    block: Block,
    now: datetime,
    actor: UserId | None,
    action: str,
    target: UserId | None = None,
    session: StoredSession | None = None,
    /,
    **detail: object,
) -> None:
    """Add an entry to the audit log. *session*: the session in which users change their own accounts."""
    row = AuditRow(
        id=id_at(now),
        at=now,
        action=action,
        actor=actor,
        target=target,
        detail=detail,
        session=session and session.id,
        device=session and session.device,
    )
    block.put(schema.AUDIT, row)


def note_failure(
    block: Block, now: datetime, account: AccountRow | None, failure: Failure | Exemption
) -> None:
    """Count *failure* in the user's audit entry for this kind of failure and this hour.

    Call this before the block's first write: a block may not read after it has written.
    """
    if account is None or account.deleted_at:
        return
    entry_id = failure_id(now, failure, account.id)
    known = block.get(schema.AUDIT, entry_id)
    row = AuditRow(
        id=entry_id,
        at=known.at if known else now,
        action=failure,
        actor=None,
        target=account.id,
        detail=failure_count(known.detail if known else None),
    )
    block.put(schema.AUDIT, row)


def put_notice(
    block: Block, now: datetime, new: NewNotice, of_kind: Collection[StoredNotice]
) -> None:
    """Store a notice; delete the oldest of *of_kind*, the user's notices of the same kind, if there are too many."""
    delete_all(block, schema.NOTICES, StoredNotice.surplus(of_kind))
    block.put(schema.NOTICES, part_of(StoredNotice, new, at=now))


def claiming(block: Block, lookups: Iterable[str], now: datetime) -> list[CredentialsRow]:
    """Return the credentials found by any of the look-up values *lookups*: users' first, then those of pending sign-ups."""
    lookups = list(lookups)
    rows = [row for one in lookups for row in block.select(schema.CREDENTIALS, {"lookup": one})]
    beside = [one for one in found(block, schema.LOOKUPS, lookups) if one.is_good(now)]
    rows += found(block, schema.CREDENTIALS, [one.user_id for one in beside])
    return sorted({row.id: row for row in rows}.values(), key=lambda row: row.user_id is None)


def put_ways_in(
    block: Block, user_id: UserId, ways_in: Sequence[str], named: Sequence[Lookup]
) -> None:
    """Store *ways_in*, the look-up values of a user's identities and passkeys, except *named*, which are already stored.

    Delete the user's other look-up values, except those of former addresses. Call this before the block's first write: a
    block may not read after it has written.
    """
    own = block.select(schema.LOOKUPS, {"user_id": user_id})
    gone = [one for one in own if one.expires_at is None and one.lookup not in ways_in]
    delete_all(block, schema.LOOKUPS, gone)
    # only look-up values that are not stored yet, so that no stored row is overwritten
    for lookup in {*ways_in} - {one.lookup for one in named}:
        block.put(schema.LOOKUPS, Lookup(lookup=lookup, user_id=user_id))


def settings_of(block: Block) -> Settings:
    return block.get(schema.SETTINGS, "settings") or Settings()


def requires_factor(block: Block, wants_proofs: bool) -> bool:
    """Return True if the deployment requires a second factor; False for a deployment without sign-in."""
    return wants_proofs and settings_of(block).requires_factor


def lacks_factor(block: Block, session: StoredSession, wants_proofs: bool) -> bool:
    """Return True if *session* lacks the second factor that the deployment requires.

    A second factor that the user gave at a provider is enough, even if the account has none.
    """
    return not session.has_factor and requires_factor(block, wants_proofs)


def deployment_of(block: Block) -> Deployment:
    return block.get(schema.DEPLOYMENT, "deployment") or Deployment()


def models_of(block: Block) -> ModelSettings:
    return block.get(schema.MODELS, "models") or ModelSettings()


def root_key_uses(block: Block, now: datetime) -> dict[int, set[UserId]]:
    """Return the users whose data are sealed under a root key, keyed by its version; a damaged text counts as version 0."""
    alive = Range("ends_at", above=now)
    sealed = [(one.sealed, one.user_id) for one in block.select(schema.SESSIONS, {}, alive)]
    sealed += [(one.sealed, one.user_id) for one in block.select(schema.CREDENTIALS) if one.user_id]
    sealed += [(key.wrapped, row.id) for row in block.select(schema.ACCOUNTS) for key in row.keys]
    users = defaultdict[int, set[UserId]](set)
    for text, user_id in sealed:
        users[token_version(text) or 0].add(user_id)
    return users


def root_key_versions(block: Block, now: datetime) -> list[int]:
    """Return the root key versions under which data in the store are sealed; [] before the first account.

    A damaged text counts as version 0.
    """
    return sorted(root_key_uses(block, now))
