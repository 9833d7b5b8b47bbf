"""Proofs and sign-outs beside live turns of another process: a session with another cookie ends its turns there."""

from datetime import UTC, datetime, timedelta

import pytest

from services.caches import CachedRead
from services.domain import Outcome
from services.domain.models import ModelSettings
from services.errors import SignedOut
from services.llm import Models, Offer
from services.settings import Settings
from services.users import Shared, UserServices
from tests.chats import SMALL, done
from tests.stack.apps import until
from tests.store.conftest import PASSWORD
from tests.stores import NOT_COUNTED


@pytest.fixture
def make_process(model):
    """Return a function that makes what the users of a process share; no call begins by itself."""
    chosen, models = Settings(DAYBOOK_TITLES=False), Models(Offer(SMALL, model))
    return lambda accounts: Shared(accounts, chosen, lambda: models, CachedRead(ModelSettings))


@pytest.fixture
def shared(deployment, make_process):
    return make_process(deployment.accounts)


@pytest.fixture
def elsewhere(deployment, make_process):
    """Another process."""
    return make_process(deployment.process())


def prove(shared, user):
    """Prove who *user* is in a process; return the new cookie."""
    cache = shared.session_cache
    checked = cache.accounts.find(user.email, NOT_COUNTED).checked(PASSWORD)
    return cache.prove(cache.find(user.cookie), user.cookie, checked)


def begin(shared, user, server):
    """Begin a reply that waits after its second token, in a process."""
    server.script(tokens=3, held=2)
    shared.session_cache.find(user.cookie)
    turn = shared.find(user.session.id).chat.begin(None, "How do I prune?")
    until(turn.said, within=20)
    return turn


def hear(shared, user):
    """Have a process ask whether the session has ended."""
    shared.session_cache.doubt(user.session.id)
    return shared.session_cache.by_id(user.session.id)


def reply_of(user, turn):
    tip = user.store.conversations.thread(turn.conversation_id).tip
    return tip.outcome, tip.body


def test_reply_goes_on_beside_a_proof(shared, maya, server):
    turn = begin(shared, maya, server)
    services = shared.find(maya.session.id)

    cookie = prove(shared, maya)
    assert hear(shared, maya)
    server.go_on()
    done(turn)

    assert turn.failure is None
    assert reply_of(maya, turn) == (Outcome.COMPLETE, turn.said())
    assert shared.find(maya.session.id) is services
    assert shared.session_cache.find(cookie).id == maya.session.id
    assert shared.session_cache.find(maya.cookie) is None


def test_reply_ends_where_another_process_proved_before_its_keys_go(
    shared, elsewhere, maya, server
):
    turn = begin(elsewhere, maya, server)

    cookie = prove(shared, maya)

    assert hear(elsewhere, maya) is None  # no page, and no further turn
    assert elsewhere.find(maya.session.id) is None
    assert elsewhere.session_cache.find(maya.cookie) is None
    with pytest.raises(SignedOut):
        elsewhere.user_of(maya.session)
    elsewhere.session_cache.forget_idle()
    assert elsewhere.session_cache.count == 1
    server.go_on()
    done(turn)
    assert reply_of(maya, turn) == (Outcome.COMPLETE, turn.said())
    elsewhere.session_cache.forget_idle()
    assert elsewhere.session_cache.count == 0
    assert elsewhere.find_unchecked(maya.session.id) is None
    assert elsewhere.session_cache.find(cookie).id == maya.session.id


def test_tab_of_another_process_comes_in_by_the_new_cookie(shared, elsewhere, maya, server):
    turn = begin(elsewhere, maya, server)
    cookie = prove(shared, maya)
    hear(elsewhere, maya)

    assert elsewhere.session_cache.find(cookie).id == maya.session.id

    elsewhere.session_cache.forget_idle()
    chat = elsewhere.find(maya.session.id).chat
    assert turn.conversation_id in chat.live_turns.coming(maya.id)
    server.go_on()
    done(turn)
    assert chat.open(turn.conversation_id).tip.body == turn.said()
    assert elsewhere.session_cache.count == 1


def test_session_that_comes_back_beside_its_end_here_stays(shared, elsewhere, maya, monkeypatch):
    elsewhere.session_cache.find(maya.cookie)
    cookie = prove(shared, maya)
    hear(elsewhere, maya)
    read_ahead = UserServices.read_ahead

    def read_beside_the_end(user):
        read_ahead(user)
        elsewhere.session_cache.forget_idle()  # of the entry by the older cookie

    monkeypatch.setattr(UserServices, "read_ahead", read_beside_the_end)
    assert elsewhere.session_cache.find(cookie)

    assert elsewhere.find(maya.session.id)


def test_own_sign_out_stops_a_reply_of_another_process(shared, elsewhere, deployment, maya, server):
    deployment.serves_several_processes()
    turn = begin(elsewhere, maya, server)
    shared.session_cache.find(maya.cookie)

    shared.session_cache.leave(maya.cookie)

    assert done(turn).failure is None
    assert hear(elsewhere, maya) is None
    again = maya.sign_in()
    assert reply_of(again, turn) == (Outcome.STOPPED, turn.said())
    today, day = datetime.now(UTC).date(), timedelta(days=1)
    [entry] = again.usage.ledger(today - day, today + day)
    assert (entry.kind, entry.outcome, entry.tokens_out > 0) == ("charge", "stopped", True)


WANT_PROOF = {
    "end others": lambda user: user.devices.end_others(),
    "delete": lambda user: user.access.delete(user.user_id),
    "require no factor": lambda user: user.factor_rule.require(is_on=False),
}


@pytest.mark.parametrize("act", WANT_PROOF.values(), ids=WANT_PROOF)
def test_tab_of_another_process_uses_no_proof_of_a_newer_cookie(
    shared, elsewhere, deployment, admin, act
):
    deployment.sign_up_admin()  # so that one of them may leave
    elsewhere.session_cache.find(admin.cookie)
    copied = elsewhere.find(admin.session.id)

    cookie = prove(shared, admin)

    with pytest.raises(SignedOut):
        act(copied)
    shared.session_cache.find(cookie)
    act(shared.find(admin.session.id))
