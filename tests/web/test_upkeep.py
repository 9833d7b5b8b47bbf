"""The probe of the database."""

from threading import Event
from types import SimpleNamespace

import httpx
import pytest

from services.errors import StoreUnavailable
from services.store.supabase import upkeep
from services.store.supabase.api import Swept
from services.store.supabase.database_health import DatabaseHealth
from services.store.supabase.upkeep import DatabaseProbe


class Enough(BaseException):
    """Ends the probe."""


@pytest.mark.parametrize(
    ("cause", "expected"),
    [(None, []), (httpx.ConnectError("refused"), [StoreUnavailable.outage])],
    ids=["SQL", "network"],
)
def test_failed_sweep_is_followed_by_a_plain_probe(cause, expected):
    recorded = list[str]()

    def sweep():
        if recorded:
            pytest.fail("swept while the database is away")
        raise StoreUnavailable from cause

    def call(*_, cookie, nonce):
        raise Enough

    probe = DatabaseProbe(
        database=DatabaseHealth(60.0),
        server=SimpleNamespace(sweep=sweep, call=call),
        sweep_seconds=0.0,
        report=recorded.append,
    )
    with pytest.raises(Enough):
        probe.run()

    assert recorded == expected


def test_log_is_erased_beside_the_sweeps_and_again_after_a_failure():
    answers = iter([StoreUnavailable(), True, False, Enough()])
    wanted = Event()

    class Database(SimpleNamespace):
        def keep_probing(self, probe, _):
            probe()

    def erase():
        wanted.set()  # set by the next sweep
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    probe = DatabaseProbe(
        database=Database(is_away=False),
        server=SimpleNamespace(sweep=lambda: Swept(more=False, log_erasures=True)),
        sweep_seconds=0.0,
        report=None,
        log_erasures=wanted,
    )
    probe.run()
    assert wanted.is_set()

    with pytest.raises(Enough):
        upkeep.keep_erasing(wanted, SimpleNamespace(erase_log_entries=erase))
