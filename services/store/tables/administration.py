"""Changes by admins over tables, each one block."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from uuid import UUID, uuid4

from services.crypto import sha
from services.domain import AccountRole, UserId
from services.domain.accounts import Invitation, SignUps
from services.domain.addresses import EmailAddress
from services.domain.models import ModelSettings
from services.rules import NOT_FOUND, TOO_MANY, Refusal, part_of
from services.rules.accounts import (
    INVITATION_LIFE,
    MOST_INVITATIONS,
    Settings,
    StoredInvitation,
    account_refusal,
    bounds_refusal,
    changed_models,
    columns_of,
    deleted,
    differences,
    leave_refusal,
    limits_of,
)
from services.rules.budget import NO_CAP, Deployment
from services.store.tables.access import deployment_of, models_of, note, settings_of
from services.store.tables.protocol import Block
from services.store.tables.reports import TablesReports, cap_of
from services.store.tables.rows import TablesRows
from services.store.tables.schema import (
    ACCOUNTS,
    BUDGETS,
    DEPLOYMENT,
    INVITATIONS,
    MODELS,
    SESSIONS,
    SETTINGS,
    AccountRow,
)

_PAGE = 500  # invitations
_SESSIONS = 300  # that a block ends


def admins_of(block: Block) -> list[AccountRow]:
    return block.select(ACCOUNTS, {"role": AccountRole.ADMIN, "suspended_at": None})


def has_accounts(block: Block, but_not: UserId | None = None) -> bool:
    rows = block.select(ACCOUNTS, {"deleted_at": None}, limit=2)
    return any(row.id != but_not for row in rows)


class TablesAdministration(TablesReports):
    """The `GuardedAdministration` of one user over tables."""

    def _note(
        self, block: Block, action: str, target: UserId | None = None, /, **detail: object
    ) -> None:
        note(block, self.caller.now(), self.caller.user_id, action, target, **detail)

    # --- users

    def set_caps(self, user_id: UserId, changes: Mapping[str, int | None]) -> None:
        def change(block: Block) -> Refusal | None:
            budget = block.get(BUDGETS, "budget")
            if budget is None:
                return NOT_FOUND
            if refusal := bounds_refusal(changes):
                return refusal
            new = replace(budget, **changes)
            block.put(BUDGETS, new)
            if changed := differences(asdict(limits_of(budget)), asdict(limits_of(new))):
                self._note(block, "caps.set", user_id, **changed)
            return None

        self.run("set_caps", change, user_id)

    def set_role(self, user_id: UserId, role: AccountRole) -> None:
        def change(block: Block) -> Refusal | None:
            account, admins = block.get(ACCOUNTS, user_id), admins_of(block)
            is_left = role is not AccountRole.ADMIN
            refusal = leave_refusal(account, admins) if is_left else account_refusal(account)
            if refusal or account is None or account.role is role:
                return refusal
            block.put(ACCOUNTS, replace(account, role=role))
            return self._note(block, "role.set", user_id, role=[account.role, role])

        self.run("set_role", change, user_id)

    def check_end(self, user_id: UserId, *, is_shut: bool) -> None:
        def check(block: Block) -> Refusal | None:
            account = block.get(ACCOUNTS, user_id)
            if is_shut:
                has_others = has_accounts(block, user_id)
                return leave_refusal(account, admins_of(block), has_others=has_others)
            return account_refusal(account)

        self.run("check_end", check, user_id, is_own=True)

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        def change(block: Block) -> Refusal | None:
            account, admins = block.get(ACCOUNTS, user_id), admins_of(block)
            refusal = leave_refusal(account, admins) if is_suspended else account_refusal(account)
            if refusal or account is None:
                return refusal
            was_suspended = account.suspended_at is not None
            end_sessions = self._ending(block, user_id if is_suspended else None)
            if was_suspended != is_suspended:
                suspended_at = self.caller.now() if is_suspended else None
                block.put(ACCOUNTS, replace(account, suspended_at=suspended_at))
                changed = [was_suspended, is_suspended]
                self._note(block, "account.suspend", user_id, suspended=changed)
            return end_sessions()

        self.run("suspend", change, user_id)
        if is_suspended:
            self._end_sessions(user_id)

    def sign_out(self, user_id: UserId) -> None:
        def end(block: Block) -> Refusal | None:
            account = block.get(ACCOUNTS, user_id)
            if account is None or account.is_ended:
                return NOT_FOUND
            end_sessions = self._ending(block, user_id)
            self._note(block, "session.end_all", user_id)
            return end_sessions()

        self.run("sign_out", end, user_id)
        self._end_sessions(user_id)

    def delete(self, user_id: UserId) -> None:
        def shut(block: Block) -> Refusal | None:
            account, has_others = block.get(ACCOUNTS, user_id), has_accounts(block, user_id)
            refusal = leave_refusal(account, admins_of(block), has_others=has_others)
            if refusal or account is None:
                return refusal
            end_sessions = self._ending(block, user_id)
            block.put(ACCOUNTS, replace(deleted(account, self.caller.now()), keys=()))
            self._note(block, "account.delete", user_id)
            return end_sessions()

        self.run("delete", shut, user_id, is_own=True)
        self._end_sessions(user_id)

    def _ending(self, block: Block, user_id: UserId | None) -> Callable[[], None]:
        """Read some sessions of a user; return a function that ends them."""
        where: dict[str, object] = {"user_id": user_id}
        sessions = block.select(SESSIONS, where, limit=_SESSIONS) if user_id else []

        def end() -> None:
            for one in sessions:
                block.delete(SESSIONS, one.cookie_hash)

        return end

    def _end_sessions(self, user_id: UserId) -> None:
        """End the sessions that one block did not."""

        def end(block: Block) -> bool:
            where: dict[str, object] = {"user_id": user_id}
            is_done = not block.select(SESSIONS, where, limit=1)
            self._ending(block, user_id)()
            return is_done

        while not self.tables.of(None).run(end):
            pass

    # --- the deployment

    def change_settings(self, changes: Mapping[str, object]) -> None:
        def change(block: Block) -> Refusal | None:
            if refusal := bounds_refusal(changes):
                return refusal
            before = settings_of(block)
            after = before.changed(changes, self.caller.now())
            block.put(SETTINGS, after)
            changed = differences(asdict(before), asdict(after))
            changed.pop("retention_from", None)
            if changed:
                self._note(block, "settings.set", **changed)
            return None

        self.run("change_settings", change)

    def set_sign_ups(self, mode: SignUps) -> None:
        self.change_settings({"sign_ups": mode})

    def set_deployment_cap(self, monthly_cap_micro: int | None) -> None:
        """Set the cap; before the first cap, the budgets are counted under one that limits nothing."""

        def begin(block: Block) -> list[UserId] | Refusal:
            row = deployment_of(block)
            refusal = bounds_refusal({"monthly_cap_micro": monthly_cap_micro})
            if refusal and monthly_cap_micro is not None:
                return refusal
            if monthly_cap_micro is None or row.monthly_cap_micro not in (None, NO_CAP):
                return []
            accounts, counting = block.select(ACCOUNTS), row.counting + 1
            cap = NO_CAP
            block.put(DEPLOYMENT, Deployment(monthly_cap_micro=cap, counting=counting))
            return [one.id for one in accounts if not one.is_ended]

        def finish(block: Block) -> None:
            row = deployment_of(block)
            block.put(DEPLOYMENT, replace(row, monthly_cap_micro=monthly_cap_micro))
            before = cap_of(row.monthly_cap_micro)
            if before != monthly_cap_micro:
                changed = [before, monthly_cap_micro]
                self._note(block, "caps.deployment", monthly_cap_micro=changed)

        for user_id in self.run("set_deployment_cap", begin):
            limits, now = limits_of(Settings()), self.caller.now
            TablesRows(user_id, self.tables.of(user_id), limits, now).count()
        self.run("set_deployment_cap", finish)

    def set_model(self, name: str, changes: Mapping[str, object]) -> None:
        def change(block: Block) -> Refusal | None:
            before = models_of(block)
            after = changed_models(before, name, changes)
            if isinstance(after, Refusal):
                return after
            self._put_models(block, after)
            changed = differences(columns_of(before.of(name)), columns_of(after.of(name)))
            if changed:
                self._note(block, "model.set", model=name, **changed)
            return None

        self.run("set_model", change)

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        def change(block: Block) -> None:
            before = models_of(block)
            self._put_models(block, replace(before, refuses_unknown_prices=is_refused))
            was_refused = before.refuses_unknown_prices
            if was_refused != is_refused:
                changed = [was_refused, is_refused]
                self._note(block, "settings.set", refuses_unknown_prices=changed)

        self.run("refuse_unknown_prices", change)

    def _put_models(self, block: Block, settings: ModelSettings) -> None:
        revision = sha(repr((sorted(settings.by_name.items()), settings.refuses_unknown_prices)))
        block.put(MODELS, replace(settings, revision=revision))

    # --- invitations

    def _invitations(self, block: Block) -> list[Invitation]:
        rows = block.select(INVITATIONS)
        makers = {one: block.get(ACCOUNTS, one) for one in {row.made_by for row in rows}}
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
            block.put(INVITATIONS, row)
            return self._note(block, "invitation.make", invitation=str(row.id), role=role)

        self.run("invite", make)

    def revoke_invitation(self, invitation: UUID) -> None:
        def revoke(block: Block) -> Refusal | None:
            row = block.get(INVITATIONS, invitation)
            if row is None or row.used_by or row.revoked_at:
                return NOT_FOUND
            block.put(INVITATIONS, replace(row, revoked_at=self.caller.now()))
            return self._note(block, "invitation.revoke", invitation=str(invitation))

        self.run("revoke_invitation", revoke)
