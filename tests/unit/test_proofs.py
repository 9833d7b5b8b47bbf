"""Proofs in a store of one user who does not sign in."""

from datetime import UTC, datetime, timedelta

import pytest

from services.crypto import RootKeys, new_key
from services.errors import ProofNeeded
from services.store.accounts import Accounts
from services.store.tables.backend import TablesBackend
from services.store.tables.in_memory import InMemoryStore


@pytest.mark.parametrize("wants_proofs", [False, True])
def test_store_without_sign_in_wants_no_proof(wants_proofs):
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    elapsed = timedelta()
    backend = TablesBackend(InMemoryStore(), lambda: now + elapsed, wants_proofs)
    accounts = Accounts(backend, RootKeys({1: new_key()}, 1), 86400, 86400)
    cookie, session = accounts.enter(None)
    elapsed = timedelta(minutes=10)

    if wants_proofs:
        with pytest.raises(ProofNeeded):
            session.backend.administration.delete(session.user_id)
    else:
        session.backend.administration.delete(session.user_id)

    assert backend.is_alive(cookie.hash) is wants_proofs
