"""Password hashes: Argon2id with fixed costs, of the password in NFC."""

import json
import time
from pathlib import Path

import pytest

from services.crypto import check_password, hash_password
from tests.unit.test_vault import refuses

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "credentials.json").read_text())


def each(name):
    return pytest.mark.parametrize("vector", VECTORS[name], ids=lambda vector: vector["name"])


@each("hashes")
def test_frozen_password_has_the_same_hash(vector, monkeypatch):
    monkeypatch.setattr("os.urandom", lambda size: bytes.fromhex(vector["salt"])[:size])

    assert hash_password(vector["password"]) == vector["hash"]


@each("matches")
def test_frozen_hash_matches_its_password_alone(vector):
    assert check_password(vector["password"], vector["hash"]) is vector["matches"]


@each("refused_hashes")
def test_hash_of_other_costs_is_refused_before_it_is_computed(vector):
    began = time.thread_time()

    refuses(check_password, "a short sentence", vector["hash"])

    assert time.thread_time() - began < 0.02


@pytest.mark.slow
def test_unknown_address_costs_as_much_as_a_wrong_password():
    known = VECTORS["hashes"][0]["hash"]

    def seconds(hashed):
        began = time.thread_time()
        assert not check_password("a wrong password", hashed)
        return time.thread_time() - began

    wrong, unknown = (min(seconds(hashed) for _ in range(3)) for hashed in (known, None))
    assert wrong / 2 < unknown < 2 * wrong
    assert unknown > 0.05


def test_half_a_surrogate_pair_is_a_wrong_password():
    assert not check_password("\ud83d a short sentence", VECTORS["hashes"][0]["hash"])


def test_two_hashes_of_one_password_differ():
    assert hash_password("a short sentence") != hash_password("a short sentence")
