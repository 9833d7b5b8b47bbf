"""A property test: services/rules and db/migrations behave alike for accounts and administration too.

Histories are made as in `test_rules_and_sql`, with five users; both tests read `DAYBOOK_HISTORIES` and `DAYBOOK_SEED`. The cap
of all users is zero, absent or far away: near the cap, SQL's loans to single users decide, which are not part of the rules.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from services.crypto import sha
from services.domain import AccountRole, Outcome, Purpose, Usage
from services.domain.accounts import (
    CredentialsAction,
    Exemption,
    Failure,
    ProofScope,
    SignUps,
    UserOrder,
)
from services.domain.mails import NoticeKind
from services.domain.rows import SealedConversation
from services.domain.turns import Reservation, Settlement
from services.rules.accounts import CHANGES_WAYS_IN, INVITATION_LIFE, PROOF_LIFE, STEP_LIFE
from services.store.backend import (
    Attempt,
    NewAccount,
    NewAddress,
    NewCookie,
    NewNotice,
    NewStep,
    PendingSignUp,
    StoredCredentials,
    Throttle,
    Throttles,
    WrappedKey,
)
from services.store.tables.schema import ACCOUNTS
from services.store.writes import BeginTurn, FinishTurn, SealedPrompt, SealedReply
from tests.database.test_rules_and_sql import HISTORIES, run_histories, share_of
from tests.database.two_backends import (
    IDLE,
    LIFE,
    PlainSealer,
    TwoBackends,
    make_accounts_database,
)
from tests.database.two_sides import TICK, make_limits_smaller

LENGTHS = (15, 30)  # numbers of calls in a history
ADDRESSES = (*(f"{name}@daybook.test" for name in "abcd"), "No Address")
STARTS = st.sampled_from(
    [datetime(2026, 1, 31, 23, 50, tzinfo=UTC), datetime(2028, 2, 29, 12, 0, tzinfo=UTC)]
)
USER = st.sampled_from([0, 0, 1, 1, 2, 3, 4, 5])  # 5 is the id of no user
NTH = st.integers(0, 2)  # counted from the newest
USES = (
    CredentialsAction.FACTOR_USED,
    CredentialsAction.RECOVERY_USED,
    CredentialsAction.PASSKEY_USED,
    CredentialsAction.IDENTITY_USED,
)
_PASSWORDS = (CredentialsAction.PASSWORD_SET, CredentialsAction.PASSWORD_RESET)
ROLES = st.sampled_from(list(AccountRole))
WAYS = st.lists(st.integers(0, 3), max_size=3)  # identities or passkeys, the same of all users
_MAY_DROP = (*_PASSWORDS, CredentialsAction.PASSKEY_REMOVED)  # the factor
_ADDS = (CredentialsAction.FACTOR_ADDED, CredentialsAction.PASSKEY_FACTOR_ADDED)
_REMOVES = (CredentialsAction.FACTOR_REMOVED, CredentialsAction.PASSKEY_FACTOR_REMOVED)
_OPERATORS = (
    *(CredentialsAction.ADDRESS_FREED, CredentialsAction.ADDRESS_SET),
    CredentialsAction.IDENTITY_MOVED,
)
_ACTIONS = [one for one in CredentialsAction if one not in _OPERATORS]
CHANGES = [
    {"daily_cap_micro": 400},
    {"monthly_cap_micro": 600, "max_open": 1},
    {"daily_cap_tokens": 300},
    {"daily_cap_tokens": None},
    {"max_per_minute": 1},
    {"daily_cap_micro": 1_000_000, "monthly_cap_micro": 10_000_000},
]


class Accounts(RuleBasedStateMachine):
    """Calls about accounts on both sides."""

    def __init__(self, connection, user_ids, make_store):
        super().__init__()
        self.both = TwoBackends(connection, user_ids, ADDRESSES, make_store)
        self.numbers = 0
        self.codes = []
        self.steps = []  # their keys
        self.notices = []  # their ids
        # the names of the users' addresses, and of those that they have left
        self.names, self.left = [str(user) for user in range(len(ADDRESSES))], {}

    def teardown(self):
        try:
            self.both.compare()
        finally:
            self.both.close()

    # --- arguments

    def number(self):
        self.numbers += 1
        return self.numbers

    def id(self):
        return UUID(int=self.number())

    def sealed(self):
        return f"p1.1.{self.number():075}"

    def session(self, nth, *, is_admins=True):
        """Return the session *nth* from the newest, one of an active admin if there is any; None: there is no session."""
        accounts = self.both.store.of(None).run(lambda block: block.select(ACCOUNTS))
        admins = {one.id for one in accounts if one.is_admin}
        sessions = self.both.sessions
        if is_admins:
            sessions = [one for one in sessions if one.calls.user_id in admins] or sessions
        return sessions[-1 - nth % len(sessions)] if sessions else None

    def user_id(self, user):
        return self.both.user_ids[user] if user < len(ADDRESSES) else self.id()

    def administer(self, nth, act, *, is_admins=True):
        if session := self.session(nth, is_admins=is_admins):
            self.both.administer(session, act)

    # --- time

    @initialize(start=STARTS, is_first_admin=st.booleans(), mode=st.sampled_from(SignUps))
    def begin(self, start, is_first_admin, mode):
        """Make one user an admin, who needs no invitation as the first, and give other users accounts, one where *mode* does."""
        self.both.begin(start, is_first_admin=is_first_admin)
        if is_first_admin:
            self.both.set_mode(mode)
        self.read_the_sign_ups("none", 0, 0)
        self.sign_in(0, "none", 0)
        if not is_first_admin:
            self.both.grant_admin(0)
        self.set_sign_ups(0, mode)
        self.sign_in(2, "none", 0)
        self.set_sign_ups(0, SignUps.OPEN)
        self.sign_in(1, "none", 0)

    @rule(seconds=st.sampled_from([1, 59, 90, IDLE - 1, LIFE]), off=st.sampled_from([0, 1, -1]))
    def wait(self, seconds, off):
        self.both.clock.at += timedelta(seconds=seconds) + off * TICK

    @rule(days=st.sampled_from([1, 7, 8, 14, 16, 31]), is_swept=st.booleans())
    def wait_for_days(self, days, is_swept):
        """Let days pass; then sign one user in again."""
        self.both.clock.at += timedelta(days=days)
        if is_swept:
            self.both.sweep()
        self.sign_in(0, "none", 0)

    @rule()
    def sweep(self):
        self.both.sweep()

    # --- sessions and accounts

    @rule(
        user=st.integers(0, 4),
        code=st.sampled_from(["none", "known", "known", "unknown"]),
        nth=NTH,
        is_returned=st.booleans(),
    )
    def sign_in(self, user, code, nth, is_returned=False):
        """Sign in with the credentials of an address, or sign up if there are none."""
        if self.is_gone(user):
            return
        stored = self.find(user)
        if stored is None:
            stored = self.credentials(self.id(), None, user)
            self.put_sign_up(user, stored)
        account = None if stored.user_id else self.new_account(user, stored.id, stored.generation)
        if account:
            account = replace(account, invitation=self.code(code, nth))
        used = self.used(stored) if stored.wants_factor else None
        self.start(user, stored.generation, account, is_returned=is_returned, used=used)

    def used(self, stored, *, off=0, generation=0):
        """The credentials after the use of a factor, or (*generation* 1) after its enrolment."""
        return replace(
            stored,
            sealed=self.sealed(),
            uses=max(0, stored.uses + 1 - generation + off),
            generation=stored.generation + generation,
            wants_factor=True,
        )

    def misfitting(self, new, misfit):
        """Return *new* credentials as no action makes them, if *misfit* says so."""
        match misfit:
            case "generation":
                return replace(new, generation=new.generation + 1)
            case "flag":
                return replace(new, wants_factor=not new.wants_factor)
            case _:
                return new

    @rule(
        user=st.integers(0, 1),
        off=st.sampled_from([0, 0, 1, -1]),
        with_factor=st.sampled_from(["used", "used", "given", "not"]),
        misfit=st.sampled_from(["", "", "", "generation", "flag", "given"]),
        used_by=st.sampled_from(USES),
        scope=st.sampled_from(ProofScope),
        asks=st.booleans(),
    )
    def sign_in_by_a_factor(
        self,
        user,
        off,
        with_factor,
        misfit="",
        used_by=USES[0],
        scope=ProofScope.FULL,
        asks=False,
    ):
        """Sign in with the use of a factor, or with its enrolment if there is none; perhaps by an old use, or without."""
        stored = self.find(user)
        if self.is_gone(user) or stored is None or stored.user_id is None:
            return
        is_used = with_factor == "used"
        is_alone = used_by in USES[2:]
        used = self.used(stored, off=off, generation=int(not stored.wants_factor and not is_alone))
        if is_alone:
            asks = asks and used_by is CredentialsAction.PASSKEY_USED
            used = replace(used, wants_factor=stored.wants_factor or asks)
        used = self.misfitting(used, misfit)
        given = {"used": used if is_used else None, "has_factor": with_factor != "not"}
        given |= {"used_by": used_by, "scope": scope}
        if misfit == "given" and is_used:
            given["has_factor"] = False
        for _ in range(2):  # the second time is a replay
            self.start(user, stored.generation, None, **given)

    def ways_in(self, ways):
        """The look-ups of identities or passkeys."""
        return tuple(sha(f"way {one}") for one in ways)

    @rule(user=st.integers(0, 4), has_factor=st.booleans(), wants_factor=st.booleans(), ways=WAYS)
    def begin_an_account_with_a_factor(self, user, has_factor, wants_factor, ways=()):
        """Begin an account with or without a factor, where one may be required, and with identities."""
        stored = self.find(user)
        if self.is_gone(user) or (stored and stored.user_id):
            return
        if stored is None:
            stored = self.credentials(self.id(), None, user)
            self.put_sign_up(user, stored)
        account = self.new_account(user, stored.id, stored.generation)
        wants_factor = wants_factor and has_factor
        credentials = replace(account.credentials, wants_factor=wants_factor)
        account = replace(account, credentials=credentials, ways_in=self.ways_in(ways))
        self.start(user, stored.generation, account, has_factor=has_factor)

    @rule(
        user=st.integers(0, 4),
        other=st.integers(0, 3),
        off=st.sampled_from([0, 0, 1, -1]),
        begins=st.booleans(),
    )
    def sign_in_with_other_credentials(self, user, other, off, begins):
        """Sign in as one user with the credentials of another user's address, or with those of another generation."""
        stored = self.find(other)
        if stored and not self.is_gone(user):
            generation = max(1, stored.generation + off)
            account = self.new_account(other, stored.id, generation) if begins else None
            if account:
                ids = {"id": self.both.user_ids[user], "user_id": self.both.user_ids[user]}
                account = replace(account, credentials=replace(account.credentials, **ids))
            self.start(user, generation, account)

    def start(
        self, user, generation, account, *, is_returned=False, used=None, has_factor=None, **by
    ):
        """Sign in; the browser has the cookie and the id of older sessions, perhaps of other users."""
        before, last = [None, None, *self.both.sessions][-2:]
        by |= {"cookie_before": before and before.cookie_hash, "follows": last and last.id}
        returned = (sha("bucket 0"),) if is_returned else ()
        cookie_hash = sha(str(self.number()))
        has_factor = used is not None if has_factor is None else has_factor
        given = {"used": used, "has_factor": has_factor, **by}
        self.both.start_session(user, cookie_hash, generation, account, returned, **given)

    def is_gone(self, user):
        """Return True if the user's account has ended, so that Supabase Auth does not know the user."""
        accounts = self.both.store.of(None).run(lambda block: block.select(ACCOUNTS))
        return any(one.id == self.both.user_ids[user] and one.is_ended for one in accounts)

    # --- credentials

    def lookups(self, user):
        """The look-ups of a user's address, under a new root key and an old one."""
        return self.lookups_of(self.names[user])

    def lookups_of(self, name):
        return sha(f"new {name}"), sha(f"old {name}")

    def credentials(self, row_id, user_id, user, generation=1, *, is_old=False):
        lookup, version = self.lookups(user)[is_old], 1 if is_old else 2
        return StoredCredentials(
            id=row_id,
            user_id=user_id,
            lookup=lookup,
            sealed=f"p1.{version}.{self.number():075}",
            generation=generation,
        )

    def new_account(self, user, sign_up, generation):
        user_id = self.both.user_ids[user]
        return NewAccount(
            sign_up=sign_up,
            credentials=self.credentials(user_id, user_id, user, generation),
            key=WrappedKey(1, self.sealed()),
            invitation=None,
        )

    def attempt(self, user, throttles=None, code=None, nonce=None, lookups=None):
        """Count an attempt with the address of a user; return what is found."""
        attempt = Attempt(
            lookups=lookups or self.lookups(user),
            throttles=throttles or Throttles(()),
            invited=ADDRESSES[user],
            invitation=code,
            nonce=nonce or self.id(),
        )
        return self.both.of_process(lambda backend: backend.count_attempt(attempt))

    def find(self, user):
        return self.attempt(user).credentials

    def put_sign_up(self, user, credentials):
        claims = (*self.lookups(user), sha(f"former {self.names[user]}"))
        new = PendingSignUp(credentials=credentials, lookups=claims)
        return self.both.of_process(lambda backend: backend.put_sign_up(new))

    @rule(
        user=st.integers(0, 4),
        other=st.integers(0, 3),
        off=st.sampled_from([0, 0, 0, 1, -1]),
        is_old=st.booleans(),
    )
    def sign_up(self, user, other, off, is_old):
        """Store a pending sign-up, or replace one."""
        stored, others = self.find(user), self.find(other)
        row_id = (stored or others).id if off < 1 and (stored or others) else self.id()
        generation = max(1, (stored.generation if stored else 0) + 1 + off)
        if generation == 1:
            row_id = self.id()
        credentials = self.credentials(row_id, None, user, generation, is_old=is_old)
        self.put_sign_up(user, credentials)

    @rule(
        nth=NTH,
        off=st.sampled_from([0, 0, 0, 1, -1]),
        action=st.sampled_from(_ACTIONS),
        is_old=st.booleans(),
        renamed=st.booleans(),
        uses_off=st.sampled_from([0, 0, 0, 1]),
        drops=st.booleans(),
        misfit=st.sampled_from(["", "", "", "generation", "flag", "ends", "ways"]),
        ways=WAYS,
    )
    def change_credentials(
        self,
        nth,
        off,
        action,
        is_old,
        renamed=False,
        uses_off=0,
        drops=False,
        misfit="",
        ways=(),
    ):
        """Change the credentials of the user of a session, perhaps in a way that does not fit the action."""
        session = self.session(nth, is_admins=False)
        if session is None:
            return
        user_id = session.calls.user_id
        user = self.both.user_ids.index(user_id)
        stored = self.find(user)
        seen = max(1, (stored.generation if stored else 1) + off)
        is_use = action in USES
        generation = seen + (action is not CredentialsAction.RESEAL and not is_use)
        wants_factor = stored.wants_factor if stored else False
        if (
            action
            in (
                *_REMOVES,
                CredentialsAction.FACTOR_REPLACED,
                CredentialsAction.RECOVERY_RENEWED,
                CredentialsAction.FACTOR_USED,
                CredentialsAction.RECOVERY_USED,
            )
            and not wants_factor
        ):
            action, generation = CredentialsAction.FACTOR_ADDED, seen + 1
        elif action is CredentialsAction.FACTOR_ADDED and wants_factor and not drops:
            action = CredentialsAction.FACTOR_REMOVED
        is_dropped = (action in _REMOVES and not drops) or (drops and action in _MAY_DROP)
        new = replace(
            self.credentials(user_id, user_id, user, generation, is_old=is_old),
            uses=(stored.uses if stored else 0) + is_use + uses_off,
            wants_factor=action in _ADDS or (wants_factor and not is_dropped),
        )
        new = self.misfitting(new, misfit)
        self.both.change_credentials(
            session,
            new,
            seen,
            action=action,
            ends_others=(action in _PASSWORDS) is not (misfit == "ends"),
            renamed={sha(f"former {one}"): sha(f"anew {one}") for one in "01234xy"}
            | {sha(f"way {one}"): sha(f"way {one + 1}") for one in range(3)}
            if renamed
            else None,
            ways_in=self.ways_in(ways)
            if (action in CHANGES_WAYS_IN) is not (misfit == "ways")
            else None,
        )
        self.attempt(user, lookups=self.ways_in(ways))
        self.both.of_process(lambda backend: backend.root_key_versions())

    @rule(
        nth=NTH,
        where=st.sampled_from(["x", "x", "y", "own"]),
        off=st.sampled_from([0, 0, 0, 1]),
        kept=st.integers(0, 2),
        is_restored=st.booleans(),
        days=st.sampled_from([0, 0, 3]),
        uses_off=st.sampled_from([0, 0, 0, 1]),
        flips=st.sampled_from([False, False, True]),
        ways=WAYS,
    )
    def change_address(self, nth, where, off, kept, is_restored, days, uses_off, flips, ways=()):
        """Give the user of a session another address, with some of the former ones."""
        self.both.clock.at += timedelta(days=days)
        session = self.session(nth, is_admins=False)
        if session is None:
            return
        user_id = session.calls.user_id
        user = self.both.user_ids.index(user_id)
        before, name = self.names[user], str(user) if where == "own" else where
        stored, left = self.find(user), self.left.setdefault(user, [])
        seen = (stored.generation if stored else 1) + off
        self.names[user] = name
        new = self.credentials(user_id, user_id, user, seen + 1)
        if stored:
            wants_factor = stored.wants_factor is not flips  # which fits a restore alone
            new = replace(new, uses=stored.uses + uses_off, wants_factor=wants_factor)
        former = [one for one in (*left, before)[-kept:] if kept and one != name]
        change = NewAddress(
            credentials=new,
            address=ADDRESSES[user] if where == "own" else f"{name}@daybook.test",
            claims=(*self.lookups_of(name), sha(f"former {name}")),
            former=tuple(dict.fromkeys(sha(f"former {one}") for one in former)),
            is_restored=is_restored,
            ways_in=self.ways_in(ways),
        )
        if self.both.change_address(session, change) is True:
            left.append(before)
        else:
            self.names[user] = before
        self.both.end_of(session)
        lookups = tuple(sha(f"former {one}") for one in (before, *left))
        self.attempt(user, lookups=lookups)

    def code(self, code, nth):
        if code == "none":
            return None
        is_known = code == "known" and self.codes
        return self.codes[-1 - nth % len(self.codes)] if is_known else "unknown"

    @rule(nth=NTH)
    def use_a_session(self, nth):
        if session := self.session(nth, is_admins=False):
            self.both.end_of(session)
            self.both.of_process(lambda backend: backend.is_alive(session.cookie_hash))
            self.both.account(session)

    @rule(nth=NTH)
    def end_a_session(self, nth):
        if session := self.session(nth, is_admins=False):
            self.both.of_process(lambda backend: backend.end_session(session.cookie_hash))
            self.both.end_of(session)
            self.both.account(session)

    @rule(
        nth=NTH,
        off=st.sampled_from([0, 0, 0, 1, -1]),
        is_returned=st.booleans(),
        uses_off=st.sampled_from([0, 0, 1, -1]),
        with_factor=st.sampled_from(["used", "used", "given", "not"]),
        misfit=st.sampled_from(["", "", "", "generation", "flag"]),
        is_moved=st.sampled_from([False, False, False, True]),
        used_by=st.sampled_from(USES),
        scope=st.sampled_from([ProofScope.FULL, ProofScope.FULL, ProofScope.PART]),
    )
    def prove(
        self,
        nth,
        off,
        is_returned,
        uses_off=0,
        with_factor="used",
        misfit="",
        is_moved=False,
        used_by=USES[0],
        scope=ProofScope.FULL,
    ):
        """Prove who a user is, perhaps by credentials that have changed, without the factor, or by an older cookie."""
        session = self.session(nth, is_admins=False)
        if session is None:
            return
        stored = self.find(self.both.user_ids.index(session.calls.user_id))
        generation = (stored.generation if stored else 1) + off
        returned = (sha("bucket 0"),) if is_returned else ()
        used = None
        if with_factor == "used" and stored and stored.wants_factor:
            used = replace(self.used(stored, off=uses_off), generation=generation)
            used = self.misfitting(used, misfit)
        given = {
            "used": used,
            "has_factor": with_factor != "not",
            "used_by": used_by,
            "scope": scope,
        }
        cookie = NewCookie(
            replaces=sha("an older cookie") if is_moved else session.cookie_hash,
            cookie_hash=sha(str(self.number())),
            sealer=PlainSealer(),
        )
        prove = self.both.of_user
        if prove(session, lambda user: user.prove(generation, returned, cookie, **given)) is True:
            session.cookie_hash = cookie.cookie_hash

    @rule(
        nth=NTH,
        off=st.sampled_from([1, 0, -1]),
        is_again=st.booleans(),
        what=st.sampled_from(
            ["password", "first password", "app", "other devices", "one device", "check", "account"]
        ),
        scope=st.sampled_from([ProofScope.FULL, ProofScope.FULL, ProofScope.PART]),
    )
    def change_by_an_old_proof(self, nth, off, is_again, what, scope=ProofScope.FULL):
        """Change an account about ten minutes after a proof, perhaps a second one."""
        session = self.session(nth, is_admins=False)
        if session is None:
            return
        self.prove(nth, 0, is_returned=False, scope=scope)
        self.both.clock.at += PROOF_LIFE / 2
        self.use_a_session(nth)
        if is_again:
            self.prove(nth, 0, is_returned=False, scope=scope)
        ends_at = self.both.clock.at - TICK + PROOF_LIFE
        self.both.clock.at += PROOF_LIFE / 2
        self.use_a_session(nth)
        if is_again:
            self.both.clock.at = ends_at + off * TICK
        user_id = session.calls.user_id
        match what:
            case "password":
                self.change_credentials(nth, 0, CredentialsAction.PASSWORD_SET, False)
            case "first password":
                self.change_credentials(nth, 0, CredentialsAction.PASSWORD_ADDED, False)
            case "app":  # perhaps beside a passkey that is asked for
                self.change_credentials(nth, 0, CredentialsAction.FACTOR_ADDED, False, drops=True)
            case "other devices":
                self.both.of_user(session, lambda user: user.end_other_devices())
            case "one device":
                self.both.of_user(session, lambda user: user.end_device(session.id))
            case "check":
                self.both.administer(session, lambda own: own.check_end(user_id, is_shut=True))
            case "account":
                self.both.administer(session, lambda own: own.delete(user_id))

    @rule(nth=NTH, ended=st.sampled_from([None, 0, 1, 2, 3]))
    def end_devices(self, nth, ended):
        """End a session by its id, perhaps one of another user, or all but one of a user."""
        if session := self.session(nth, is_admins=False):
            self.sign_in(self.both.user_ids.index(session.calls.user_id), "none", 0)
            listed = self.both.of_user(session, lambda user: user.devices())
            if ended is None:
                self.both.of_user(session, lambda user: user.end_other_devices())
            else:
                one = self.session(ended, is_admins=False).id
                self.both.of_user(session, lambda user: user.end_device(one))
            if isinstance(listed, list):
                self.both.end_of(self.session(0, is_admins=False))
            self.both.of_user(session, lambda user: user.devices())

    @rule(code=st.sampled_from(["none", "known"]), nth=NTH, user=st.integers(0, 3))
    def read_the_sign_ups(self, code, nth, user):
        self.attempt(user, code=self.code(code, nth))
        self.both.of_process(lambda backend: backend.sign_up_state())

    @rule(
        buckets=st.sampled_from([(0,), (1,), (0, 1), (1, 0)]),
        user=st.integers(0, 3),
        device_user=st.sampled_from([None, 0, 1]),
        is_repeated=st.booleans(),
    )
    def throttle(self, buckets, user, device_user, is_repeated):
        nonce = UUID(int=0) if is_repeated else self.id()
        strangers = tuple(Throttle(sha(f"bucket {n}"), 2 - n, 60 + 60 * n) for n in buckets)
        owner = None if device_user is None else self.both.user_ids[device_user]
        throttles = Throttles(strangers, owner, (Throttle(sha(f"device {device_user}"), 1, 60),))
        self.attempt(user, throttles, nonce=nonce)

    @rule(user=st.integers(0, 1))
    def give_an_attempt_back(self, user):
        """Sign in after an attempt that was counted, which gives the attempt back."""
        self.throttle((0,), user, None, is_repeated=False)
        self.sign_in(user, "none", 0, is_returned=True)
        self.both.compare()

    # --- steps

    @rule(kind=st.integers(0, 1), number=st.sampled_from([1, 1, 4, 5]))
    def begin_steps(self, kind, number):
        for _ in range(number):
            self.steps.append(sha(f"step {self.number()}"))
            new = NewStep(key=self.steps[-1], kind_tag=sha(f"kind {kind}"), sealed=self.sealed())
            self.both.of_process(lambda backend, new=new: backend.begin_step(new))

    @rule(nth=st.integers(0, 5))
    def begin_a_step_anew(self, nth):
        """Begin a step in the place of one, which may have ended meanwhile."""
        if self.steps:
            key = self.steps[-1 - nth % len(self.steps)]
            new = NewStep(key=key, kind_tag=sha("kind 0"), sealed=self.sealed())
            self.both.of_process(lambda backend: backend.begin_step(new))

    @rule(nth=st.integers(0, 5), times=st.sampled_from([1, 5, 6]))
    def try_a_step(self, nth, times):
        for _ in range(times if self.steps else 0):
            self.both.of_process(
                lambda backend: backend.try_step(self.steps[-1 - nth % len(self.steps)])
            )

    @rule(nth=st.integers(0, 5))
    def end_a_step(self, nth):
        if self.steps:
            self.both.of_process(
                lambda backend: backend.end_step(self.steps[-1 - nth % len(self.steps)])
            )

    @rule(off=st.sampled_from([1, 0, -1]), is_ended=st.booleans())
    def use_a_step_at_its_end(self, off, is_ended):
        due = self.both.clock.at + STEP_LIFE
        self.begin_steps(0, 1)
        self.both.clock.at = due + off * TICK
        if is_ended:
            self.end_a_step(0)
        else:
            self.try_a_step(0, 1)

    @rule(buckets=st.sampled_from([(0,), (1, 0)]))
    def count_throttles(self, buckets):
        throttles = [Throttle(sha(f"bucket {n}"), 2 - n, 60 + 60 * n) for n in buckets]
        self.both.of_process(lambda backend: backend.count_throttles(throttles))

    # --- failures and notices

    @rule(
        user=USER,
        failure=st.sampled_from([*Failure, *Exemption]),
        seconds=st.sampled_from([0, 0, 1, 1800, 3600]),
        off=st.sampled_from([None, None, 0, -1]),
    )
    def fail(self, user, failure, seconds, off):
        """Note failures, some of them at the end of an hour (*off*)."""
        now = self.both.clock.at
        user_id = self.user_id(user)
        self.both.of_process(lambda backend: backend.note_failure(user_id, failure))
        self.both.clock.at += timedelta(seconds=seconds)
        if off is not None:
            hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            self.both.clock.at = max(self.both.clock.at, hour + off * TICK)
        for _ in range(2):
            self.both.of_process(lambda backend: backend.note_failure(user_id, failure))

    @rule(
        user=USER,
        kind=st.sampled_from([NoticeKind.NEW_DEVICE, NoticeKind.OPERATOR]),
        times=st.sampled_from([1, 2, 4]),
        made_in=st.sampled_from([None, 0, 1]),
        is_counted=st.booleans(),
    )
    def add_notices(self, user, kind, times, made_in, is_counted):
        user_id = self.user_id(user)
        session = None if made_in is None else self.session(made_in, is_admins=False)
        throttles = [Throttle(sha("bucket 0"), 2, 60)] if is_counted else []
        for _ in range(times):
            new = NewNotice(
                id=self.id(),
                kind=kind,
                browser=self.sealed(),
                session=session.id if session else None,
            )
            self.notices.append(new.id)
            self.both.of_process(
                lambda backend, new=new: backend.add_notice(user_id, new, throttles)
            )
        if session:
            self.both.account(session)

    @rule(nth=NTH, first=st.integers(0, 5), number=st.sampled_from([1, 1, 3]))
    def dismiss_notices(self, nth, first, number):
        """Dismiss notices, which may be another user's, or made in the same session."""
        session = self.session(nth, is_admins=False)
        if session and self.notices:
            some = self.notices[::-1][first : first + number]
            self.both.of_user(session, lambda user: user.dismiss_notices(some))
            self.both.account(session)

    # --- administration of users

    @rule(nth=NTH, user=USER, role=ROLES, is_admins=st.sampled_from([True, True, True, False]))
    def set_role(self, nth, user, role, is_admins):
        user_id = self.user_id(user)
        self.administer(nth, lambda admin: admin.set_role(user_id, role), is_admins=is_admins)

    @rule(nth=NTH, user=USER, is_suspended=st.booleans())
    def suspend(self, nth, user, is_suspended):
        user_id = self.user_id(user)
        self.administer(nth, lambda admin: admin.suspend(user_id, is_suspended=is_suspended))

    @rule(nth=NTH, user=USER, is_shut=st.booleans(), is_admins=st.booleans())
    def check_end(self, nth, user, is_shut, is_admins):
        user_id = self.user_id(user)
        self.administer(
            nth, lambda admin: admin.check_end(user_id, is_shut=is_shut), is_admins=is_admins
        )

    @rule(nth=NTH, user=USER)
    def sign_out(self, nth, user):
        user_id = self.user_id(user)
        self.administer(nth, lambda admin: admin.sign_out(user_id))

    @rule(nth=NTH, user=USER, is_own=st.booleans(), is_swept=st.booleans())
    def delete(self, nth, user, is_own, is_swept):
        session = self.session(nth, is_admins=not is_own)
        if session:
            user_id = session.calls.user_id if is_own else self.user_id(user)
            self.both.administer(session, lambda admin: admin.delete(user_id))
        if is_swept:
            self.both.sweep()

    @rule(is_swept=st.booleans())
    def delete_all(self, is_swept):
        """Delete all accounts, an admin's last, and begin another."""
        if session := self.session(0):
            own = session.calls.user_id
            # signed in again, because the session may have ended
            self.sign_in(self.both.user_ids.index(own), "none", 0)
            session = self.both.sessions[-1]
            for user_id in (*(one for one in self.both.user_ids if one != own), own):
                self.both.administer(session, lambda admin, one=user_id: admin.delete(one))
            if is_swept:
                self.both.sweep()
            self.read_the_sign_ups("none", 0, 3)
            self.sign_in(3, "none", 0)

    @rule(nth=NTH, user=USER, changes=st.sampled_from(CHANGES))
    def set_caps(self, nth, user, changes):
        user_id = self.user_id(user)
        self.administer(nth, lambda admin: admin.set_caps(user_id, changes))

    # --- administration of the deployment

    @rule(
        nth=NTH,
        changes=st.sampled_from(
            [*CHANGES, *({"retention_days": days} for days in (None, 15, 30, 15, 3650, 14))]
        ),
        is_admins=st.sampled_from([True, True, False]),
    )
    def change_settings(self, nth, changes, is_admins):
        if changes.get("retention_days") == 14:  # out of range: the form refuses this value
            self.administer(nth, lambda admin: admin.preview_retention(15), is_admins=is_admins)
            return
        self.administer(nth, lambda admin: admin.change_settings(changes), is_admins=is_admins)

    @rule(nth=NTH, mode=st.sampled_from(SignUps))
    def set_sign_ups(self, nth, mode):
        self.administer(nth, lambda admin: admin.set_sign_ups(mode))

    @rule(nth=NTH, is_on=st.booleans())
    def confirm_by_code(self, nth, is_on):
        self.administer(nth, lambda admin: admin.confirm_by_code(is_on=is_on))

    @rule(
        nth=NTH,
        is_on=st.booleans(),
        is_given=st.sampled_from([True, True, False]),
        is_admins=st.sampled_from([True, True, True, False]),
    )
    def require_factor(self, nth, is_on, is_given, is_admins):
        """Require a factor, or do not, in a session in which the admin may have given one."""
        session = self.session(nth, is_admins=is_admins)
        if session and is_given:
            self.sign_in_by_a_factor(self.both.user_ids.index(session.calls.user_id), 0, "used")
            session = self.session(0, is_admins=is_admins)
        if session:
            self.both.administer(session, lambda admin: admin.require_factor(is_on=is_on))
            for one in self.both.sessions[-3:]:
                self.both.end_of(one)
        if session and is_given:
            removed = CredentialsAction.FACTOR_REMOVED
            self.change_credentials(0, 0, removed, is_old=False)

    @rule(
        user=st.integers(0, 1),
        given=st.sampled_from(["used", "given"]),
        end=st.sampled_from(["removed", "restored", "restored", "moved"]),
        is_on=st.booleans(),
    )
    def end_a_factor(self, user, given, end, is_on):
        """Sign in with a factor of the account, or of a provider; remove it, take an address back without one, or move.

        Then require one, or do not, and prove who the user is without it.
        """
        self.sign_in_by_a_factor(user, 0, given)
        if self.session(0, is_admins=False) is None:
            return
        if end == "removed":
            self.change_credentials(0, 0, CredentialsAction.FACTOR_REMOVED, is_old=False)
        else:
            stored, restores = self.find(user), end == "restored"
            flips = restores and stored is not None and stored.wants_factor
            self.change_address(0, "x", 0, 1, restores, 0, 0, flips)
        self.put_factor_rule(is_on)
        self.both.clock.at += timedelta(seconds=16)  # the lease of a refused proof is over
        self.prove(0, 0, is_returned=False, with_factor="not")

    @rule(is_on=st.booleans())
    def put_factor_rule(self, is_on):
        """Require a factor as a process does that is killed before sessions end, or do not; then use sessions."""
        self.both.set_factor_rule(is_on)
        for nth in range(3):
            self.use_a_session(nth)

    @rule(nth=NTH, cap=st.sampled_from([None, 0, 10**15, 10**16]))
    def set_deployment_cap(self, nth, cap):
        self.administer(nth, lambda admin: admin.set_deployment_cap(cap))

    @rule(
        nth=NTH,
        name=st.sampled_from(["one", "two"]),
        changes=st.sampled_from(
            [
                {"is_offered": False},
                {"is_offered": True},
                {"input_micro": 9, "cached_input_micro": 1, "output_micro": 20},
                {"input_micro": None, "cached_input_micro": None, "output_micro": None},
            ]
        ),
    )
    def set_model(self, nth, name, changes):
        self.administer(nth, lambda admin: admin.set_model(name, changes))

    @rule(nth=NTH, is_refused=st.booleans())
    def refuse_unknown_prices(self, nth, is_refused):
        self.administer(nth, lambda admin: admin.refuse_unknown_prices(is_refused=is_refused))

    @rule(nth=NTH, user=st.sampled_from([None, None, 0, 1, 2, 3]), role=ROLES)
    def invite(self, nth, user, role):
        if session := self.session(nth):
            self.codes.append(f"code {self.number()}")
            email = None if user is None else ADDRESSES[user]
            self.both.invite(session, sha(self.codes[-1]), email, role)

    @rule(nth=NTH, invitation=st.sampled_from([0, 0, 1, None]))
    def revoke(self, nth, invitation):
        known = self.both.invitation_ids
        session = self.session(nth)
        if session:
            ids = known[-1 - invitation % len(known)] if known and invitation is not None else None
            self.both.revoke(session, ids or (self.id(),) * 2)

    @rule(
        nth=NTH,
        role=ROLES,
        email=st.sampled_from(["none", "own", "another"]),
        what=st.sampled_from(
            ["nothing", "late", "revoked", "used", "maker suspended", "maker no admin"]
        ),
        off=st.sampled_from([1, 0, -1]),
    )
    def begin_by_an_invitation(self, nth, role, email, what, off):
        """Begin an account by an invitation, which may be expired, revoked or used."""
        session, begun = self.session(nth), self.both.store.of(None).run(_begun)
        new = [user for user in range(4) if self.both.user_ids[user] not in begun]
        if session is None or not new:
            return
        maker = session
        if what.startswith("maker"):
            other = self.both.user_ids[1]
            self.both.administer(session, lambda admin: admin.set_role(other, AccountRole.ADMIN))
            self.sign_in(1, "none", 0)
            maker = self.both.sessions[-1]
        for ids in self.both.invitation_ids:  # there are few open invitations
            self.both.revoke(session, ids)
        self.both.administer(session, lambda admin: admin.set_sign_ups(SignUps.INVITED))
        self.codes.append(f"code {self.number()}")
        address = {"none": None, "own": ADDRESSES[new[0]], "another": ADDRESSES[new[-1]]}[email]
        due = self.both.clock.at + INVITATION_LIFE
        self.both.invite(maker, sha(self.codes[-1]), address, role)
        match what:
            case "late":
                self.both.clock.at = due + off * TICK
            case "revoked":
                self.revoke(0, 0)
            case "used":
                self.sign_in(new[-1], "known", 0)
            case "maker suspended":
                self.both.administer(session, lambda admin: admin.suspend(other, is_suspended=True))
            case "maker no admin":
                self.both.administer(session, lambda admin: admin.set_role(other, AccountRole.USER))
        self.read_the_sign_ups("known", 0, new[0])
        self.read_reports(0, "", UserOrder.EMAIL, 0)
        self.sign_in(new[0], "known", 0)

    # --- reports

    @rule(
        nth=NTH,
        words=st.sampled_from(["", "daybook", "A@", "zz"]),
        order=st.sampled_from(UserOrder),
        skip=st.sampled_from([0, 0, 1]),
        is_admins=st.sampled_from([True, True, False]),
    )
    def read_reports(self, nth, words, order, skip, is_admins=True):
        today = self.both.clock.at.date()

        def read(admin):
            users = admin.list_users(words, order, skip, 2)
            return (
                users.total,
                users.users,
                admin.deployment(),
                [replace(one, id=None) for one in admin.invitations()],
                admin.usage((today.replace(day=1), today)),
            )

        self.administer(nth, read, is_admins=is_admins)

    # --- content, for reports, retention and the deletion of an account

    @rule(
        days_before=st.sampled_from([0, 10, 16]),
        days=st.sampled_from([15, 30]),
        days_after=st.sampled_from([1, 13, 14, 16, 31]),
        is_changed=st.booleans(),
    )
    def retain(self, days_before, days, days_after, is_changed):
        """Delete chats that were not used for days, after their owners were warned."""
        self.chat(0, 100, is_finished=True)
        for wait in (days_before, days_after):
            self.wait_for_days(wait, is_swept=False)
            self.use_a_session(0)
            self.administer(0, lambda admin: admin.preview_retention(days))
            if is_changed or wait == days_before:
                self.administer(0, lambda admin: admin.change_settings({"retention_days": days}))
            self.use_a_session(0)
        self.both.sweep()
        self.both.compare()

    @rule(nth=NTH, cost=st.sampled_from([0, 100, 500]), is_finished=st.booleans())
    def chat(self, nth, cost, is_finished):
        session = self.session(nth, is_admins=False)
        if session is None:
            return
        chat_id, turn_ids = self.id(), {}
        created = SealedConversation(
            id=chat_id,
            title=self.sealed(),
            wrapped_key=self.sealed(),
            key_version=1,
            user_key_version=1,
            head=f"h1.{self.number():0118}",
            policy="window",
            policy_size=20,
            model=None,
            instructions=None,
            space_id=None,
        )
        prompt = SealedPrompt(
            conversation_id=chat_id,
            expected_rev=0,
            prompt_id=self.id(),
            prompt_body=self.sealed(),
            new_head=f"h1.{self.number():0118}",
            new_start_seq=0,
            receipt_body=None,
        )
        wanted = Reservation(
            client_turn_id=self.id(),
            purpose=Purpose.REPLY,
            model="test-model",
            prompt_micro=100,
            reply_micro=400,
            least_reply_micro=50,
            prompt_tokens=100,
            reply_tokens=200,
            least_reply_tokens=50,
            lease_seconds=30,
        )
        write = BeginTurn(reservation=wanted, prompt=prompt, created=created)

        def begin(rows, side):
            begun = rows.begin_turn(write)
            turn_ids[side] = begun.turn_id
            return begun.reserved_micro, begun.reserved_tokens

        self.both.content(session, begin)
        if not is_finished or len(turn_ids) < 2:
            return
        reply = SealedReply(
            expected_rev=1,
            reply_id=self.id(),
            reply_body=self.sealed(),
            reply_thoughts=None,
            new_head=f"h1.{self.number():0118}",
        )

        def finish(rows, side):
            settlement = Settlement(turn_ids[side], Outcome.COMPLETE, Usage(100, 20, 5), cost, 7)
            rows.finish_turn(
                FinishTurn(conversation_id=chat_id, settlement=settlement, reply=reply)
            )

        self.both.content(session, finish)


def _begun(block):
    return {one.id for one in block.select(ACCOUNTS)}


@pytest.fixture(scope="module")
def two_backends(server, tmp_path_factory):
    """Yield the address of the property's database, and the ids of its users."""
    folder = tmp_path_factory.mktemp("migrations")
    return make_accounts_database(server, "daybook_accounts_and_sql", folder, ADDRESSES)


@pytest.mark.parametrize("verbs", LENGTHS)
def test_rules_and_sql_agree_on_accounts(two_backends, tables, monkeypatch, verbs):
    make_limits_smaller(monkeypatch)
    address, user_ids = two_backends
    with psycopg.connect(address, autocommit=True) as connection:

        def history():
            return Accounts(connection, user_ids, tables[0])

        run_histories(history, verbs, share_of(HISTORIES // len(LENGTHS), tables))
