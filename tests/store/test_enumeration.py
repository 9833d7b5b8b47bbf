"""Who tries an address learns nothing of it: the answer, the calls before it and the hashes are the same."""

import pytest

from services.errors import WrongCredentials

OTHER = "another horse, another battery"


def test_wrong_password_is_answered_alike_for_every_address(process, wire, addresses, hashes):
    seen = set()
    for email in addresses:
        wire.made, hashes[:] = [], []
        with pytest.raises(WrongCredentials) as refused:
            process.sign_in_with(email, OTHER)
        seen.add((str(refused.value), *wire.made, len(hashes)))

    assert seen == {("", "rpc/count_attempt", 1)}
