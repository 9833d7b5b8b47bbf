"""The probe of the database."""

from types import SimpleNamespace

import httpx
import pytest

from services.errors import StoreUnavailable
from services.store.supabase.database_health import DatabaseHealth
from services.web import upkeep
from services.web.upkeep import DatabaseProbe


class Enough(BaseException):
    """Ends the probe."""


@pytest.mark.parametrize(
    ("cause", "expected"),
    [(None, []), (httpx.ConnectError("refused"), [True])],
    ids=["SQL", "network"],
)
def test_failed_sweep_is_followed_by_a_plain_probe(cause, expected):
    recorded = list[bool]()
    health = SimpleNamespace(record_outage=lambda *, is_away: recorded.append(is_away))

    def sweep():
        if recorded:
            pytest.fail("swept while the database is away")
        raise StoreUnavailable from cause

    def call(*_, **__):
        raise Enough

    probe = DatabaseProbe(
        database=DatabaseHealth(60.0),
        server=SimpleNamespace(sweep=sweep, call=call),
        sweep_seconds=0.0,
        health=health,
        check=lambda: None,
    )
    with pytest.raises(Enough):
        probe.run()

    assert recorded == expected


@pytest.mark.parametrize(("idle_seconds", "reads"), [(0, 2), (600, 0)])
def test_settings_are_read_again_while_in_use(monkeypatch, idle_seconds, reads):
    read, clock = list[float](), [0.0]

    def sleep(seconds):
        if clock[0] > idle_seconds:
            raise Enough
        clock[0] += seconds

    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    settings = SimpleNamespace(asked_at=0.0, read=lambda: read.append(clock[0]))
    clock[0] += idle_seconds

    with pytest.raises(Enough):
        upkeep.keep_reading(settings)

    assert len(read) == reads
