"""Functions for a signed-in user's account changes: require a recent proof of identity, and change the sign-in methods."""

from dataclasses import replace

from services.crypto import Credentials
from services.domain.accounts import CredentialsAction, Failure, ProofScope
from services.errors import ProofNeeded, RateLimited
from services.store.accounts import Accounts, AppSession, Current, require_recent
from services.store.failures import note_failure
from services.users import Shared
from services.web.current_session import SignedIn


def require_proof(accounts: Accounts, session: AppSession, *, is_part: bool = False) -> ProofScope:
    """Return the scope of the user's proof of identity from the last ten minutes.

    If there is no such proof, audit the refusal and raise ProofNeeded. *is_part*: a partial proof (`ProofScope.PART`)
    is enough. This call blocks. Also raise SignedOut, StoreUnavailable.
    """
    try:
        return require_recent(session.backend, is_part=is_part)
    except ProofNeeded:
        note_failure(accounts.backend, session.user_id, Failure.CHANGE)
        raise


def change_way_in(
    shared: Shared,
    session: AppSession,
    current: Current,
    new: Credentials,
    action: CredentialsAction,
    *,
    ends_others: bool,
) -> None:
    """Store *new* credentials in place of the *current* ones. This call blocks.

    *ends_others*: also end the user's other sessions, and stop their replies. Raise RateLimited if the stored
    credentials have changed in the meantime, ProofNeeded if there is no recent proof, and the errors of
    `Accounts.change_credentials`.
    """
    store = shared.session_cache.accounts.change_credentials

    def change() -> bool:
        return store(session, new, current.stored, action, ends_others=ends_others)

    is_changed = shared.user_of(session).devices.end_others_by(change) if ends_others else change()
    if not is_changed:
        raise RateLimited
    shared.outdate_sign_in_details(session.user_id)


def change_listed(
    shared: Shared,
    own: SignedIn,
    changed: Credentials,
    action: CredentialsAction,
    *,
    ends_others: bool = False,
) -> None:
    """Store *changed*, the credentials of *own* with other passkeys or identities, as `change_way_in` does.

    Increase the generation, unless *action* is RESEAL: a new name changes no sign-in method.
    """
    generation = changed.generation + (action is not CredentialsAction.RESEAL)
    new = replace(changed, generation=generation)
    change_way_in(shared, own.session, own.current, new, action, ends_others=ends_others)
