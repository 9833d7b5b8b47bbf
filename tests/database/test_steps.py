"""Steps in SQL that are begun and tried at the same time."""

from services.crypto import new_key
from tests.database import servers


def begin(caller, kind_tag):
    """Begin a step; return its key."""
    key = new_key().hex()
    assert caller.call("begin_step", new_key=key, new_kind_tag=kind_tag)["ok"]
    return key


def test_steps_that_begin_at_once_leave_four(world, migrated):
    kind_tag = new_key().hex()

    def begin_some(connection, _):
        return [begin(world.anon.by(connection), kind_tag) for _ in range(5)]

    servers.at_once(migrated, 8, begin_some)

    assert world.one("select count(*) from private.steps where kind_tag = %s", kind_tag) == 4


def test_tries_and_ends_at_once_are_counted(world, migrated):
    tried, ended = begin(world.anon, new_key().hex()), begin(world.anon, new_key().hex())

    def use(connection, _):
        caller = world.anon.by(connection)
        return caller.call("try_step", step_key=tried), caller.call("end_step", step_key=ended)

    answers = servers.at_once(migrated, 8, use)

    assert sum(tries["ok"] for tries, _ in answers) == 5
    assert sum(ends["ok"] for _, ends in answers) == 1
