"""The key tree: root keys, user keys, conversation keys, and their subkeys.

    root key (a ring of versions; a file or the environment, never in the database)
    ├─ "user keys" ........... the salt for deriving the keys that wrap user keys
    ├─ "credentials" ......... seals users' credentials: one row per user
    ├─ "address" ............. makes the look-up values of addresses, so that rows are found without storing the address
    ├─ "look-up" ............. makes other look-up values, each the HMAC of a JSON list: a kind, and the value sought
    ├─ "server proof" ........ the HMAC key of server proofs; the database has it, too; decrypts nothing
    ├─ "throttle" ............ makes the names of throttle buckets, so that no name contains an address
    ├─ "device cookie" ....... signs the cookies of devices that have signed in
    ├─ "store" ............... makes the tag by which a store other than Supabase recognises its root key
    ├─ "steps" ............... the salt for deriving the keys that seal steps
    ├─ "code" ................ makes the tags by which codes are recognised, each bound to its step
    └─ "app-session" ......... the salt for deriving session keys
    cookie secret (random, in one browser; the database has its hash)
    └─ "session" ............. a session key, salted by "app-session": seals Supabase's tokens and other session data
    step secret (random, in one browser while a step is open; never in the database, not even as a hash)
    ├─ "step" ................ a step key, salted by "steps": seals the steps of the browser
    ├─ "step id" ............. makes the keys of the steps' rows from the ids in the steps' forms
    └─ "step kind" ........... makes the values by which the steps of one kind in a browser are found
    account secret (random, in the user's credentials)
    └─ "user keys" ........... salted by the root key's "user keys": wraps user keys, one row per user
    user key (random, versioned, wrapped in user_keys)
    ├─ "conversation keys" ... wraps conversation keys: one string per conversation
    ├─ "purpose documents" ... seals the user's own documents: preferences, spaces, facts
    ├─ "purpose notices" ..... seals the names of browsers in notices to the user (services/store/notices.py)
    └─ "purpose devices" ..... seals the names of the browsers that are signed in (services/store/device_names.py)
    conversation key (random, versioned, wrapped in its row)
    ├─ message keys .......... one for each message (vault.py)
    ├─ "row" ................. row MACs
    └─ "piece" ............... piece MACs

Every quoted name is the label of a subkey (vault.py); each key has one purpose. Session keys and step keys need
both the cookie and the root key, so neither a dump nor a root key without the cookies decrypts a session or a step. The
row of a step does not reveal the step's id, kind or browser: its two keys are HMAC-SHA256 under the subkeys "step id" and
"step kind" of the step secret alone, so a new root key changes no row's key. The keys that wrap user keys need both the
account secret and the root key, so that new credentials for an existing user id cannot unwrap that user's keys.

Wrapped keys are bound to these places (vault.py defines the terms):

    wrapped             table          column       row id           seq          role    conversation
    user key            user_keys      wrapped      user id          its version  server  none
    conversation key    conversations  wrapped_key  conversation id  its version  none    conversation id

The places of other texts:

- User key: the role is the `mode` of its row.
- Credentials (`credentials.sealed`): the row id is the id of their user; while they are pending, both the row id and the
  user id are the id of their row.
- Step (`steps.sealed`): both ids are the id in its form, because a step may have no user.
- Message: the column of the body is `body`, or `listed_body` if the message has attachments, so that the removal of the
  list is detected. The list of attachments (`messages.attachments`) and the thoughts (`messages.thoughts`) have the same
  place except for the column.
- Turn: the partial texts (`turns.partial`, `turns.partial_thoughts`) have the role "assistant".
- Piece (`pieces.body`): the row id is the id of its attachment, the seq is its number, the parent is its message.
- Search text (`search_texts.body`): the column is `search_text`, the row id is the id of its conversation, the seq is its
  number, the seq of its first message. Its last seq is in the sealed text.
- Document: the column is its kind (`preferences`, `space`, `fact`), the seq is the revision of its row; the parent of a
  fact is its space.
- Instructions and summary of a conversation: the seq is `instructions_rev` or `summary_rev`.
- Receipt: the row id is the `client_turn_id` of its turn, which is known before the row exists.

Key rotation rewrites only wrapped keys, and credentials with their look-up values: a new root key rewrites two
rows per user, a new user key one string per conversation, and messages are never sealed again. A key-management service
could replace the ring of root keys in `AccountKeys`, in `needs_rewrap` and for credentials.
"""

import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from services.crypto.vault import (
    KEY_BYTES,
    LARGEST_VERSION,
    Place,
    Vault,
    decode_base64url,
    encode_base64url,
    subkey,
    token_version,
)
from services.domain.addresses import EmailAddress
from services.domain.single_sign_on import Identity
from services.errors import Misconfigured, Tampered

# a root key with fewer distinct bytes is refused as not random: the probability that 32 random bytes have fewer is below 10^-16
_FEWEST_DISTINCT = 16


def new_key() -> bytes:
    """Return a random key of 32 bytes."""
    return secrets.token_bytes(KEY_BYTES)


def refuse_missing(needed: Iterable[int], present: Collection[int]) -> None:
    """Raise Misconfigured if any of the *needed* versions of the root key is not *present*.

    Version 0 stands for a damaged sealed text, which names no root key and therefore needs none.
    """
    for version in sorted({*needed} - {0} - {*present}):
        raise Misconfigured(
            f"Root key {version} is missing, and stored data is sealed under it: put it back beside "
            "the others, until `python -m services.operate check` no longer names it."
        )


class VaultRing:
    """Vaults by key version: the current vault seals; a token is opened by the vault of the key version that it names."""

    __slots__ = ("_vaults", "current")

    def __init__(self, vaults: Mapping[int, Vault], current: int) -> None:
        self._vaults = vaults
        self.current = current

    def __repr__(self) -> str:
        return f"VaultRing(versions={tuple(sorted(self._vaults))}, current={self.current})"

    def seal(self, plaintext: str, place: Place) -> str:
        """Seal *plaintext* with the vault of the current key."""
        return self._vaults[self.current].seal(plaintext, place)

    def open(self, token: str, place: Place) -> str:
        """Open *token* with the vault of its key version. Raise Tampered on failure, or if the ring lacks that key."""
        return self._of(token).open(token, place)

    def wrap(self, key: bytes, place: Place) -> str:
        """Wrap *key* with the vault of the current key."""
        return self._vaults[self.current].wrap(key, place)

    def unwrap(self, token: str, place: Place) -> bytes:
        """Unwrap *token* with the vault of its key version. Raise Tampered on failure, or if the ring lacks that key."""
        return self._of(token).unwrap(token, place)

    def _of(self, token: str) -> Vault:
        vault = self._vaults.get(token_version(token) or 0)
        if vault is None:
            raise Tampered
        return vault


class RootKeys:
    """A ring of root keys: the current key seals and wraps; each token is opened or unwrapped with the key that made it."""

    __slots__ = ("_credentials", "_keys", "current")

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        """Raise ValueError if the ring is invalid; the message contains no part of a key."""
        if current not in keys:
            raise ValueError('has no key of the version in "current"')
        if not all(1 <= version <= LARGEST_VERSION for version in keys):
            raise ValueError("has a version that is not a number from 1 to 999999999")
        if not all(_is_strong(key) for key in keys.values()):
            raise ValueError("is not 32 random bytes in base64url")
        if len(set(keys.values())) < len(keys):
            raise ValueError("has the same key under two versions")
        self._keys = dict(keys)
        self.current = current
        vaults = {
            version: Vault(subkey(key, "credentials"), version) for version, key in keys.items()
        }
        self._credentials = VaultRing(vaults, current)

    @classmethod
    def parse(cls, text: str, source: str = "DAYBOOK_ROOT_KEYS") -> "RootKeys":
        """Parse *text*: one base64url key, or {"current": 2, "keys": {"1": "…", "2": "…"}}.

        Raise Misconfigured if *text* is neither; the message names *source* and contains no part of *text*.
        """
        if not text.strip():
            raise Misconfigured(f"The root key in {source} is missing: put it there.")
        try:
            return cls(*_ring(text.strip()))
        except ValueError as error:
            problem = str(error)
        raise Misconfigured(f"The root key in {source} {problem}: put the right one there.")

    def __repr__(self) -> str:
        return f"RootKeys(versions={self.versions()}, current={self.current})"

    def versions(self) -> tuple[int, ...]:
        """Return the versions in the ring, in ascending order."""
        return tuple(sorted(self._keys))

    def refuse_missing(self, needed: Iterable[int]) -> None:
        """Raise Misconfigured if the ring lacks any of the *needed* versions of the root key."""
        refuse_missing(needed, self._keys)

    def account_keys(self, account_secret: bytes) -> "AccountKeys":
        """Return the keys that wrap the user keys of the account with *account_secret*."""
        return AccountKeys(self._vaults_of(account_secret, "user keys", "user keys"))

    def seal_credentials(self, document: str, owner_id: UUID) -> str:
        """Seal credentials; *owner_id* is the user's id or, while the credentials are pending, the id of their row."""
        return self._credentials.seal(document, _credentials_place(owner_id))

    def open_credentials(self, token: str, owner_id: UUID) -> str:
        """Open credentials. Raise Tampered on failure, or if their root key is no longer in the ring."""
        return self._credentials.open(token, _credentials_place(owner_id))

    def address_tags(self, address: EmailAddress) -> dict[int, str]:
        """Map the version of each root key to the look-up value of *address* under that key."""
        return {version: _tag(key, "address", address) for version, key in self._keys.items()}

    def former_address_tags(self, address: EmailAddress) -> dict[int, str]:
        """Map the version of each root key to the look-up value of an account's former *address* under that key."""
        return self._look_up_tags("former_address", address)

    def identity_tags(self, identity: Identity) -> dict[int, str]:
        """Map the version of each root key to the look-up value of *identity* under that key."""
        return self._look_up_tags("identity", identity.issuer, identity.subject)

    def passkey_tags(self, credential_id: bytes) -> dict[int, str]:
        """Map the version of each root key to the look-up value of the passkey with *credential_id* under that key."""
        return self._look_up_tags("passkey", encode_base64url(credential_id))

    def needs_rewrap(self, token: str) -> bool:
        """Return True if *token* was not made under the current root key, and so must be sealed or wrapped again."""
        return token_version(token) != self.current

    def of(self, token: str) -> "RootKeys":
        """Return a ring whose current key is the root key that sealed *token*, or this ring itself if it lacks that key."""
        version = token_version(token)
        return RootKeys(self._keys, version) if version in self._keys else self

    def proof_key(self, version: int | None = None) -> bytes:
        """Return the HMAC key for server proofs, derived from one *version* of the root key; None: from the current version."""
        return subkey(self._keys[self.current if version is None else version], "server proof")

    def proof_keys(self) -> dict[int, bytes]:
        """Map the version of each root key to the HMAC key for server proofs that is derived from it."""
        return {version: self.proof_key(version) for version in self._keys}

    def session_vault(self, cookie_secret: bytes) -> VaultRing:
        """Return the vaults for the session with *cookie_secret*, one for each root key in the ring."""
        return self._vaults_of(cookie_secret, "session", "app-session")

    def step_keys(self, step_secret: bytes) -> "StepKeys":
        """Return the keys that name and seal the steps of the browser with *step_secret*."""
        return StepKeys(step_secret, self._vaults_of(step_secret, "step", "steps"))

    def store_tags(self) -> dict[int, str]:
        """Map the version of each root key to its tag. A store saves the tag of its root key, to recognise the key later."""
        return {version: _tag(key, "store", "root key") for version, key in self._keys.items()}

    def bucket(self, text: str) -> str:
        """Return the name of the throttle bucket that counts attempts for *text*. A new root key resets all throttles."""
        return _tag(self._keys[self.current], "throttle", text)

    def code_tag(self, step_id: UUID, digits: str) -> str:
        """Return the tag that is stored to recognise *digits*, a code that was sent for a step."""
        return self._code_tag(self._keys[self.current], step_id, digits)

    def is_code(self, step_id: UUID, digits: str, tag: str) -> bool:
        """Return True if *tag* is the tag of the code *digits* under any root key in the ring; compare in constant time."""
        tags = [self._code_tag(key, step_id, digits) for key in self._keys.values()]
        return any(hmac.compare_digest(one.encode(), tag.encode()) for one in tags)

    def device_tag(self, text: str) -> str:
        """Return the signature of *text*, the content of a device cookie.

        After a change of the root key, all devices are unknown again.
        """
        return _tag(self._keys[self.current], "device cookie", text)

    def _look_up_tags(self, kind: str, *values: str) -> dict[int, str]:
        listed = json.dumps([kind, *values])
        return {version: _tag(key, "look-up", listed) for version, key in self._keys.items()}

    @staticmethod
    def _code_tag(key: bytes, step_id: UUID, digits: str) -> str:
        return _tag(key, "code", f"{step_id} {digits}")

    def _vaults_of(self, secret: bytes, label: str, salt_label: str) -> VaultRing:
        """Return one vault per root key of the ring; the vault's key is derived from both *secret* and that root key."""
        salts = {version: subkey(key, salt_label) for version, key in self._keys.items()}
        vaults = {
            version: Vault(subkey(secret, label, salt), version) for version, salt in salts.items()
        }
        return VaultRing(vaults, self.current)


class AccountKeys:
    """Wraps one account's user keys under the account secret and the current root key; unwraps under any key of the ring."""

    __slots__ = ("_wraps",)

    def __init__(self, wraps: VaultRing) -> None:
        self._wraps = wraps

    def wrap(self, key: bytes, user_id: UUID, version: int) -> str:
        """Wrap *key*, which is version *version* of the user key."""
        return self._wraps.wrap(key, _user_key_place(user_id, version))

    def unwrap(self, token: str, user_id: UUID, version: int) -> bytes:
        """Unwrap version *version* of the user key. Raise Tampered on failure, or if its root key is no longer in the ring."""
        return self._wraps.unwrap(token, _user_key_place(user_id, version))


class StepKeys:
    """Derives the row keys of one browser's steps from the step secret; seals the steps under that secret and the root key."""

    __slots__ = ("_seals", "_secret")

    def __init__(self, secret: bytes, seals: VaultRing) -> None:
        self._secret = secret
        self._seals = seals

    def row_key(self, step_id: UUID) -> str:
        """Return the key under which the row of a step is stored."""
        return _tag(self._secret, "step id", str(step_id))

    def kind_tag(self, kind: str) -> str:
        """Return the tag that all rows of this browser's steps of one *kind* have in common."""
        return _tag(self._secret, "step kind", kind)

    def seal(self, document: str, step_id: UUID) -> str:
        return self._seals.seal(document, _step_place(step_id))

    def open(self, token: str, step_id: UUID) -> str:
        """Open a step. Raise Tampered on failure, or if its root key is no longer in the ring."""
        return self._seals.open(token, _step_place(step_id))


class UserKey:
    """One version of a user's key. Its repr does not show the key."""

    __slots__ = ("_key", "_user_id", "_wraps", "version")

    def __init__(self, key: bytes, user_id: UUID, version: int = 1) -> None:
        self.version = version
        self._key = key
        self._user_id = user_id
        self._wraps = Vault(subkey(key, "conversation keys"), version)

    def __repr__(self) -> str:
        return f"UserKey(version={self.version})"

    def wrap(self, key: bytes, conversation_id: UUID, key_version: int) -> str:
        """Wrap *key*, which is version *key_version* of a conversation's key."""
        return self._wraps.wrap(key, self._place(conversation_id, key_version))

    def unwrap(self, token: str, conversation_id: UUID, key_version: int) -> bytes:
        """Unwrap version *key_version* of a conversation's key. Raise Tampered on failure."""
        return self._wraps.unwrap(token, self._place(conversation_id, key_version))

    def vault(self, purpose: str) -> Vault:
        """Return the vault that seals under this key for one *purpose*, such as "documents"."""
        return Vault(subkey(self._key, f"purpose {purpose}"), self.version)

    def _place(self, conversation_id: UUID, key_version: int) -> Place:
        return Place(
            table="conversations",
            column="wrapped_key",
            row_id=conversation_id,
            user_id=self._user_id,
            conversation_id=conversation_id,
            seq=key_version,
        )


class UserKeys:
    """All versions of one user's key: the newest version seals; a token is opened with the version that it names."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[UserKey]) -> None:
        self._keys = {key.version: key for key in keys}

    def __repr__(self) -> str:
        return f"UserKeys(versions={tuple(sorted(self._keys))})"

    @property
    def newest(self) -> UserKey:
        return self._keys[max(self._keys)]

    def vault(self, purpose: str) -> Vault:
        """Return the vault that seals under the newest key for one *purpose*."""
        return self.newest.vault(purpose)

    def conversation_vault(self, key: bytes, version: int = 1) -> Vault:
        """Return the vault that seals under *key*, which is version *version* of a conversation's key."""
        return Vault(key, version)

    def unwrap(
        self, token: str, user_key_version: int, conversation_id: UUID, key_version: int
    ) -> bytes:
        """Unwrap the conversation key in *token*. Raise Tampered on failure."""
        return self._of(user_key_version).unwrap(token, conversation_id, key_version)

    def open(self, purpose: str, token: str, place: Place) -> str:
        """Open *token*, which `vault(purpose)` of any of the user's keys sealed; return the text. Raise Tampered on failure."""
        return self._of(token_version(token)).vault(purpose).open(token, place)

    def _of(self, version: int | None) -> UserKey:
        key = self._keys.get(version or 0)
        if key is None:
            raise Tampered
        return key


def _user_key_place(user_id: UUID, version: int) -> Place:
    return Place(
        table="user_keys",
        column="wrapped",
        row_id=user_id,
        user_id=user_id,
        seq=version,
        role="server",
    )


def _credentials_place(owner_id: UUID) -> Place:
    return Place(table="credentials", column="sealed", row_id=owner_id, user_id=owner_id)


def _step_place(step_id: UUID) -> Place:
    return Place(table="steps", column="sealed", row_id=step_id, user_id=step_id)


def _tag(key: bytes, label: str, text: str) -> str:
    return hmac.digest(subkey(key, label), text.encode(), "sha256").hex()


def _is_strong(key: bytes) -> bool:
    return len(key) == KEY_BYTES and len(set(key)) >= _FEWEST_DISTINCT


def _ring(text: str) -> tuple[dict[int, bytes], int]:
    if not text.startswith("{"):
        return {1: _decoded(text)}, 1
    try:
        ring = json.loads(text)
        keys = {int(version): _decoded(key) for version, key in ring["keys"].items()}
        return keys, int(ring["current"])
    except (ValueError, LookupError, TypeError, AttributeError):
        problem = 'is not JSON like {"current": 2, "keys": {"1": "…", "2": "…"}}'
    raise ValueError(problem)


def _decoded(text: str) -> bytes:
    return decode_base64url(text.strip().rstrip("=")) or b""
