"""Accounts whose addresses are confirmed, on any store."""

from dataclasses import replace
from datetime import UTC, datetime

from services.domain.accounts import CredentialsAction
from services.domain.addresses import Confirmed, ConfirmedBy
from services.store.credentials import open_stored, seal_stored
from tests.stores import NOT_COUNTED


def confirm(accounts, session):
    """Note in the credentials of the user of *session* that a code confirmed the address."""
    stored = accounts.find(session.email, NOT_COUNTED).stored
    at = datetime.now(UTC).replace(microsecond=0)
    new = replace(
        open_stored(accounts.root_keys, stored),
        confirmed=Confirmed(how=ConfirmedBy.CODE, at=at),
        generation=stored.generation + 1,
    )
    assert session.backend.change_credentials(
        seal_stored(accounts.root_keys, new, session.user_id),
        stored.generation,
        action=CredentialsAction.ADDRESS_CONFIRMED,
        ends_others=False,
    )


def set_address(cache, user_id, email):
    """Have the sessions in *cache* know another address, as `Shared.set_address` does."""
    cache.change(user_id, lambda one: replace(one, email=email, is_confirmed=True))
