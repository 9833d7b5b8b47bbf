"""The vault follows its specification, byte for byte."""

import base64
import hashlib
import hmac
import json
import re
import string
import traceback
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.crypto import LARGEST_PIECE, LARGEST_TEXT, Head, Place, Vault
from services.crypto.vault import padded_size
from services.errors import Tampered

VECTORS = Path(__file__).parents[1] / "vectors"
TOKENS = json.loads((VECTORS / "tokens.json").read_text())
HEADS = json.loads((VECTORS / "heads.json").read_text())
PIECES = json.loads((VECTORS / "pieces.json").read_text())

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
ANA = UUID("11111111-2222-4333-8444-555555555555")
BEN = UUID("66666666-7777-4888-8999-aaaaaaaaaaaa")
GARDEN = UUID("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
KITCHEN = UUID("bbbbbbbb-cccc-4ddd-8eee-ffffffffffff")
FIRST = UUID("01010101-0101-4101-8101-010101010101")
SECOND = UUID("02020202-0202-4202-8202-020202020202")
PLACE = Place(
    table="messages",
    column="body",
    row_id=SECOND,
    user_id=ANA,
    conversation_id=GARDEN,
    seq=2,
    parent_id=FIRST,
    role="assistant",
)
ELSEWHERE = [
    replace(PLACE, table="turns"),
    replace(PLACE, column="partial"),
    replace(PLACE, row_id=FIRST),
    replace(PLACE, user_id=BEN),
    replace(PLACE, conversation_id=KITCHEN),
    replace(PLACE, conversation_id=None),
    replace(PLACE, seq=3),
    replace(PLACE, parent_id=SECOND),
    replace(PLACE, parent_id=None),
    replace(PLACE, role="user"),
    replace(PLACE, conversation_id=FIRST, parent_id=GARDEN),
]
HEAD_PLACE = Place(
    table="conversations", column="head", row_id=GARDEN, user_id=ANA, conversation_id=GARDEN
)
LARGEST_TOKEN = 400_000  # octets; the limit of the domain `sealed`
CANARY = "canary in a coal mine"

uuids = st.uuids()
places = st.builds(
    Place,
    table=st.sampled_from(["messages", "message", "conversations", ""]),
    column=st.sampled_from(["body", "sbody", "title", ""]),
    row_id=uuids,
    user_id=uuids,
    conversation_id=st.none() | uuids,
    seq=st.integers(0, 2**64 - 1),
    parent_id=st.none() | uuids,
    role=st.sampled_from(["user", "assistant", "system", ""]),
)


# --- the specification, followed by hand ----------------------------------------------------------------


def hkdf(key, salt, info, length):
    pseudorandom = hmac.digest(salt or bytes(32), key, "sha256")
    block, out = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(pseudorandom, block + info + bytes([number]), "sha256")
        out += block
    return out[:length]


def place_octets(kind, place, version):
    def text(name):
        return bytes([len(name.encode())]) + name.encode()

    def optional(id_):
        return bytes(17) if id_ is None else b"\1" + id_.bytes

    return (
        text(kind)
        + text(place.table)
        + text(place.column)
        + text(place.role)
        + version.to_bytes(4)
        + place.row_id.bytes
        + place.user_id.bytes
        + place.seq.to_bytes(8)
        + optional(place.conversation_id)
        + optional(place.parent_id)
    )


def seal_by_hand(key, place, body, salt):
    derived = hkdf(key, salt, place, 48)
    sealed = AESGCM(derived[:32]).encrypt(bytes(12), body, place)
    return encoded_(salt + derived[32:] + sealed)


def text_body(text, size):
    octets = text.encode()
    return (len(octets).to_bytes(4) + octets).ljust(size, b"\0")


def place_of(vector):
    ids = {
        name: UUID(value) if value and name.endswith("_id") else value
        for name, value in vector.items()
    }
    return Place(**ids)


def use_salt(monkeypatch, salt):
    monkeypatch.setattr("services.crypto.vault.os.urandom", lambda size: bytes.fromhex(salt))


def refuses(read, *arguments):
    with pytest.raises(Tampered):
        read(*arguments)


def sealed_examples(vault, text="hello"):
    """Return a sealed text, octets, a wrapped key and a sealed head, each with the function that opens it."""
    octets = vault.seal_octets(text.encode(), PLACE)
    return (
        (vault.seal(text, PLACE), lambda token: vault.open(token, PLACE)),
        (octets, lambda token: vault.open_octets(token, PLACE)),
        (vault.wrap(OTHER_KEY, PLACE), lambda token: vault.unwrap(token, PLACE)),
        (
            vault.seal_head(Head(3, 2, 2, 1), ANA, GARDEN),
            lambda token: vault.open_head(token, ANA, GARDEN),
        ),
    )


def test_token_built_from_the_specification_opens():
    token = seal_by_hand(KEY, place_octets("p1", PLACE, 7), text_body("hello", 64), bytes(24))

    assert Vault(KEY, 7).open(f"p1.7.{token}", PLACE) == "hello"


def test_head_built_from_the_specification_opens():
    body = b"".join(number.to_bytes(8) for number in (5, 4, 3)) + (2).to_bytes(32)
    token = seal_by_hand(KEY, place_octets("h1", HEAD_PLACE, 7), body, bytes(24))

    assert Vault(KEY, 7).open_head(f"h1.{token}", ANA, GARDEN) == Head(5, 4, 3, 2)


def test_row_mac_follows_the_specification():
    token = Vault(KEY, 7).seal("hello", PLACE)
    row_key = hkdf(KEY, b"", b"daybook p1 row", 32)
    message = place_octets("p1", PLACE, 7) + token.encode()

    assert (
        Vault(KEY, 7).row_mac(token, PLACE) == hmac.new(row_key, message, hashlib.sha256).digest()
    )


# --- the frozen vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", TOKENS["opens"], ids=lambda vector: vector["name"])
def test_frozen_tokens_open_and_are_sealed_again(vector, monkeypatch):
    vault, place = Vault(bytes.fromhex(vector["key"]), vector["version"]), place_of(vector["place"])
    use_salt(monkeypatch, vector["salt"])

    assert vault.open(vector["token"], place) == vector["text"]
    assert vault.seal(vector["text"], place) == vector["token"]
    assert place_octets("p1", place, vector["version"]).hex() == vector["place_octets"]
    assert vault.row_mac(vector["token"], place).hex() == vector["row_mac"]


@pytest.mark.parametrize("vector", HEADS["opens"], ids=lambda vector: vector["name"])
def test_frozen_heads_open_and_are_sealed_again(vector, monkeypatch):
    vault = Vault(bytes.fromhex(vector["key"]), vector["version"])
    ids = UUID(vector["user_id"]), UUID(vector["conversation_id"])
    use_salt(monkeypatch, vector["salt"])
    head = head_of(vault, [(place_of(row["place"]), row["token"]) for row in vector["rows"]])

    assert vault.open_head(vector["token"], *ids) == head
    assert vault.seal_head(head, *ids) == vector["token"]
    assert (head.rev, head.count, head.last_seq) == tuple(vector["numbers"])
    assert head.total == int(vector["total"], 16)


@pytest.mark.parametrize("vector", PIECES["opens"], ids=lambda vector: vector["name"])
def test_frozen_pieces_open_and_are_sealed_again(vector, monkeypatch):
    vault, place = Vault(bytes.fromhex(vector["key"]), vector["version"]), place_of(vector["place"])
    use_salt(monkeypatch, vector["salt"])
    octets = bytes.fromhex(vector["octets"])

    assert vault.open_octets(vector["token"], place) == octets
    assert vault.seal_octets(octets, place) == vector["token"]
    assert place_octets("o1", place, vector["version"]).hex() == vector["place_octets"]
    assert vault.piece_mac(vector["token"], place).hex() == vector["piece_mac"]


@pytest.mark.parametrize("vector", PIECES["rows"], ids=lambda vector: vector["name"])
def test_frozen_row_macs_cover_the_list_of_attachments(vector):
    vault, place = Vault(bytes.fromhex(vector["key"]), vector["version"]), place_of(vector["place"])

    mac = vault.row_mac(vector["token"], place, vector["attachments"])

    assert mac.hex() == vector["row_mac"]


REFUSED = {f"text: {vector['name']}": vector for vector in TOKENS["refused"]}
REFUSED |= {f"head: {vector['name']}": vector for vector in HEADS["refused"]}


@pytest.mark.parametrize("vector", PIECES["refused"], ids=lambda vector: vector["name"])
def test_frozen_failures_of_pieces_stay_failures(vector):
    vault = Vault(bytes.fromhex(vector["key"]), vector["version"])

    refuses(vault.open_octets, vector["token"], place_of(vector["place"]))


@pytest.mark.parametrize("vector", REFUSED.values(), ids=REFUSED)
def test_frozen_failures_stay_failures(vector):
    vault = Vault(bytes.fromhex(vector["key"]), vector["version"])

    if "place" in vector:
        refuses(vault.open, vector["token"], place_of(vector["place"]))
    else:
        ids = UUID(vector["user_id"]), UUID(vector["conversation_id"])
        refuses(vault.open_head, vector["token"], *ids)


# --- sealing and opening --------------------------------------------------------------------------------


@given(st.text(), places, st.binary(min_size=32, max_size=32), st.integers(1, 999_999_999))
@example("", PLACE, KEY, 1)
@example("\0", PLACE, KEY, 1)
@example("😀" * 300, PLACE, KEY, 999_999_999)
def test_sealed_text_opens(text, place, key, version):
    vault = Vault(key, version)

    assert vault.open(vault.seal(text, place), place) == text


@pytest.mark.parametrize("seq", [-1, 2**64])
def test_nothing_opens_at_a_seq_out_of_range(seq):
    refuses(Vault(KEY).open, Vault(KEY).seal("hello", PLACE), replace(PLACE, seq=seq))


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_moved_key_does_not_unwrap(elsewhere):
    vault = Vault(KEY)

    refuses(vault.unwrap, vault.wrap(OTHER_KEY, PLACE), elsewhere)


def test_every_place_has_its_own_row_mac():
    macs = {Vault(KEY).row_mac("p1.1.token", place) for place in [PLACE, *ELSEWHERE]}

    assert len(macs) == 1 + len(ELSEWHERE)
    assert Vault(KEY).row_mac("p1.1.other", PLACE) not in macs
    assert Vault(KEY, 2).row_mac("p1.1.token", PLACE) not in macs
    assert Vault(OTHER_KEY).row_mac("p1.1.token", PLACE) not in macs


def test_flipped_bit_is_refused():
    for token, opened in sealed_examples(Vault(KEY)):
        *prefix, encoded = token.split(".")
        octets = decoded(encoded)
        for bit in range(len(octets) * 8):
            flipped = bytearray(octets)
            flipped[bit // 8] ^= 1 << bit % 8
            refuses(opened, ".".join([*prefix, encoded_(flipped)]))


def test_truncated_or_extended_token_is_refused():
    for token, opened in sealed_examples(Vault(KEY)):
        for length in range(len(token)):
            refuses(opened, token[:length])
        added = (token + "A", token + "AAAA", " " + token, token + "\n")
        for changed in (*added, token[:1].upper() + token[1:], token[:1] + "2" + token[2:]):
            refuses(opened, changed)


def test_token_has_one_spelling():
    # base64 leaves 0, 2 or 4 unused bits in the last character, and decoders skip foreign ones
    vault = Vault(KEY)
    for token, opened in (*sealed_examples(vault, "x" * 60), *sealed_examples(vault, "x" * 61)):
        opened(token)
        spellings = {token[:-1] + last for last in string.ascii_letters + string.digits + "-_=+/ "}
        spellings |= {token[:20] + foreign + token[20:] for foreign in "\n =*+é"}
        spellings |= {token + "=", token + "==", token.replace("-", "+").replace("_", "/")}
        for spelling in spellings - {token}:
            refuses(opened, spelling)


def test_tokens_of_one_text_differ():
    tokens = {Vault(KEY).seal(CANARY, PLACE) for _ in range(500)}

    assert len({token[5:37] for token in tokens}) == 500, "a salt came twice"
    assert not any(CANARY in token for token in tokens)


@pytest.mark.parametrize(
    "body",
    [
        *(text_body("hello", 63), text_body("hello", 65)),
        *((2**32 - 1).to_bytes(4) + bytes(60), b"\0\0\0\1\xff".ljust(64, b"\0"), b"", KEY),
    ],
    ids=["short", "long", "far past the end", "no UTF-8", "empty", "a key"],
)
def test_body_with_other_padding_is_refused(body):
    token = seal_by_hand(KEY, place_octets("p1", PLACE, 1), body, bytes(24))

    refuses(Vault(KEY).open, f"p1.1.{token}", PLACE)


def test_text_does_not_unwrap_as_a_key():
    refuses(Vault(KEY).unwrap, Vault(KEY).seal("hello", PLACE), PLACE)


@given(st.binary(), places, st.integers(1, 999_999_999))
def test_octets_open_as_octets_alone(octets, place, version):
    vault = Vault(KEY, version)
    token = vault.seal_octets(octets, place)

    assert vault.open_octets(token, place) == octets
    for marked in (token, "p1" + token[2:]):
        refuses(vault.open, marked, place)
        refuses(vault.unwrap, marked, place)


def test_text_does_not_open_as_octets():
    vault = Vault(KEY)
    for token in (vault.seal("hello", PLACE), vault.wrap(KEY, PLACE)):
        refuses(vault.open_octets, token, PLACE)
        refuses(vault.open_octets, "o1" + token[2:], PLACE)


def test_every_place_has_its_own_piece_mac():
    macs = {Vault(KEY).piece_mac("o1.1.token", place) for place in [PLACE, *ELSEWHERE]}

    assert len(macs) == 1 + len(ELSEWHERE)
    assert Vault(KEY).piece_mac("o1.1.other", PLACE) not in macs
    assert Vault(KEY).row_mac("o1.1.token", PLACE) not in macs


# --- padding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "padded"),
    [
        ((0, 64), 64),
        ((65, 72), 72),
        ((73, 80), 80),
        ((256,), 256),
        ((257,), 272),
        ((1000,), 1024),
        ((1500,), 1536),
        ((65_537,), 67_584),
        ((294_912,), 294_912),
    ],
)
def test_sizes_are_rounded_by_padme(sizes, padded):
    assert {padded_size(size) for size in sizes} == {padded}


@given(st.integers(0, 10**9))
def test_padding_costs_at_most_twelve_percent(size):
    padded = padded_size(size)

    assert max(size, 64) <= padded <= max(1.12 * size, 64)
    assert padded_size(padded) == padded
    assert padded_size(size + 1) >= padded


def test_sealed_body_has_its_padded_size():
    for size in (0, 60, 61, 1000, 5000, LARGEST_TEXT):
        encoded = Vault(KEY).seal("x" * size, PLACE).rpartition(".")[2]
        assert len(decoded(encoded)) == 24 + 16 + padded_size(size + 4) + 16


# --- texts that cannot be sealed ----------------------------------------------------------------------


def test_largest_text_fits_the_database():
    token = Vault(KEY, 999_999_999).seal("x" * LARGEST_TEXT, PLACE)

    assert len(token) <= LARGEST_TOKEN
    assert Vault(KEY, 999_999_999).open(token, PLACE) == "x" * LARGEST_TEXT


def test_largest_piece_fits_the_database():
    token = Vault(KEY, 999_999_999).seal_octets(bytes(LARGEST_PIECE), PLACE)

    assert len(token) <= LARGEST_TOKEN
    assert Vault(KEY, 999_999_999).open_octets(token, PLACE) == bytes(LARGEST_PIECE)


def test_larger_piece_is_neither_sealed_nor_opened():
    with pytest.raises(ValueError, match="262144 octets"):
        Vault(KEY).seal_octets(bytes(LARGEST_PIECE + 1), PLACE)
    size = LARGEST_PIECE + 1
    body = size.to_bytes(4).ljust(padded_size(size + 4), b"\0")
    token = seal_by_hand(KEY, place_octets("o1", PLACE, 1), body, bytes(24))

    refuses(Vault(KEY).open_octets, f"o1.1.{token}", PLACE)


def test_next_larger_text_would_not_fit():
    longer = padded_size(LARGEST_TEXT + 1 + 4)

    assert len("p1.999999999.") + -(-(24 + 16 + longer + 16) * 4 // 3) > LARGEST_TOKEN


@pytest.mark.parametrize("text", ["x" * (LARGEST_TEXT + 1), "ü" * LARGEST_TEXT, "a\ud800b"])
def test_unsealable_text_is_refused_without_quoting_it(text):
    with pytest.raises(ValueError, match="294908 octets") as refusal:
        Vault(KEY).seal(text, PLACE)

    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None, "a UnicodeEncodeError would carry the whole text"


@given(st.text(max_size=200), places, st.integers(1, 999_999_999))
@settings(max_examples=50)
def test_every_token_matches_the_database_domain(text, place, version):
    vault = Vault(KEY, version)
    sealed = re.compile(r"p[1-9]\.[1-9][0-9]{0,8}\.[A-Za-z0-9_-]{75,}")
    sealed_octets = re.compile(r"o[1-9]\.[1-9][0-9]{0,8}\.[A-Za-z0-9_-]{75,}")
    sealed_head = re.compile(r"h[1-9]\.[A-Za-z0-9_-]{118,255}")

    assert sealed.fullmatch(vault.seal(text, place))
    assert sealed.fullmatch(vault.wrap(OTHER_KEY, place))
    assert sealed_octets.fullmatch(vault.seal_octets(text.encode(), place))
    assert sealed_head.fullmatch(vault.seal_head(Head(), ANA, GARDEN))
    assert sealed_head.fullmatch(
        vault.seal_head(Head(2**64 - 1, 2**64 - 1, 2**64 - 1, 2**256 - 1), ANA, GARDEN)
    )


@pytest.mark.parametrize(
    ("key", "version"), [(b"", 1), (KEY[:31], 1), (KEY + b"x", 1), (KEY, 0), (KEY, 10**9)]
)
def test_vault_refuses_invalid_keys_and_versions(key, version):
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(key, version)


def test_only_keys_are_wrapped():
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(KEY).wrap(b"short", PLACE)


# --- heads ----------------------------------------------------------------------------------------------


def head_of(vault, rows):
    head = Head()
    for place, token in rows:
        head = head.add(vault.row_mac(token, place), place.seq)
    return head


def conversation_of(vault, size):
    rows, parent = [], None
    for seq in range(1, size + 1):
        role = "user" if seq % 2 else "assistant"
        place = replace(PLACE, row_id=UUID(int=seq), seq=seq, parent_id=parent, role=role)
        rows.append((place, vault.seal(f"message {seq}", place)))
        parent = place.row_id
    return head_of(vault, rows), rows


def test_head_does_not_depend_on_message_order():
    vault = Vault(KEY)
    head, rows = conversation_of(vault, 12)

    assert (head.rev, head.count, head.last_seq) == (12, 12, 12)
    assert head_of(vault, rows) == head_of(vault, rows[::-1]) == head


def test_head_detects_missing_added_swapped_and_replayed_messages():
    vault = Vault(KEY)
    head, rows = conversation_of(vault, 12)
    (place_a, token_a), (place_b, token_b) = rows[2], rows[4]
    swapped = [*rows[:2], (place_a, token_b), rows[3], (place_b, token_a), *rows[5:]]
    moved = (replace(place_a, seq=5), token_a), rows[3], (replace(place_b, seq=3), token_b)
    renumbered = [*rows[:2], *moved, *rows[5:]]
    other = vault.seal("message 12, edited", rows[-1][0])

    for changed in (
        [],
        rows[:-1],
        rows[1:],
        [*rows, rows[0]],
        [*rows[1:], rows[-1]],
        swapped,
        renumbered,
        [*rows[:-1], (rows[-1][0], other)],
    ):
        assert head_of(vault, changed) != head
        assert head_of(vault, changed).total != head.total, "a sum alone must tell"


@given(
    st.lists(st.binary(min_size=32, max_size=32), max_size=6), st.binary(min_size=32, max_size=32)
)
def test_remove_undoes_add_except_for_the_rev(added, mac):
    head = Head()
    for seq, one in enumerate(added, 1):
        head = head.add(one, seq)

    after = head.add(mac, len(added) + 1).remove(mac)

    assert after == Head(head.rev + 2, head.count, len(added) + 1, head.total)


def test_removing_too_many_messages_is_tampered():
    refuses(Head().remove, bytes(32))


def test_head_hides_its_sum():
    total = 2**255 + 12345
    token = Vault(KEY).seal_head(Head(1, 1, 1, total), ANA, GARDEN)

    assert total.to_bytes(32) not in decoded(token.removeprefix("h1."))
    assert str(total) not in repr(Head(1, 1, 1, total))


# --- reprs and tracebacks -----------------------------------------------------------------------------


def test_failure_has_one_message_and_no_secret():
    vault = Vault(KEY)
    token = vault.seal(CANARY, PLACE)
    said = set()
    for changed, place in (
        (token, ELSEWHERE[0]),
        (token[:-2] + "AA", PLACE),
        ("p1.1.x", PLACE),
        ("", PLACE),
    ):
        with pytest.raises(Tampered) as failure:
            vault.open(changed, place)
        shown = "".join(traceback.format_exception(failure.value))
        with_locals = full_traceback(failure.value)
        said.add(str(failure.value))
        assert failure.value.__context__ is None
        assert CANARY not in with_locals
        assert token not in shown
        for secret in secrets_of(vault, token):
            assert repr(secret)[2:-1] not in with_locals

    assert said == {"stored data cannot be opened"}


def full_traceback(error):
    """Return the traceback of *error* with the locals of its frames, except the test's own."""
    ours = error.__traceback__.tb_next
    shown = traceback.TracebackException(type(error), error, ours, capture_locals=True)
    return "".join(shown.format())


def secrets_of(vault, token):
    salt = decoded(token.rpartition(".")[2])[:24]
    derived = hkdf(KEY, salt, place_octets("p1", PLACE, 1), 48)
    return [KEY, derived, derived[:32], hkdf(KEY, b"", b"daybook p1 row", 32)]


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded_(octets):
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")
