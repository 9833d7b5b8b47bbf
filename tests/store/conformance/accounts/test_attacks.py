"""Attacks: calls by those who may not make them are refused, and change nothing."""

from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pytest

from services.domain import AccountRole
from services.domain.accounts import SignUps, UserOrder
from services.domain.models import ModelPrices
from services.domain.revisions import OpenPlace
from services.errors import AdminsOnly, NotFound, SignedOut, StoreUnavailable, Tampered
from tests.store.conformance.talk import begun_with

TODAY = datetime.now(UTC).date()
PRICES = ModelPrices(input_micro=1, cached_input_micro=1, output_micro=1)


def administration(verb, *arguments, **options):
    return lambda user, _: getattr(user.administration, verb)(*arguments, **options)


def of_victim(verb, *arguments, **options):
    return lambda user, victim: getattr(user.administration, verb)(victim, *arguments, **options)


ADMINS_VERBS = {
    "list_users": administration("list_users", "", UserOrder.EMAIL),
    "usage of all": administration("usage", (TODAY, TODAY)),
    "usage of one": lambda user, victim: user.administration.usage((TODAY, TODAY), victim),
    "deployment": administration("deployment"),
    "set_deployment_cap": administration("set_deployment_cap", 1),
    "change_settings": administration("change_settings", {"max_open": 0}),
    "preview_retention": administration("preview_retention", 15),
    "set_caps": of_victim("set_caps", {"max_open": 0}),
    "set_role": of_victim("set_role", AccountRole.ADMIN),
    "suspend": of_victim("suspend", is_suspended=True),
    "lift": of_victim("suspend", is_suspended=False),
    "sign_out": of_victim("sign_out"),
    "delete": of_victim("delete"),
    "health": administration("health"),
    "audit": administration("audit"),
    "set_mode": lambda user, _: user.sign_ups.set_mode(SignUps.CLOSED),
    "confirm_by_code": lambda user, _: user.sign_ups.confirm_by_code(is_on=False),
    "invite": lambda user, _: user.sign_ups.invite("", AccountRole.ADMIN),
    "invitations": lambda user, _: user.sign_ups.invitations(),
    "revoke": lambda user, _: user.sign_ups.revoke(uuid4()),
    "set_price": lambda user, _: user.models.set_price("large", PRICES),
    "offer": lambda user, _: user.models.offer("large", is_offered=False),
    "refuse_unknown_prices": lambda user, _: user.models.refuse_unknown_prices(is_refused=True),
}
OWN_VERBS = {
    "account": lambda user, _: user.account(),
    "report": lambda user, _: user.usage.report(TODAY, TODAY),
    "ledger": lambda user, _: user.usage.ledger(TODAY, TODAY),
    "account_changes": lambda user, _: user.usage.account_changes(),
    "stored": lambda user, _: user.usage.stored(),
    "devices": lambda user, _: user.deployment.devices(user.session),
    "end_others": lambda user, _: user.session.backend.end_other_devices(),
    "delete": lambda user, _: user.administration.delete(user.id),
    "begin_turn": lambda user, _: begun_with(user.store),
    "poll": lambda user, _: user.store.conversations.poll(OpenPlace()),
}
EVERY_VERB = ADMINS_VERBS | OWN_VERBS
PROVEN_VERBS = ADMINS_VERBS | {verb: OWN_VERBS[verb] for verb in ("end_others", "begin_turn")}


def not_refused(error, verbs, attacker, victim):
    """Return those of *verbs* that *attacker* is not refused with *error*."""
    answered = []
    for name, verb in verbs.items():
        with suppress(error):
            verb(attacker, victim.id)
            answered.append(name)
    return answered


@pytest.fixture(scope="module")
def scene(running):
    """A deployment for a module whose calls are refused: they may share its users."""
    shared = running.shared()
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def keeper(scene):
    """An admin whom nothing befalls."""
    return scene.sign_up_admin()


@pytest.fixture(scope="module")
def victim(scene, keeper):  # after an admin: the first account may be one's
    return scene.sign_up()


@pytest.fixture
def state(keeper, victim):
    """Return what an attack could have changed."""

    def state():
        every = keeper.administration
        [row] = every.list_users(victim.email, UserOrder.EMAIL).users
        return (
            row,
            every.deployment(),
            [one.id for one in every.audit(at_most=1)],
            keeper.deployment.server.model_settings(),
            keeper.deployment.server.sign_ups(),
            keeper.sign_ups.invitations(),
            victim.deployment.accounts.backend.is_alive(victim.cookie.hash),
        )

    return state


@pytest.fixture(scope="module")
def user(scene, keeper):
    return scene.sign_up()


@pytest.fixture(scope="module")
def former_admin(scene, keeper):
    """A user who was an admin a moment ago."""
    former = scene.sign_up_admin()
    former.administration.deployment()
    keeper.administration.set_role(former.id, AccountRole.USER)
    return former


@pytest.fixture(scope="module")
def signed_out(scene):
    """An admin whose session was ended; the process still has it."""
    admin = scene.sign_up_admin()
    scene.accounts.end(admin.cookie)
    return admin


@pytest.fixture(scope="module")
def suspended(scene, keeper):
    """An admin who was suspended; the process still has the session."""
    admin = scene.sign_up_admin()
    keeper.administration.suspend(admin.id, is_suspended=True)
    return admin


@pytest.mark.parametrize("attacker", ["user", "former_admin"])
def test_verbs_of_an_admin_are_refused_to_users(request, attacker, victim, state):
    attacker, before = request.getfixturevalue(attacker), state()

    assert not_refused(AdminsOnly, ADMINS_VERBS, attacker, victim) == []

    assert state() == before


def test_refused_verb_stops_no_reply(scene, user, victim):
    stopped = []
    services = scene.administration(user.session, stopped.append)

    for act in (partial(services.suspend, is_suspended=True), services.sign_out, services.delete):
        with pytest.raises(AdminsOnly):
            act(victim.id)

    assert stopped == []


@pytest.mark.parametrize("attacker", ["signed_out", "suspended"])
def test_ended_session_and_suspended_user_do_nothing(request, attacker, victim, state):
    attacker, before = request.getfixturevalue(attacker), state()

    assert not_refused(SignedOut, EVERY_VERB, attacker, victim) == []

    assert state() == before


def test_ended_session_reads_no_conversation(deployment, maya):
    thread = begun_with(maya.store, "Letters")
    store = deployment.store(maya.session)
    deployment.accounts.end(maya.cookie)

    with suppress(SignedOut):
        assert store.conversations.recent() == []
    with pytest.raises((SignedOut, NotFound)):
        store.conversations.thread(thread.conversation.id)


def test_access_token_without_the_keys_of_the_app_changes_nothing(scene, keeper, victim, state):
    attacker, before = scene.without_proof(keeper), state()

    assert not_refused(NotFound, PROVEN_VERBS, attacker, victim) == []

    assert state() == before


def test_session_that_names_another_user_is_refused(scene, user, keeper, victim, state):
    attacker, before = scene.forged(user, keeper), state()

    assert not_refused(NotFound, PROVEN_VERBS, attacker, victim) == []

    assert state() == before


def test_session_that_names_another_user_reads_nothing_of_theirs(scene, user, victim):
    thread = begun_with(victim.store, "Letters")
    attacker = scene.forged(user, victim)

    for read, own in (  # the session decides, or the call is refused
        (lambda: attacker.account().user_id, user.id),
        (lambda: attacker.usage.ledger(TODAY, TODAY), user.usage.ledger(TODAY, TODAY)),
        (lambda: attacker.usage.stored().conversations, 0),
    ):
        with suppress(NotFound):
            assert read() == own
    with pytest.raises(NotFound):
        attacker.store.conversations.thread(thread.conversation.id)


def test_call_of_the_server_needs_the_keys_of_the_app(scene, victim):
    server = scene.server_without_proof()

    for call in (
        server.sweep,
        server.probe,
        server.erase_log_entries,
        server.root_key_versions,
        server.model_settings,
        server.sign_ups,
        server.next_is_admin,
        lambda: server.throttle(("0" * 64, 1, 60)),
        lambda: server.backend.count_throttles(()),
        lambda: server.backend.try_step("0" * 64),
        lambda: server.backend.end_step("0" * 64),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    assert scene.accounts.backend.is_alive(victim.cookie.hash)


@pytest.mark.parametrize("theft", ["give_session", "give_cookie"])
def test_stored_session_given_to_another_user_opens_nothing(deployment, maya, omar, theft):
    begun_with(maya.store, "Letters")
    getattr(deployment, theft)(maya, omar)

    with pytest.raises(Tampered):
        deployment.process().open(omar.cookie)


def test_account_of_another_user_is_neither_deleted_nor_ended(deployment, maya, omar):
    with pytest.raises(AdminsOnly):
        omar.administration.delete(maya.id)
    omar.session.backend.end_device(maya.session.id)

    assert deployment.accounts.ended([maya.session, omar.session]) == {}
    omar.administration.delete(omar.id)
    assert maya.sign_in().id == maya.id
