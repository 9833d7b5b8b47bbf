"""The sweep of all users' tables, and the thread that calls it."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn

from services.domain import UserId
from services.errors import FileDamaged, StoreUnavailable
from services.events import log_event
from services.rules.accounts import Settings
from services.store.tables import schema
from services.store.tables.access import SESSION_GRACE, note, settings_of
from services.store.tables.blocks import delete_all
from services.store.tables.content import counts_of, first_slice
from services.store.tables.protocol import MOST_WRITES, AllTables, Block, Range, Table, Tables
from services.store.tables.rows import TablesRows

_logger = logging.getLogger(__name__)
# maximum number of rows that one block discards or destroys: Firestore commits at most 10 MiB at once
_RETIRED, _SLICE, _PIECES = 40, 60, 20
_SHARED = MOST_WRITES // 7  # maximum number of rows of each shared table that one block destroys
_SECONDS = 9.0  # the pause between two sweeps, in seconds
_NONCE_LIFE = timedelta(minutes=3)
_INVITATION_REST = timedelta(days=30)


def sweep(tables: AllTables, now: Callable[[], datetime]) -> bool:
    """Settle lapsed turns and destroy rows that are due; return True if there may be more of them.

    An error for one user is raised at the end, after the rows of the other users were swept. A user's damaged file is
    only logged: it is no outage for other users, and `operate check` reports it.
    """
    at, errors = now(), list[Exception]()
    lapsed, due = Range("lease_until", up_to=at), Range("destroy_at", up_to=at)

    def attempt(work: Callable[[], bool]) -> bool:
        try:
            return work()
        except FileDamaged:
            log_event("sweep.missed")
            return False
        except Exception as error:  # noqa: BLE001 (raised below)
            errors.append(error)
            return False

    users = {
        *tables.owners(schema.TURNS, {"finished_at": None}, lapsed),
        *tables.owners(schema.CONVERSATIONS, within=due),
        *tables.owners(schema.DISCARDS, within=due),
        *tables.owners(schema.ERASURES),
        *_retire(tables, at, attempt),
    }
    swept = [
        attempt(TablesRows(user_id, tables.of(user_id), now).sweep)
        for user_id in sorted(users, key=str)
    ]
    deleted = tables.of(None).run(
        lambda block: block.select(
            schema.ACCOUNTS, {"is_ended": False}, Range("deleted_at", up_to=at)
        )
    )
    ended = [attempt(partial(_end_account, tables.of(row.id), row.id, at)) for row in deleted]
    destroyed = tables.of(None).run(lambda block: _destroy_shared(block, at))
    if errors:
        raise errors[0]
    return any(swept) or any(ended) or destroyed


def _retire(
    tables: AllTables, at: datetime, attempt: Callable[[Callable[[], bool]], bool]
) -> list[UserId]:
    """Discard conversations that were unused for longer than the retention period; return their users."""
    last_use = tables.of(None).run(partial(_settings_of_sweep, at=at)).unused_since(at)
    if last_use is None:
        return []
    where, unused = {"destroy_at": None}, Range("updated_at", up_to=last_use)
    return [
        one
        for one in tables.owners(schema.CONVERSATIONS, where, unused)
        if attempt(partial(tables.of(one).run, lambda block: _discard(block, at, unused)))
    ]


def _settings_of_sweep(block: Block, at: datetime) -> Settings:
    """Return the settings for a sweep, and store them if they have changed."""
    before = settings_of(block)
    if (after := before.swept(at)) != before:
        block.put(schema.SETTINGS, after)
    return after


def _discard(block: Block, at: datetime, within: Range | None = None) -> bool:
    """Discard some of the conversations that have no open turn; return False if there were none."""
    busy = {turn.conversation_id for turn in block.select(schema.TURNS, {"finished_at": None})}
    rows, counts = (
        block.select(schema.CONVERSATIONS, {"destroy_at": None}, within, limit=_RETIRED),
        counts_of(block),
    )
    idle = [row for row in rows if row.id not in busy]
    for row in idle:
        block.put(schema.CONVERSATIONS, replace(row, destroy_at=at))
    if idle:
        block.put(schema.COUNTS, counts.plus(discarded=len(idle)))
    return bool(idle)


def _end_account(tables: Tables, user_id: UserId, at: datetime) -> bool:
    """Destroy some rows of a deleted account, its invitation last; return False while the account has an open turn.

    The account's chats are only discarded here: the next sweep destroys them chat by chat, because a store in files would
    open the files of all chats for each slice of their messages.
    """

    def destroy(block: Block) -> bool:
        if block.select(schema.TURNS, {"finished_at": None}, limit=1):
            return False  # the turn's process may still settle it
        if _discard(block, at):
            return True
        for table in schema.DESTROYED:
            is_large = table in (schema.PIECES, schema.SEARCH_TEXTS)
            rows = block.select(table, limit=_PIECES if is_large else _SLICE)
            if rows:
                delete_all(block, table, first_slice(rows))
                return True
        account = block.get(schema.ACCOUNTS, user_id)
        used = block.select(schema.INVITATIONS, {"used_by": user_id})
        if account:
            block.put(schema.ACCOUNTS, replace(account, is_ended=True))
        delete_all(block, schema.INVITATIONS, used)  # invitations contain the user's address
        note(block, at, None, "account.end", user_id)
        return True

    return tables.run(destroy)


def _destroy_shared(block: Block, at: datetime) -> bool:
    """Destroy expired rows of the shared tables, a slice of each; return True if a slice was full.

    A slice that is not full does not count; otherwise the sweep would never end on a busy server, where rows expire all
    the time.
    """
    ends: list[tuple[Table[Any], str, timedelta]] = [
        (schema.SESSIONS, "ends_at", SESSION_GRACE),
        (schema.THROTTLES, "window_ends", timedelta()),
        (schema.STEPS, "expires_at", timedelta()),
        (schema.NONCES, "seen_at", _NONCE_LIFE),
        (schema.CREDENTIALS, "expires_at", timedelta()),
        (schema.LOOKUPS, "expires_at", timedelta()),
        (schema.INVITATIONS, "expires_at", _INVITATION_REST),
    ]
    doomed = [
        (table, block.select(table, {}, Range(name, up_to=at - rest), limit=_SHARED))
        for table, name, rest in ends
    ]
    for table, rows in doomed:
        delete_all(block, table, rows)
    return any(len(rows) == _SHARED for _, rows in doomed)


def keep_sweeping(
    sweep: Callable[[], bool],
    report: Callable[[str], None],
    wait: Callable[[float], object] = time.sleep,
) -> NoReturn:
    """Sweep forever, starting immediately; *report* is called with a sentence about each outage, and with "" at its end."""
    before = ""
    while True:
        try:
            while sweep():
                pass
            outage = ""
        except StoreUnavailable as error:
            log_event("sweep.missed")
            outage = error.outage
        except Exception:  # a bug: it is logged, and sweeping continues
            _logger.exception("the sweep failed")
            outage = before
        if outage != before:
            report(outage)
        before = outage
        wait(_SECONDS)
