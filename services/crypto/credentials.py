"""The credentials of one user: the encrypted document that sign-ins are checked against.

The document is a JSON object. This version of the app writes and reads these fields:

    version .......... 1; 2 once the document has a factor, a number of uses, or a former address with a factor; 3 once
                       it has identities or passkeys, or a former address with them. An earlier version of the app raises
                       NewerVersion for such a document: if it restored a former address, it would restore ways in that it does
                       not know
    state ............ "pending" until the row belongs to a user, then "set"
    address .......... the address that the user signs in with
    hash ............. the hash of the password (password_hash.py); null: the account has no password
    operator_hash .... equal to `hash` if an operator set the password. If the field is missing or different, the user set the
                       password: an earlier version of the app keeps the old field when the user sets a new password
    account_secret ... 32 octets in base64url, made when the row is bound to its user; null while pending
    managed_password . the user's random password at Supabase Auth
    generation ....... a number that grows by one with each change to the ways in
    invitation ....... the code of the invitation that a pending sign-up was made with, or null
    confirmed ........ how and when the address was confirmed: an object of `how` ("code": by a mailed code, "operator":
                       by a command that gave the account this address, "provider": by single sign-on) and `at`, in seconds
                       since 1970; null, or left out: the address was never confirmed
    former ........... confirmed addresses that the user may take back, oldest first, at most 4; left out: none.
                       Each is an object of `address`; `until`, the time at which this right ends, in seconds since
                       1970; and `ways_in`: the fields of the document that let the user sign in, except the password,
                       as they were when the user gave up the address
    factor ........... the authenticator app: an object of `secret`, 20 octets in base64url, from which TOTP (RFC 6238)
                       computes the codes; `since`, the time at which the app was added, in seconds since 1970; and `step`,
                       the newest TOTP time step whose code was used, 0: none; null, or left out: the account has no app
    recovery_codes ... the SHA-256 hashes, in hexadecimal, of the unused recovery codes, each of which can replace the app
                       or a required passkey once; left out: none. An account that requires no second factor has none
    identities ....... the identities of the user at providers of single sign-on (identities.py); left out: none
    passkeys ......... the user handle and the passkeys of the user (passkeys.py); null, or left out: never had a passkey
    uses ............. the number of uses so far of the factor (a TOTP code or a recovery code), of a passkey or of an
                       identity; left out: 0. It never shrinks, not even when an address is taken back

Unknown fields are preserved. Reading a document of an unknown form raises NewerVersion. keyring.py specifies the
place (associated data) at which credentials are sealed.
"""

import json
import secrets
import string
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from services.crypto import identities as identity_fields
from services.crypto import passkeys as passkey_fields
from services.crypto.keyring import RootKeys
from services.crypto.vault import KEY_BYTES, decode_base64url, encode_base64url
from services.domain.addresses import Confirmed, ConfirmedBy, EmailAddress
from services.domain.passkeys import Passkey, Passkeys
from services.domain.single_sign_on import LinkedIdentity
from services.errors import NewerVersion

_MANAGED_CHARACTERS = 40
# maximum former addresses; the oldest are kept, so that a thief who changes the address cannot displace the user's own ones
_MOST_FORMER = 4
# fields that `Credentials.taken_back` does not restore: they do not let the user sign in, or they get new values
_LASTING = {
    *("version", "state", "account_secret", "managed_password", "invitation"),
    *("address", "hash", "operator_hash", "generation", "confirmed", "former", "uses"),
}
_FACTOR_BYTES = 20  # octets of a TOTP secret
_FACTOR_FIELDS = ("secret", "since", "step")
# character classes: Supabase Auth can require that a password has a character of each class
_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "!#$%&()*+-=?@[]^_{}~")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerAddress:
    """A confirmed address that a user has given up, with the account's sign-in methods at that time, except the password."""

    address: EmailAddress = field(repr=False)
    until: datetime  # the time until which the address can be taken back, in UTC, whole seconds
    # the sign-in methods at the time when the address was given up, as fields of a credentials document
    ways_in: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """A user's authenticator app (TOTP), which is a second factor of sign-ins."""

    secret: bytes = field(repr=False)
    since: datetime  # the time at which the app was added, in UTC, whole seconds
    step: int = 0  # the newest TOTP time step whose code was used; 0: none

    def __post_init__(self) -> None:
        """Raise ValueError if the secret does not have 20 octets, or the step is negative."""
        if len(self.secret) != _FACTOR_BYTES or self.step < 0:
            raise ValueError("a factor has a secret of 20 octets and a step from 0 on")

    def used(self, step: int) -> "Factor":
        """Return the factor after its code for the time step *step* was used."""
        return replace(self, step=max(self.step, step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The credentials of one user, or of a pending sign-up, which does not have an account secret yet."""

    address: EmailAddress = field(repr=False)
    password_hash: str | None = field(repr=False)
    account_secret: bytes | None = field(repr=False)
    managed_password: str = field(repr=False)
    generation: int
    # true if an operator set the password
    has_operator_password: bool = field(default=False, repr=False)
    invitation: str | None = field(default=None, repr=False)
    # None: the address was never confirmed
    confirmed: Confirmed | None = field(default=None, repr=False)
    former: tuple[FormerAddress, ...] = field(default=(), repr=False)
    factor: Factor | None = field(default=None, repr=False)  # None: no authenticator app
    recovery: tuple[str, ...] = field(default=(), repr=False)  # hashes of unused recovery codes
    # the oldest identity first
    identities: tuple[LinkedIdentity, ...] = field(default=(), repr=False)
    # None: the user never had a passkey
    passkeys: Passkeys | None = field(default=None, repr=False)
    uses: int = 0  # the number of uses of the factor, the passkeys and the identities so far
    # fields that only a newer version of the app knows
    newer: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError if a field has an invalid form, size or value, or if fields contradict each other."""
        if self.account_secret is not None and len(self.account_secret) != KEY_BYTES:
            raise ValueError("an account secret has 32 octets")
        if self.uses < 0:
            raise ValueError("a factor is used from 0 times on")
        if not all(len(one) == 64 and {*one} <= {*"0123456789abcdef"} for one in self.recovery):
            raise ValueError("a recovery code has a SHA-256 hash in hexadecimal")
        if self.has_operator_password and self.password_hash is None:
            raise ValueError("an operator sets a password that there is")
        identity_fields.check(self.identities)

    @property
    def is_pending(self) -> bool:
        return self.account_secret is None

    @property
    def wants_factor(self) -> bool:
        """True if sign-ins require a second factor: a TOTP code, or a passkey (`asks_passkey`)."""
        return self.factor is not None or self.asks_passkey

    @property
    def asks_passkey(self) -> bool:
        """True if sign-ins require a passkey as the second factor, after the password or a mailed code."""
        return self.passkeys is not None and self.passkeys.is_factor

    def former_at(self, address: EmailAddress, now: datetime) -> FormerAddress | None:
        """Return the former address that equals *address*, if the user may still take it back *now*; else None."""
        found = (one for one in self.former if one.address == address and one.until > now)
        return next(found, None)

    def used(self, *, step: int = 0, spent: str | None = None) -> "Credentials":
        """Return the credentials after the use of a TOTP code of time step *step*, or of the recovery code with hash *spent*.

        The code is marked as used in the stored sign-in methods of former addresses, too, so that taking back an address
        does not make the code valid again.
        """
        if not self.wants_factor:
            return self
        secret = self.factor.secret if self.factor else None
        former = [
            replace(one, ways_in=_used(one.ways_in, secret, step, spent)) for one in self.former
        ]
        return replace(
            self,
            factor=self.factor and self.factor.used(step),
            recovery=_unspent(self.recovery, spent),
            former=tuple(former),
            uses=self.uses + 1,
        )

    def passkey_used(self, passkey: Passkey) -> "Credentials":
        """Return the credentials after a use of a passkey; *passkey* is its new state.

        The copies of the passkey stored with former addresses change, too, so that taking back an address does not lower
        the passkey's sign count.
        """
        if self.passkeys is None:
            return self
        former = list[FormerAddress]()
        for one in self.former:
            ways_in = dict(one.ways_in)
            if "passkeys" in ways_in:
                ways_in["passkeys"] = passkey_fields.used(ways_in["passkeys"], passkey)
            former.append(replace(one, ways_in=ways_in))
        passkeys = self.passkeys.used(passkey)
        return replace(self, passkeys=passkeys, former=tuple(former), uses=self.uses + 1)

    def without_factor(self, *, keeps_passkeys: bool = True) -> "Credentials":
        """Return the next generation of the credentials, without any second factor, not even with a former address.

        Passkeys are no longer required as a second factor; *keeps_passkeys*: False removes them.
        """
        former = [
            replace(one, ways_in=_without_factor(one.ways_in, keeps_passkeys=keeps_passkeys))
            for one in self.former
        ]
        passkeys = self.passkeys
        if passkeys:
            each = passkeys.each if keeps_passkeys else ()
            passkeys = replace(passkeys, is_factor=False, each=each)
        return replace(
            self,
            factor=None,
            recovery=(),
            passkeys=passkeys,
            former=tuple(former),
            generation=self.generation + 1,
        )

    def with_issuer(self, old: str, new: str) -> "Credentials | None":
        """Replace the issuer *old* of identities by *new*; return the next generation, or None if no identity has *old*.

        The identities stored with former addresses change, too.
        """
        former = [
            replace(one, ways_in={n: _with_issuer(n, v, old, new) for n, v in one.ways_in.items()})
            for one in self.former
        ]
        identities = identity_fields.moved(identity_fields.written(self.identities), old, new)
        moved = replace(self, identities=identity_fields.read(identities), former=tuple(former))
        return None if moved == self else replace(moved, generation=self.generation + 1)

    def moved(self, address: EmailAddress, confirmed: Confirmed, until: datetime) -> "Credentials":
        """Return the next generation of the credentials, with a new *address*.

        The user can take back the old address until *until*, if it was confirmed, and if there are fewer than
        `_MOST_FORMER` other former addresses.
        """
        former = [one for one in self.former if one.until > confirmed.at and one.address != address]
        if self.confirmed:
            ways_in = {n: v for n, v in _fields(self).items() if n not in _LASTING}
            former.append(FormerAddress(address=self.address, until=until, ways_in=ways_in))
        return replace(
            self,
            address=address,
            confirmed=confirmed,
            generation=self.generation + 1,
            former=tuple(former[:_MOST_FORMER]),
        )

    def taken_back(
        self, former: FormerAddress, confirmed: Confirmed, password_hash: str | None
    ) -> "Credentials":
        """Return the next generation, with the *former* address, its sign-in methods, and a new password (None: no password).

        Addresses that were given up later can no longer be taken back. Raise NewerVersion if this version of the app cannot
        read the sign-in methods.
        """
        lasting = {n: v for n, v in _fields(self).items() if n in _LASTING}
        before = _read(json.dumps({**former.ways_in, **lasting}))
        if before is None:
            raise NewerVersion
        return replace(
            before,
            address=former.address,
            confirmed=confirmed,
            password_hash=password_hash,
            has_operator_password=False,
            generation=self.generation + 1,
            former=self.former[: self.former.index(former)],
        )


def seal_credentials(root_keys: RootKeys, credentials: Credentials, owner_id: UUID) -> str:
    """Seal *credentials*; *owner_id* is the user's id or, while the credentials are pending, the id of their row."""
    return root_keys.seal_credentials(_document(credentials), owner_id)


def open_credentials(root_keys: RootKeys, token: str, owner_id: UUID) -> Credentials:
    """Open the credentials of *owner_id*. Raise Tampered on failure; NewerVersion if this version cannot read them."""
    credentials = _read(root_keys.open_credentials(token, owner_id))
    if credentials is None:
        raise NewerVersion
    return credentials


def managed_password() -> str:
    """Return a random password for a user's account at Supabase Auth: 40 characters of four classes, about 250 bits."""
    while True:
        password = "".join(secrets.choice("".join(_CLASSES)) for _ in range(_MANAGED_CHARACTERS))
        if all(set(password) & set(each) for each in _CLASSES):
            return password


def _document(credentials: Credentials) -> str:
    return json.dumps(_fields(credentials), ensure_ascii=False)


def _fields(credentials: Credentials) -> dict[str, object]:
    secret = credentials.account_secret
    known: dict[str, object] = {
        "version": _version(credentials),
        "state": "pending" if credentials.is_pending else "set",
        "address": credentials.address,
        "hash": credentials.password_hash,
        "account_secret": None if secret is None else encode_base64url(secret),
        "managed_password": credentials.managed_password,
        "generation": credentials.generation,
        "invitation": credentials.invitation,
    }
    if credentials.has_operator_password:
        known["operator_hash"] = credentials.password_hash
    if confirmed := credentials.confirmed:
        known["confirmed"] = {"how": confirmed.how, "at": int(confirmed.at.timestamp())}
    if credentials.former:
        known["former"] = [
            {
                "address": one.address,
                "until": int(one.until.timestamp()),
                "ways_in": dict(one.ways_in),
            }
            for one in credentials.former
        ]
    if factor := credentials.factor:
        known["factor"] = _written(factor)
    # without a second factor, recovery codes have no use, so they are not stored
    if credentials.recovery and credentials.wants_factor:
        known["recovery_codes"] = list(credentials.recovery)
    if credentials.identities:
        known["identities"] = identity_fields.written(credentials.identities)
    if credentials.passkeys:
        known["passkeys"] = passkey_fields.written(credentials.passkeys)
    if credentials.uses:
        known["uses"] = credentials.uses
    return {**credentials.newer, **known}


def _version(credentials: Credentials) -> int:
    """Return the earliest version of the document's format that can hold all of *credentials*."""
    ways_in = {name for one in credentials.former for name, value in one.ways_in.items() if value}
    if credentials.identities or credentials.passkeys or ways_in & {"identities", "passkeys"}:
        return 3
    return 2 if credentials.factor or credentials.uses or "factor" in ways_in else 1


def _without_factor(ways_in: Mapping[str, object], *, keeps_passkeys: bool) -> Mapping[str, object]:
    gone = "factor", "recovery_codes"
    left = {name: value for name, value in ways_in.items() if name not in gone}
    if isinstance(passkeys := left.get("passkeys"), dict):
        each: dict[str, object] = {} if keeps_passkeys else {"each": []}
        left["passkeys"] = {**cast(dict[str, object], passkeys), "is_factor": False, **each}
    return left


def _used(
    ways_in: Mapping[str, object], secret: bytes | None, step: int, spent: str | None
) -> Mapping[str, object]:
    """Return *ways_in* of a former address after a use of the factor; fields of newer app versions stay unchanged."""
    used = dict(ways_in)
    with suppress(ValueError, OverflowError, OSError):
        factor = _factor(ways_in.get("factor"))
        if factor and factor.secret == secret:
            used["factor"] = _written(factor.used(step))
        if recovery := _recovery(ways_in.get("recovery_codes", [])):
            used["recovery_codes"] = list(_unspent(recovery, spent))
    return used


def _unspent(recovery: tuple[str, ...], spent: str | None) -> tuple[str, ...]:
    return tuple(one for one in recovery if one != spent)


def _with_issuer(name: str, value: object, old: str, new: str) -> object:
    return identity_fields.moved(value, old, new) if name == "identities" else value


def _written(factor: Factor) -> dict[str, object]:
    return {
        "secret": encode_base64url(factor.secret),
        "since": int(factor.since.timestamp()),
        "step": factor.step,
    }


def _read(text: str) -> Credentials | None:
    """Parse a document; return None on failure, because the traceback of an exception would hold the document."""
    try:
        document: Mapping[str, object] = json.loads(text)
    except ValueError:
        return None
    match document:
        case {
            "version": 1 | 2 | 3,
            "state": "pending" | "set" as state,
            "address": str(address),
            "hash": str() | None as hashed,
            "account_secret": str() | None as secret,
            "managed_password": str(managed),
            "generation": int(generation),
            "invitation": str() | None as invitation,
            **newer,
        }:
            with suppress(ValueError, OverflowError, OSError):
                has_operator_password = newer.pop("operator_hash", None) == hashed is not None
                confirmed = _confirmed(newer.pop("confirmed", None))
                former = tuple(map(_former, _listed(newer.pop("former", []))))
                factor = _factor(newer.pop("factor", None))
                recovery = _recovery(newer.pop("recovery_codes", []))
                identities = identity_fields.read(newer.pop("identities", []))
                passkeys = passkey_fields.read(newer.pop("passkeys", None))
                uses = _whole(newer.pop("uses", 0))
                credentials = Credentials(
                    address=EmailAddress(address),
                    password_hash=hashed,
                    account_secret=None if secret is None else decode_base64url(secret),
                    managed_password=managed,
                    generation=generation,
                    has_operator_password=has_operator_password,
                    invitation=invitation,
                    confirmed=confirmed,
                    former=former,
                    factor=factor,
                    recovery=recovery,
                    identities=identities,
                    passkeys=passkeys,
                    uses=uses,
                    newer=newer,
                )
                return credentials if credentials.is_pending == (state == "pending") else None
        case _:
            pass
    return None


def _confirmed(value: object) -> Confirmed | None:
    """Read a confirmation. Raise ValueError if this version of the app cannot read it."""
    match value:
        case None:
            return None
        case {"how": str(how), "at": int(at)}:
            return Confirmed(how=ConfirmedBy(how), at=datetime.fromtimestamp(at, UTC))
        case _:
            raise ValueError("a confirmation of a newer version")


def _former(value: object) -> FormerAddress:
    """Read a former address. Raise ValueError if this version of the app cannot read it."""
    match value:
        case {"address": str(address), "until": int(until), "ways_in": dict()}:
            return FormerAddress(
                address=EmailAddress(address),
                until=datetime.fromtimestamp(until, UTC),
                ways_in=cast(dict[str, dict[str, object]], value)["ways_in"],
            )
        case _:
            raise ValueError("a former address of a newer version")


def _factor(value: object) -> Factor | None:
    """Read an authenticator app. Raise ValueError if this version cannot read it, because None would disable the factor."""
    match value:
        case None:
            return None
        case {
            "secret": str(secret),
            "since": int(since),
            "step": int(step),
        } if len(cast(dict[str, object], value)) == len(_FACTOR_FIELDS):
            return Factor(
                secret=decode_base64url(secret) or b"",
                since=datetime.fromtimestamp(since, UTC),
                step=step,
            )
        case _:
            raise ValueError("a factor of a newer version")


def _recovery(value: object) -> tuple[str, ...]:
    """Read the hashes of recovery codes. Raise ValueError if this version of the app cannot read them."""
    return tuple(str(one) for one in _listed(value))


def _whole(value: object) -> int:
    """Return *value*. Raise ValueError if it is not a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a number of a newer version")
    return value


def _listed(value: object) -> list[object]:
    """Return *value*. Raise ValueError if it is not a list."""
    if not isinstance(value, list):
        raise ValueError("a list of a newer version")
    return cast(list[object], value)
