"""The rule that every account needs a second factor: the replies of others end before their sessions."""

from contextlib import contextmanager
from types import SimpleNamespace
from uuid import UUID

import pytest

from services.caches import CachedRead
from services.domain import SessionId
from services.errors import AdminsOnly, ProofNeeded
from services.users.factor_rule import FactorRule

OWN, OTHER = (SessionId(UUID(int=n)) for n in (3, 4))


class Deployment:
    """The backend of an admin, with notes of what happens."""

    def __init__(self, *, is_proven=True, refusal=None):
        self.happened, self.is_on, self.refusal = [], False, refusal
        self.listed = [
            SimpleNamespace(is_this_one=True, is_proven=is_proven),
            SimpleNamespace(is_this_one=False, is_proven=True),
        ]
        self.administration = self

    def devices(self):
        return self.listed

    def deployment(self):
        if self.refusal:
            raise self.refusal

    def require_factor(self, *, is_on):
        self.is_on = is_on
        self.happened.append(("require", is_on))

    @contextmanager
    def ending(self, is_meant, within):
        sessions = [SimpleNamespace(id=one) for one in (OWN, OTHER)]
        self.happened.append(("stop", [one.id for one in sessions if is_meant(one)]))
        yield
        self.happened.append("forget")


def rule_of(backend):
    state = CachedRead(lambda: SimpleNamespace(requires_factor=backend.is_on))
    return FactorRule(SimpleNamespace(id=OWN, backend=backend), state, backend.ending)


def test_replies_of_others_end_before_a_factor_is_required():
    backend = Deployment()
    rule = rule_of(backend)
    assert not rule.is_required()

    rule.require(is_on=True)

    assert backend.happened == [("stop", [OTHER]), ("require", True), "forget"]
    assert rule.is_required()


@pytest.mark.parametrize(
    "backend",
    [Deployment(is_proven=False), Deployment(refusal=AdminsOnly())],
    ids=["proof", "role"],
)
def test_refusal_stops_no_reply(backend):
    with pytest.raises((ProofNeeded, AdminsOnly)):
        rule_of(backend).require(is_on=True)

    assert backend.happened == []


def test_no_reply_ends_where_the_factor_is_required_no_longer():
    backend = Deployment()

    rule_of(backend).require(is_on=False)

    assert backend.happened == [("stop", []), ("require", False), "forget"]
