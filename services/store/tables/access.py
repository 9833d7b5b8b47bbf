"""Access to tables by an app session, which each block checks first; settings of the deployment; audit entries."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.domain import UserId
from services.domain.models import ModelSettings
from services.errors import NotFound, ProofNeeded, SignedOut
from services.rules.accounts import Settings
from services.rules.budget import Deployment
from services.store.tables import schema
from services.store.tables.protocol import Answer, Block, Tables
from services.store.tables.schema import AccountRow, AuditRow, id_at

# a minute longer than the cookie, so that the app notices the end of the session before reads
# return no rows
SESSION_GRACE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """An app session, and the user in whose name it calls."""

    cookie_hash: str
    user_id: UserId
    now: Callable[[], datetime]
    wants_proofs: bool = True  # false: a deployment without sign-in, where nothing can be proved

    def account(self, block: Block) -> AccountRow:
        """Return the account of the caller. Raise SignedOut, or NotFound if the session is another user's."""
        session = block.get(schema.SESSIONS, self.cookie_hash)
        account = block.get(schema.ACCOUNTS, self.user_id)
        if session and session.user_id != self.user_id:
            raise NotFound
        if not session or not account:
            raise SignedOut
        # of the session alone: while an address is taken back, the account has no factor yet
        is_refused = not session.has_factor and requires_factor(block, self.wants_proofs)
        if not session.is_alive(account, self.now() - SESSION_GRACE, is_refused=is_refused):
            raise SignedOut
        return account

    def require_recent(self, block: Block) -> None:
        """Raise ProofNeeded unless the user has proved who they are in the last ten minutes."""
        session = block.get(schema.SESSIONS, self.cookie_hash)
        stored = block.get(schema.CREDENTIALS, self.user_id)
        if self.wants_proofs and not (session and session.is_proven(self.now(), stored)):
            raise ProofNeeded


@dataclass(frozen=True, slots=True)
class SessionTables:
    """The `Tables` of one user, usable until the session of *caller* ends."""

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
    /,
    **detail: object,
) -> None:
    """Add an entry to the audit."""
    entry_id = id_at(now)
    row = AuditRow(id=entry_id, at=now, action=action, actor=actor, target=target, detail=detail)
    block.put(schema.AUDIT, row)


def settings_of(block: Block) -> Settings:
    return block.get(schema.SETTINGS, "settings") or Settings()


def requires_factor(block: Block, wants_proofs: bool) -> bool:
    """Return True if the deployment requires a second factor; one without sign-in never does."""
    return wants_proofs and settings_of(block).requires_factor


def deployment_of(block: Block) -> Deployment:
    return block.get(schema.DEPLOYMENT, "deployment") or Deployment()


def models_of(block: Block) -> ModelSettings:
    return block.get(schema.MODELS, "models") or ModelSettings()
