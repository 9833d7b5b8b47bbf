"""A proof covers exactly one call, in the form in which Postgres writes its fields."""

import hashlib
import json
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.crypto import ServerProof, sha
from services.crypto.proof import claim
from services.domain import Outcome

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "proofs.json").read_text())
ANA = UUID("11111111-2222-4333-8444-555555555555")
KEY = bytes(range(32))

fields = st.lists(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.uuids() | st.text(), max_size=5
)


def field_of(vector):
    match vector:
        case {"id": value}:
            return UUID(value)
        case {"sha": value}:
            return sha(value)
        case _:
            return vector


def written(field):
    """Return a field as SQL writes it: `coalesce(field::text, '')`."""
    return "" if field is None else str(field).lower() if isinstance(field, bool) else str(field)


@pytest.mark.parametrize("vector", VECTORS["proofs"], ids=lambda vector: vector["name"])
def test_claims_and_proofs_are_those_of_postgres(vector):
    proof = ServerProof(bytes.fromhex(VECTORS["key"]))
    given_fields = [field_of(field) for field in vector["fields"]]

    match vector:
        case {"kind": "of_person", "verb": verb, "user": user}:
            assert claim(verb, UUID(user), *given_fields) == vector["claim"]
            assert proof.of_person(verb, UUID(user), *given_fields) == vector["proof"]
        case {"kind": "of_server", "verb": verb, "made_at": made_at}:
            assert claim("server", made_at, verb, *given_fields) == vector["claim"]
            assert proof.of_server(verb, made_at, *given_fields) == vector["proof"]
        case _:
            pytest.fail("a vector of no kind")


@given(fields, fields)
def test_claim_has_one_line_for_each_field(before, after):
    assume(not any("\n" in written(field) for field in [*before, *after]))

    lines = claim("verb", *before, *after).split("\n")

    assert lines == ["verb", *(written(field) for field in [*before, *after])]


@given(st.text(), st.text())
def test_line_break_in_a_field_is_refused(before, after):
    with pytest.raises(ValueError, match="line break") as refusal:
        claim("verb", ANA, f"{before}\n{after}")

    assert str(refusal.value) == "a field of a proof holds a line break: pass its sha256"


def test_enum_is_written_as_its_value():
    assert claim("finish_turn", Outcome.STOPPED) == "finish_turn\nstopped"


def test_only_none_has_an_empty_hash():
    assert sha(None) == ""
    assert sha("") == hashlib.sha256(b"").hexdigest()
    assert sha("Grüße\n") == hashlib.sha256("Grüße\n".encode()).hexdigest()


def test_repr_hides_the_proof_key():
    assert KEY.hex() not in repr(ServerProof(KEY))
    assert repr(KEY) not in repr(ServerProof(KEY))
