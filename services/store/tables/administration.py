"""Changes by admins in a store over tables.

Each change is one atomic block (transaction). More blocks follow if the change ends many sessions or adds up all users'
budgets.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from uuid import UUID, uuid4

from services.crypto import sha
from services.domain import AccountRole, SessionId, UserId
from services.domain.accounts import Invitation, Limits, SignUps
from services.domain.addresses import EmailAddress
from services.domain.models import ModelSettings
from services.errors import StoreUnavailable
from services.rules import NOT_FOUND, TOO_MANY, Refusal, part_of
from services.rules.accounts import (
    FACTOR_NEEDED,
    INVITATION_LIFE,
    MOST_INVITATIONS,
    StoredInvitation,
    StoredSession,
    bounds_refusal,
    changed_models,
    columns_of,
    deleted,
    differences,
    leave_refusal,
)
from services.rules.budget import NO_CAP, Deployment
from services.store.tables import schema
from services.store.tables.access import deployment_of, models_of, note, settings_of
from services.store.tables.blocks import delete_all
from services.store.tables.protocol import AllTables, Block
from services.store.tables.reports import TablesReports, cap_of
from services.store.tables.rows import TablesRows
from services.store.tables.schema import AccountRow

_PAGE = 500  # maximum invitations that are listed
ENDED_AT_ONCE = 300  # maximum sessions that one block ends


def admins_of(block: Block) -> list[AccountRow]:
    return block.select(schema.ACCOUNTS, {"role": AccountRole.ADMIN, "suspended_at": None})


def has_accounts(block: Block, but_not: UserId | None = None) -> bool:
    rows = block.select(schema.ACCOUNTS, {"deleted_at": None}, limit=2)
    return any(row.id != but_not for row in rows)


def sessions_of(
    block: Block, user_id: UserId, but_not: SessionId | None = None
) -> list[StoredSession]:
    """Return the sessions of a user except *but_not*, at most `ENDED_AT_ONCE`: one block may not end more.

    If so many are returned, more may be left. A change of credentials that ends the sessions then waits for a later block:
    if it were stored before the last session has ended, a failure would leave some of the sessions open.
    """
    rows = block.select(schema.SESSIONS, {"user_id": user_id}, limit=ENDED_AT_ONCE + 1)
    return [one for one in rows if one.id != but_not][:ENDED_AT_ONCE]


def end_sessions(tables: AllTables, user_id: UserId) -> None:
    """End all sessions of a user, in as many blocks as needed: each ends at most `ENDED_AT_ONCE`."""

    def end(block: Block) -> bool:
        sessions = sessions_of(block, user_id)
        delete_all(block, schema.SESSIONS, sessions)
        return bool(sessions)

    while tables.of(None).run(end):
        pass


def abandon_count(block: Block, counting: int | None = None) -> None:
    """Remove `NO_CAP`, unless a later count than *counting* has begun: every turn would write the deployment's sums."""
    row = deployment_of(block)
    if row.monthly_cap_micro == NO_CAP and counting in (None, row.counting):
        block.put(schema.DEPLOYMENT, replace(row, monthly_cap_micro=None))


def put_models(block: Block, settings: ModelSettings) -> None:
    revision = sha(repr((sorted(settings.by_name.items()), settings.refuses_unknown_prices)))
    block.put(schema.MODELS, replace(settings, revision=revision))


class TablesAdministration(TablesReports):
    """Implements `GuardedAdministration` for one user over tables."""

    def _note(
        self, block: Block, action: str, target: UserId | None = None, /, **detail: object
    ) -> None:
        note(block, self.caller.now(), self.caller.user_id, action, target, **detail)

    # --- users

    def set_caps(self, user_id: UserId, changes: Mapping[str, int | None]) -> None:
        def change(block: Block) -> Refusal | None:
            budget = block.get(schema.BUDGETS, "budget")
            if budget is None:
                return NOT_FOUND
            if refusal := bounds_refusal(changes):
                return refusal
            new = replace(budget, **changes)
            block.put(schema.BUDGETS, new)
            if changed := differences(*(asdict(part_of(Limits, one)) for one in (budget, new))):
                self._note(block, "caps.set", user_id, **changed)
            return None

        self.run("set_caps", change, user_id)

    def set_role(self, user_id: UserId, role: AccountRole) -> None:
        def change(block: Block) -> Refusal | None:
            account, admins = block.get(schema.ACCOUNTS, user_id), admins_of(block)
            refusal = leave_refusal(account, admins, is_left=role is not AccountRole.ADMIN)
            if refusal or account is None or account.role is role:
                return refusal
            block.put(schema.ACCOUNTS, replace(account, role=role))
            return self._note(block, "role.set", user_id, role=[account.role, role])

        self.run("set_role", change, user_id)

    def check_end(self, user_id: UserId, *, is_shut: bool) -> None:
        def check(block: Block) -> Refusal | None:
            if is_shut and user_id == self.caller.user_id:
                self.caller.require_recent(block, is_part=True)
            account, admins = block.get(schema.ACCOUNTS, user_id), admins_of(block)
            has_others = has_accounts(block, user_id)
            return leave_refusal(account, admins, has_others=has_others, is_left=is_shut)

        self.run("check_end", check, user_id, is_own=True)

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        def change(block: Block) -> Refusal | None:
            account, admins = block.get(schema.ACCOUNTS, user_id), admins_of(block)
            refusal = leave_refusal(account, admins, is_left=is_suspended)
            if refusal or account is None:
                return refusal
            sessions = sessions_of(block, user_id) if is_suspended else []
            if is_suspended is not (account.suspended_at is not None):
                suspended_at = self.caller.now() if is_suspended else None
                block.put(schema.ACCOUNTS, replace(account, suspended_at=suspended_at))
                changed = [not is_suspended, is_suspended]
                self._note(block, "account.suspend", user_id, suspended=changed)
            return delete_all(block, schema.SESSIONS, sessions)

        self.run("suspend", change, user_id)
        if is_suspended:
            end_sessions(self.tables, user_id)

    def sign_out(self, user_id: UserId) -> None:
        def end(block: Block) -> Refusal | None:
            account, sessions = block.get(schema.ACCOUNTS, user_id), sessions_of(block, user_id)
            if account is None or account.is_ended:
                return NOT_FOUND
            self._note(block, "session.end_all", user_id)
            return delete_all(block, schema.SESSIONS, sessions)

        self.run("sign_out", end, user_id)
        end_sessions(self.tables, user_id)

    def delete(self, user_id: UserId) -> None:
        def shut(block: Block) -> Refusal | None:
            if user_id == self.caller.user_id:
                self.caller.require_recent(block, is_part=True)
            account, has_others = block.get(schema.ACCOUNTS, user_id), has_accounts(block, user_id)
            sessions = sessions_of(block, user_id)
            lookups = block.select(schema.LOOKUPS, {"user_id": user_id})
            refusal = leave_refusal(account, admins_of(block), has_others=has_others)
            if refusal or account is None:
                return refusal
            block.put(schema.ACCOUNTS, replace(deleted(account, self.caller.now()), keys=()))
            block.delete(schema.CREDENTIALS, user_id)
            delete_all(block, schema.LOOKUPS, lookups)
            self._note(block, "account.delete", user_id)
            return delete_all(block, schema.SESSIONS, sessions)

        self.run("delete", shut, user_id, is_own=True)
        end_sessions(self.tables, user_id)

    # --- the deployment

    def change_settings(self, changes: Mapping[str, object]) -> None:
        def change(block: Block) -> Refusal | None:
            if refusal := bounds_refusal(changes):
                return refusal
            # this change needs a proof, which only `require_factor` checks
            if "requires_factor" in changes:
                raise ValueError("changed by require_factor alone")
            before = settings_of(block)
            after = before.changed(changes, self.caller.now())
            block.put(schema.SETTINGS, after)
            changed = differences(asdict(before), asdict(after))
            changed.pop("retention_from", None)
            if changed:
                self._note(block, "settings.set", **changed)
            return None

        self.run("change_settings", change)

    def set_sign_ups(self, mode: SignUps) -> None:
        self.change_settings({"sign_ups": mode})

    def confirm_by_code(self, *, is_on: bool) -> None:
        self.change_settings({"confirms_by_code": is_on})

    def require_factor(self, *, is_on: bool) -> None:
        def change(block: Block) -> list[StoredSession] | Refusal:
            own = block.get(schema.CREDENTIALS, self.caller.user_id)
            sessions, before = block.select(schema.SESSIONS), settings_of(block)
            self.caller.require_recent(block)
            # it is enough to check the account: if it has a factor, the user gave that factor for the recent proof
            if is_on and not (own and own.wants_factor):
                return FACTOR_NEEDED
            block.put(schema.SETTINGS, replace(before, requires_factor=is_on))
            if before.requires_factor is not is_on:
                changed = [before.requires_factor, is_on]
                self._note(block, "settings.set", requires_factor=changed)
            return [one for one in sessions if is_on and not one.has_factor]

        ended = self.run("require_factor", change)
        # these sessions are already refused; end them, so that they do not become valid again if the requirement is
        # lifted
        for first in range(0, len(ended), ENDED_AT_ONCE):
            some = ended[first : first + ENDED_AT_ONCE]
            end = partial(delete_all, table=schema.SESSIONS, rows=some)
            self.tables.of(None).run(end)

    def set_deployment_cap(self, monthly_cap_micro: int | None) -> None:
        """Set the cap on the spending of all users together.

        The spending of all users is counted only while there is a cap. So if there was no cap, first set one that is
        never reached, which starts the counting; then add up all budgets; then set the real cap.
        """
        month, _ = self._month()

        def begin(block: Block) -> tuple[int, list[UserId]] | Refusal:
            row = deployment_of(block)
            refusal = bounds_refusal({"monthly_cap_micro": monthly_cap_micro})
            if refusal and monthly_cap_micro is not None:
                return refusal
            if monthly_cap_micro is None or row.monthly_cap_micro not in (None, NO_CAP):
                return row.counting, []
            accounts, counting = block.select(schema.ACCOUNTS), row.counting + 1
            new = Deployment(monthly_cap_micro=NO_CAP, counting=counting, month=month)
            block.put(schema.DEPLOYMENT, new)
            return counting, [one.id for one in accounts]

        def finish(block: Block) -> None:
            row = deployment_of(block)
            block.put(schema.DEPLOYMENT, replace(row, monthly_cap_micro=monthly_cap_micro))
            before = cap_of(row.monthly_cap_micro)
            if before != monthly_cap_micro:
                changed = [before, monthly_cap_micro]
                self._note(block, "caps.deployment", monthly_cap_micro=changed)

        counting, user_ids = self.run("set_deployment_cap", begin)
        try:
            for user_id in user_ids:
                TablesRows(user_id, self.tables.of(user_id), self.caller.now).count(counting)
            self.run("set_deployment_cap", finish)
        except BaseException:
            with suppress(StoreUnavailable):  # then the next start of the app abandons the count
                self.tables.of(None).run(partial(abandon_count, counting=counting))
            raise

    def set_model(self, name: str, changes: Mapping[str, object]) -> None:
        def change(block: Block) -> Refusal | None:
            before = models_of(block)
            after = changed_models(before, name, changes)
            if isinstance(after, Refusal):
                return after
            put_models(block, after)
            if changed := differences(*(columns_of(one.of(name)) for one in (before, after))):
                self._note(block, "model.set", model=name, **changed)
            return None

        self.run("set_model", change)

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        def change(block: Block) -> None:
            before = models_of(block)
            put_models(block, replace(before, refuses_unknown_prices=is_refused))
            if before.refuses_unknown_prices is not is_refused:
                changed = [not is_refused, is_refused]
                self._note(block, "settings.set", refuses_unknown_prices=changed)

        self.run("refuse_unknown_prices", change)

    # --- invitations

    def _invitations(self, block: Block) -> list[Invitation]:
        rows = block.select(schema.INVITATIONS)
        makers = {one: block.get(schema.ACCOUNTS, one) for one in {row.made_by for row in rows}}
        listed = [
            part_of(Invitation, row, state=row.state(makers[row.made_by], self.caller.now()))
            for row in rows
        ]
        listed.sort(key=lambda one: one.created_at, reverse=True)
        return sorted(listed, key=lambda one: one.state != "open")

    def invitations(self) -> list[Invitation]:
        return self.run("invitations", self._invitations)[:_PAGE]

    def invite(self, code_hash: str, email: EmailAddress | None, role: AccountRole) -> None:
        def make(block: Block) -> Refusal | None:
            is_open = [one.state == "open" for one in self._invitations(block)]
            if sum(is_open) >= MOST_INVITATIONS:
                return TOO_MANY
            now = self.caller.now()
            row = StoredInvitation(
                id=uuid4(),
                code_hash=code_hash,
                email=email,
                role=role,
                made_by=self.caller.user_id,
                created_at=now,
                expires_at=now + INVITATION_LIFE,
            )
            block.put(schema.INVITATIONS, row)
            return self._note(block, "invitation.make", invitation=str(row.id), role=role)

        self.run("invite", make)

    def revoke_invitation(self, invitation: UUID) -> None:
        def revoke(block: Block) -> Refusal | None:
            row = block.get(schema.INVITATIONS, invitation)
            if row is None or row.used_by or row.revoked_at:
                return NOT_FOUND
            block.put(schema.INVITATIONS, replace(row, revoked_at=self.caller.now()))
            return self._note(block, "invitation.revoke", invitation=str(invitation))

        self.run("revoke_invitation", revoke)
