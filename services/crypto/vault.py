r"""Sealed texts and octets, wrapped keys and thread heads: their format, version 1.

This docstring is the specification; the test vectors in `tests/vectors/*.json` freeze it. A changed format gets a new
version (`p2`, `o2`, `h2`) beside the old one; the formats specified here never change.

Guarantees: a holder of the database (a dump, a backup, a write-ahead log, the SQL console) reads no content,
and a reader with the key detects every sealed text that was changed or moved, and every message that was
swapped, repeated, added or dropped. Not guaranteed: sizes (padded), times, counts, ids and the outcomes of
replies stay visible and are not authenticated; a title can be replaced by an earlier one; unless the reader
remembers the later revision, a document can be rolled back with its revision, and a whole conversation with its head;
and all data can be deleted.

**Notation.** `||` joins octets, `u8`/`u32`/`u64` are unsigned big-endian integers, `text(s)` is
`u8(octets of s) || s` in UTF-8, `base64url` is RFC 4648 section 5 without padding. HKDF is RFC 5869
and HMAC RFC 2104, both with SHA-256. AES-256-GCM is NIST SP 800-38D with a 16-octet tag.

**Place**, the associated data. It is not stored: the reader builds it from the row that it reads.

    place = text(format) || text(table) || text(column) || text(role)
            || u32(key version) || row id (16) || user id (16) || u64(seq)
            || optional(conversation id) || optional(parent id)
    optional(id) = u8(1) || id (16), or u8(0) || 16 zero octets where there is none

`format` is `p1`, `o1` or `h1`. Every field has a fixed length or a length prefix, so no two places have the same
encoding, and none is a prefix of another. Columns outside messages have no role (`""`) and no seq
(0), unless the table of places in keyring.py gives one.

**Sealing** a body at a place, under a 32-octet key:

    salt              = 24 random octets
    key || commitment = HKDF(ikm = the vault's key, salt, info = place, length = 32 + 16)
    sealed            = AES-256-GCM(key, nonce = 12 zero octets, body, associated data = place)
    token             = "p1." || decimal(key version) || "." || base64url(salt || commitment || sealed)

- *One message key each.* 24 random octets do not repeat, so the zero nonce is used only once with each key;
  the limit of 2^32 messages per key for random 96-bit nonces (SP 800-38D, 8.3) does not apply, and
  nothing has to be counted or remembered across processes.
- *Commitment.* GCM alone lets an attacker build one ciphertext that opens under two keys. The commitment
  is compared first, in constant time: a token opens only under the key and at the place that sealed it. Its 16
  octets hold against attackers without the keys; an attacker with two keys could find a match in 2^64 steps.
- *Place in `info` and as associated data.* At another place, another key is derived. GCM gets the
  place as well, because readers of this code expect to find it there.
- *Key version* is in the token (to find the key) and in the place (so that it cannot be changed). It is
  a decimal of 1 to 9 digits that does not begin with 0. A reader never tries one key after another.
- *One spelling.* A reader encodes the decoded octets again and compares: base64 with other unused bits,
  padding, white space or foreign characters is refused, because row MACs are computed over the token.

**Text.** The body of a text is

    u32(octets of the UTF-8 text) || the UTF-8 text || zero octets

up to the length Padmé gives (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
Communication with PURBs", PoPETs 2019): a length L of at least 64 octets is rounded up to a multiple of
2^(E - S), where E = floor(log2 L) and S = floor(log2 E) + 1. Only the O(log log L) leading bits of a length
show, for at most 12 % more octets; the minimum is 64, because "yes" and "no" would otherwise differ in length. A
body that differs from this encoding of its text is refused. The text has at most 294,908 octets: the longest padded body
whose token, with a key version of 9 digits, fits the 400,000 octets of the database's domain `sealed`. There
is no compression, because compressed lengths reveal repetitions in a text.

**Octets**, the pieces of attachments, are sealed like texts at a place of the format `o1`:

    body  = u32(number of octets) || the octets || zero octets, up to the length Padmé gives
    token = "o1." || decimal(key version) || "." || base64url(salt || commitment || sealed)

A body that differs from this encoding is refused. A piece has at most 262,144 octets. As the format is part of the place,
no text opens as octets, and no octets as a text or a key.

**Keys** are wrapped unpadded: the body is the 32 octets, without length or padding.

**Row MAC**: HMAC(HKDF(ikm = the vault's key, info = "daybook p1 row"), place || token || list), 32 octets. It
binds the row to its place and to its exact token, and is never stored. `list` is u8(10) || the token of the
message's sealed list of attachments; without such a list it is empty. (No token holds the octet 10.)

**Piece MAC**: HMAC(HKDF(ikm = the vault's key, info = "daybook p1 piece"), place || token), 32 octets. The
sealed list of attachments has one for each piece, in order: so a head covers all pieces of its messages,
and can be checked without reading a piece.

**Head**, one for each conversation: it proves that the conversation consists of exactly these rows.

    body  = u64(rev) || u64(count) || u64(last seq) || total (32)
    total = the sum of the row MACs of all its messages, modulo 2^256
    head  = "h1." || base64url(salt || commitment || sealed), sealed as above, at the place
            (format h1, table conversations, column head, row id = conversation id, user, conversation)

The sum is MSet-Add-Hash (Clarke et al., "Incremental Multiset Hash Functions and Their Application to
Memory Integrity Checking", ASIACRYPT 2003): adding or removing a row costs one addition, whatever the
length of the conversation, and rows may come in any order, as seq and parent are in their MACs. The authors' proof
needs the sum to be hidden, and a MAC beside the sum would not hide it: with enough old heads an attacker could look for
other rows with the same sum. So the head is sealed, not signed. A reader adds up the rows that it
read, and compares their count and sum with those in the head, and the head's rev and last seq with those in the
conversation's row. Deleted messages are subtracted from count and sum at once, with one new rev; the last seq stays.

**Subkeys** are HKDF(ikm, salt = none unless one is named, info = "daybook p1 " || label, length = 32). No
place begins with these octets, because the first octet of a place is 2.

**Failure** is always `Tampered`, which never says which check failed. It is raised in a frame that
holds no derived key, and without a chained exception, so that no traceback contains one.
"""

import base64
import binascii
import hmac
import os
import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.errors import Tampered

KEY_BYTES = 32
LARGEST_TEXT = 294_908  # maximum octets of a text in UTF-8
LARGEST_PIECE = 262_144  # maximum octets of a piece of an attachment
LARGEST_VERSION = 999_999_999

_SALT_BYTES = 24
_COMMITMENT_BYTES = 16
_TAG_BYTES = 16
_LEAST_BLOB = _SALT_BYTES + _COMMITMENT_BYTES + _TAG_BYTES
_NONCE = bytes(12)
_LEAST_BODY = 64
_NO_ID = bytes(16)
_MODULUS = 1 << 256
_LARGEST_SEQ = (1 << 64) - 1

_Format = Literal["p1", "o1", "h1"]

_PLACE = struct.Struct(">I16s16sQ?16s?16s")
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">QQQ32s")
_VERSION = re.compile(r"p1\.([1-9][0-9]{0,8})\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The position in the database to which a token is bound, as associated data. A token opens only at its place."""

    table: str
    column: str
    row_id: UUID
    user_id: UUID
    conversation_id: UUID | None = None
    seq: int = 0
    parent_id: UUID | None = None
    role: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """A multiset hash of a conversation's messages. A reader compares the head of the rows that it read with the stored head."""

    rev: int = 0
    count: int = 0
    last_seq: int = 0
    # the sum of the row MACs; kept secret, because an attacker could search for other rows with the same sum
    total: int = field(default=0, repr=False)

    def add(self, mac: bytes, seq: int) -> "Head":
        """Return the head with one more message. The revision (rev) grows by one, as in the database."""
        total = (self.total + int.from_bytes(mac)) % _MODULUS
        return Head(self.rev + 1, self.count + 1, max(self.last_seq, seq), total)

    def remove(self, *macs: bytes) -> "Head":
        """Return the head without the messages that have *macs*. Its last seq does not change.

        Raise Tampered if the head has fewer messages than *macs*.
        """
        if len(macs) > self.count:
            raise Tampered
        total = (self.total - sum(map(int.from_bytes, macs))) % _MODULUS
        return Head(self.rev + 1, self.count - len(macs), self.last_seq, total)

    def put_back(self, *macs: bytes) -> "Head":
        """Return the head with the removed messages that have *macs* added again."""
        total = (self.total + sum(map(int.from_bytes, macs))) % _MODULUS
        return Head(self.rev + 1, self.count + len(macs), self.last_seq, total)

    def is_of(self, read: "Head") -> bool:
        """Return True if *read*, the head computed from the rows that were read, covers exactly the messages of this head."""
        return (self.count, self.total) == (read.count, read.total)


class Vault:
    """Seals and opens texts under one key. The repr shows the key version only."""

    __slots__ = ("_key", "_octets_prefix", "_prefix", "_row_key", "version")

    def __init__(self, key: bytes, version: int = 1) -> None:
        if len(key) != KEY_BYTES or not 1 <= version <= LARGEST_VERSION:
            raise ValueError("a vault needs a key of 32 bytes and a version from 1 to 999999999")
        self.version = version
        self._key = key
        self._row_key = subkey(key, "row")
        self._prefix, self._octets_prefix = f"p1.{version}.", f"o1.{version}."

    def __repr__(self) -> str:
        return f"Vault(version={self.version})"

    def seal(self, plaintext: str, place: Place) -> str:
        """Seal *plaintext*; return the token. Raise ValueError if the text is too long or has a lone surrogate."""
        octets = _encoded_text(plaintext)
        if octets is None:
            raise ValueError(f"only Unicode text of at most {LARGEST_TEXT} octets can be sealed")
        return self._prefix + self._sealed(_padded(octets), self._encoded("p1", place))

    def open(self, token: str, place: Place) -> str:
        """Open *token*; return the text. Raise Tampered unless this key sealed it at this place."""
        body = self._opened(self._prefix, token, self._encoded("p1", place))
        text = None if body is None else _text_of(body)
        if text is None:
            raise Tampered
        return text

    def seal_octets(self, octets: bytes, place: Place) -> str:
        """Seal *octets*; return the token. Raise ValueError if there are more than `LARGEST_PIECE`."""
        if len(octets) > LARGEST_PIECE:
            raise ValueError(f"only {LARGEST_PIECE} octets can be sealed at once")
        return self._octets_prefix + self._sealed(_padded(octets), self._encoded("o1", place))

    def open_octets(self, token: str, place: Place) -> bytes:
        """Open *token*; return the octets. Raise Tampered unless this key sealed them at this place."""
        body = self._opened(self._octets_prefix, token, self._encoded("o1", place))
        octets = None if body is None else _unpadded(body)
        if octets is None or len(octets) > LARGEST_PIECE:
            raise Tampered
        return octets

    def wrap(self, key: bytes, place: Place) -> str:
        """Wrap *key* under this vault's key; return the token."""
        if len(key) != KEY_BYTES:
            raise ValueError("a key has 32 bytes")
        return self._prefix + self._sealed(key, self._encoded("p1", place))

    def unwrap(self, token: str, place: Place) -> bytes:
        """Unwrap *token*; return the key. Raise Tampered unless this key wrapped it at this place."""
        key = self._opened(self._prefix, token, self._encoded("p1", place))
        if key is None or len(key) != KEY_BYTES:
            raise Tampered
        return key

    def row_mac(self, token: str, place: Place, attachments: str | None = None) -> bytes:
        """Return the MAC of a message and its sealed list of *attachments*. The conversation's head contains the sum of the MACs."""
        tokens = token if attachments is None else f"{token}\n{attachments}"
        return hmac.digest(self._row_key, self._encoded("p1", place) + tokens.encode(), "sha256")

    def piece_mac(self, token: str, place: Place) -> bytes:
        """Return the MAC of a piece of an attachment, which is stored in the message's list of attachments."""
        key = subkey(self._key, "piece")
        return hmac.digest(key, self._encoded("o1", place) + token.encode(), "sha256")

    def seal_head(self, head: Head, user_id: UUID, conversation_id: UUID) -> str:
        """Seal *head*; return the token."""
        body = _HEAD.pack(head.rev, head.count, head.last_seq, head.total.to_bytes(32))
        return "h1." + self._sealed(
            body, self._encoded("h1", _head_place(user_id, conversation_id))
        )

    def open_head(self, token: str, user_id: UUID, conversation_id: UUID) -> Head:
        """Open the head in *token*. Raise Tampered unless this key sealed it for this conversation."""
        place = self._encoded("h1", _head_place(user_id, conversation_id))
        body = self._opened("h1.", token, place)
        if body is None:
            raise Tampered
        rev, count, last_seq, total = _HEAD.unpack(body)
        return Head(rev, count, last_seq, int.from_bytes(total))

    def _encoded(self, kind: _Format, place: Place) -> bytes:
        """Encode *place*. Raise Tampered if its seq is not an unsigned 64-bit number, as may happen in a manipulated row."""
        if not 0 <= place.seq <= _LARGEST_SEQ:
            raise Tampered
        conversation, parent = place.conversation_id, place.parent_id
        return _names(kind, place.table, place.column, place.role) + _PLACE.pack(
            self.version,
            place.row_id.bytes,
            place.user_id.bytes,
            place.seq,
            conversation is not None,
            _NO_ID if conversation is None else conversation.bytes,
            parent is not None,
            _NO_ID if parent is None else parent.bytes,
        )

    def _sealed(self, body: bytes, place: bytes) -> str:
        salt = os.urandom(_SALT_BYTES)
        derived = self._derived(salt, place)
        sealed = AESGCM(derived[:KEY_BYTES]).encrypt(_NONCE, body, place)
        return encode_base64url(salt + derived[KEY_BYTES:] + sealed)

    def _opened(self, prefix: str, token: str, place: bytes) -> bytes | None:
        """Return the decrypted body; None on failure, because the traceback of an exception would hold a derived key."""
        if not token.startswith(prefix):
            return None
        blob = decode_base64url(token[len(prefix) :])
        if blob is None or len(blob) < _LEAST_BLOB:
            return None
        salt, rest = blob[:_SALT_BYTES], blob[_SALT_BYTES:]
        derived = self._derived(salt, place)
        if not hmac.compare_digest(rest[:_COMMITMENT_BYTES], derived[KEY_BYTES:]):
            return None
        try:
            return AESGCM(derived[:KEY_BYTES]).decrypt(_NONCE, rest[_COMMITMENT_BYTES:], place)
        except InvalidTag:
            return None

    def _derived(self, salt: bytes, place: bytes) -> bytes:
        return HKDF(SHA256(), KEY_BYTES + _COMMITMENT_BYTES, salt, place).derive(self._key)


def subkey(key: bytes, label: str, salt: bytes | None = None) -> bytes:
    """Derive from *key*, with HKDF-SHA256, the subkey for the purpose *label*."""
    return HKDF(SHA256(), KEY_BYTES, salt, f"daybook p1 {label}".encode()).derive(key)


def token_version(token: str) -> int | None:
    """Return the key version in *token*, or None if the text is not a token."""
    found = _VERSION.match(token)
    return int(found[1]) if found else None


def encode_base64url(octets: bytes) -> str:
    """Encode *octets* in base64url without padding."""
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def decode_base64url(text: str) -> bytes | None:
    """Decode *text*; return None unless *text* is the one valid spelling of its octets."""
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return octets if encode_base64url(octets) == text else None


def padded_size(size: int) -> int:
    """Return the padded length, by the scheme Padmé, for *size* octets; it is at least 64."""
    if size <= _LEAST_BODY:
        return _LEAST_BODY
    exponent = size.bit_length() - 1
    dropped = (1 << (exponent - exponent.bit_length())) - 1
    return (size + dropped) & ~dropped


def _encoded_text(text: str) -> bytes | None:
    try:
        octets = text.encode()
    except UnicodeEncodeError:  # a lone surrogate; not re-raised, because the error holds the text
        return None
    return octets if len(octets) <= LARGEST_TEXT else None


def _padded(octets: bytes) -> bytes:
    size = _LENGTH.size + len(octets)
    return (_LENGTH.pack(len(octets)) + octets).ljust(padded_size(size), b"\0")


def _unpadded(body: bytes) -> bytes | None:
    if len(body) < _LEAST_BODY:
        return None
    (size,) = _LENGTH.unpack_from(body)
    octets = body[_LENGTH.size : _LENGTH.size + size]
    return octets if _padded(octets) == body else None


def _text_of(body: bytes) -> str | None:
    octets = _unpadded(body)
    try:
        text = None if octets is None else octets.decode()
    except UnicodeDecodeError:
        return None
    return None if octets is None or len(octets) > LARGEST_TEXT else text


@lru_cache(maxsize=256)  # enough, because there are few tables, columns and roles
def _names(*names: str) -> bytes:
    encoded = [name.encode() for name in names]
    return b"".join(bytes([len(name)]) + name for name in encoded)


def _head_place(user_id: UUID, conversation_id: UUID) -> Place:
    return Place(
        table="conversations",
        column="head",
        row_id=conversation_id,
        user_id=user_id,
        conversation_id=conversation_id,
    )
