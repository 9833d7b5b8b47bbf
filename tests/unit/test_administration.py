"""What an admin is refused has no effect."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.errors import LastAdmin
from services.store.supabase.administration import Administration


@pytest.mark.parametrize(
    "end",
    [
        lambda administration: administration.suspend(uuid4(), is_suspended=True),
        lambda administration: administration.delete(uuid4()),
    ],
    ids=["suspend", "delete"],
)
def test_refused_end_stops_no_reply(end):
    stopped = []

    def refuse(verb, **_):
        raise LastAdmin(verb)

    with pytest.raises(LastAdmin, match="check_end"):
        end(Administration(SimpleNamespace(do=refuse), stopped.append))

    assert stopped == []
