"""A change of the ways into an account, by its signed-in user."""

from services.crypto import Credentials
from services.domain.accounts import CredentialsAction
from services.errors import RateLimited
from services.store.accounts import AppSession, Current
from services.users import Shared


def change_way_in(
    shared: Shared,
    session: AppSession,
    current: Current,
    new: Credentials,
    action: CredentialsAction,
    *,
    ends_others: bool,
) -> None:
    """Store *new* credentials in place of the *current* ones; *ends_others*: and end all other sessions, their replies first.

    It blocks. Raise RateLimited if they have changed meanwhile, ProofNeeded, and the errors of `UserBackend.change_credentials`.
    """
    store = shared.session_cache.accounts.change_credentials

    def change() -> bool:
        return store(session, new, current.stored, action, ends_others=ends_others)

    devices = shared.user_of(session).devices
    if not (devices.end_others_by(change) if ends_others else change()):
        raise RateLimited
