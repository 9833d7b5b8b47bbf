"""The operator's port: migrations, checks, roles, limits, credentials and copied rows, without vendors' types.

No method receives the root key; some receive the keys for server proofs, which are derived from the root key.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from services.domain import UserId
from services.domain.accounts import CredentialsAction
from services.domain.addresses import EmailAddress
from services.store.backend import StoredCredentials


class Mark(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"
    UNKNOWN = "?"


Finding = tuple[Mark, str]
MOST_NAMED = 3


class LookupFault(StrEnum):
    """Differences between credentials and the stored look-up values of their former addresses, identities and passkeys."""

    UNNAMED = "a former address, identity or passkey is reserved that the credentials do not name"
    MISSING = "a former address, identity or passkey that the credentials name is not reserved"


@dataclass(frozen=True, slots=True)
class PresentKeys:
    """The root keys of a deployment, for a check of its store."""

    # the HMAC keys of server proofs, keyed by the version of the root key that they are derived from
    proof_keys: Mapping[int, bytes] = field(repr=False)
    current: int  # the version of the root key that seals new data
    # returns False if the credentials cannot be decrypted with these keys
    opens: Callable[[StoredCredentials], bool]
    # returns the faults of look-up values; arguments: the user's credentials, if any, and the values stored for them
    lookup_faults: Callable[[StoredCredentials | None, Collection[str]], Collection[LookupFault]]
    # returns False if the credentials can be decrypted, but contain no sign-in method that works on this deployment
    has_way_in: Callable[[StoredCredentials], bool]
    # returns True if the credentials contain a passkey whose public key is not accepted
    holds_refused_passkey: Callable[[StoredCredentials], bool]
    most_named: int | None = MOST_NAMED  # users that a finding names; None: all

    @property
    def proof_key(self) -> bytes:
        return self.proof_keys[self.current]


def unchecked(needs: str, *names: str) -> dict[str, Finding]:
    """Return a finding for each check in *names*: the check was skipped, because it needs *needs*."""
    return dict.fromkeys(names, (Mark.UNKNOWN, f"not checked: needs {needs}"))


def judge_root_keys(needed: Collection[int], present: Collection[int], current: int) -> Finding:
    """Return the finding about the versions of root keys: *needed* by stored data, and *present* in the ring."""
    if missing := {*needed} - {*present}:
        back = "it" if len(missing) == 1 else "them"
        text = f"stored data needs {root_keys_named(missing)}"
        return Mark.FAIL, f"{text}: put {back} back beside the others"
    if not needed:
        return Mark.OK, "no data is stored yet"
    parts = [f"stored data needs {root_keys_named(needed)}"]
    if older := {*needed} - {current}:
        parts.append(f"the command `root-keys` lists who still needs {root_keys_named(older)}")
    unused = {*present} - {*needed}
    for end, versions in (
        ("any more", {version for version in unused if version < current}),
        ("yet", {version for version in unused if version >= current}),
    ):
        if versions:
            parts.append(f"no stored data needs {root_keys_named(versions, 'or')} {end}")
    return Mark.OK, "; ".join(parts)


def root_keys_named(versions: Collection[int], last: str = "and") -> str:
    """Return *versions* in words: "root key 1", "root keys 1, 2 and 3"; *last*: the word before the last version."""
    *first, end = map(str, sorted(versions))
    return f"root keys {', '.join(first)} {last} {end}" if first else f"root key {end}"


def judge_lookups(faults: Mapping[str, Collection[LookupFault]], most_named: int | None) -> Finding:
    """Return the finding about the look-up values of users' credentials; *faults*: maps a user's name to the faults."""
    found = [
        f"{fault} ({few_names([name for name, has in faults.items() if fault in has], most_named)})"
        for fault in LookupFault
        if any(fault in has for has in faults.values())
    ]
    if not found:
        return Mark.OK, "former addresses, identities and passkeys are as the credentials have them"
    advice = "put their rows of lookups back from a backup; that of a former address lasts 72 hours"
    return Mark.FAIL, f"{'; '.join(found)}: {advice}"


def judge_ways_in(
    left_out: Sequence[str], with_refused_passkey: Sequence[str], most_named: int | None
) -> Finding:
    """Return the finding about sign-in methods; *left_out*: the names of the users without one that works,
    *with_refused_passkey*: of those with a passkey whose public key is not accepted."""
    found = list[str]()
    if left_out:
        found.append(
            f"{len(left_out)} accounts have none that works here ({few_names(left_out, most_named)}): "
            "`set-password` lets a user in; for an address of an `only` provider, `password` or `code` must be on until "
            "the user has linked it, and if the address was never confirmed, run `set-address EMAIL EMAIL`, too"
        )
    if with_refused_passkey:
        found.append(
            f"{len(with_refused_passkey)} accounts have a passkey whose key proves nothing, so it is refused "
            f"({few_names(with_refused_passkey, most_named)}): `reset-factors EMAIL --passkeys` removes it"
        )
    return (
        (Mark.NOTE, "; ".join(found))
        if found
        else (Mark.OK, "each account has one that works here")
    )


def few_names(names: Sequence[str], most: int | None) -> str:
    """Return the first *names*, at most *most*, in one line, and an ellipsis for more."""
    more = ", …" if most is not None and len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


@dataclass(frozen=True, slots=True)
class UserCaps:
    """The limits of one account, or of all new accounts, in micro-dollars and tokens."""

    daily_cap_micro: int
    monthly_cap_micro: int
    daily_cap_tokens: int | None  # None: no cap


# rows of services/store/tables, keyed by table name, each with its user's id (None: a row of a shared table)
CopiedRows = Mapping[str, Sequence[tuple[UserId | None, object]]]


class Operator(Protocol):
    """The operator's calls. All members raise Misconfigured if the store does not answer."""

    def migrate(self, proof_keys: Mapping[int, bytes]) -> Sequence[str]:
        """Apply missing migrations, and make the store accept server proofs made with *proof_keys*; return the versions applied.

        *proof_keys*: of all root keys. Raise Misconfigured if stored data needs another root key.
        """
        ...

    def check(
        self,
        keys: PresentKeys | str,
        mail_to: EmailAddress | None = None,
        *,
        sends_mail: bool = False,
    ) -> dict[str, Finding]:
        """Return all findings, keyed by name, in the order of the printed table; change nothing.

        *keys*: the root keys, or a sentence that says why they are missing. *mail_to*: have Supabase Auth send a recovery
        mail to the user of the account with this address. *sends_mail*: True if Daybook itself sends mail.

        Raise BadInput if no account has the address *mail_to*, or the store is not Supabase.
        """
        ...

    def root_key_users(self) -> Mapping[int, Collection[str]]:
        """Return the addresses of the users whose stored data needs a root key, keyed by its version."""
        ...

    def grant_admin(self, email: EmailAddress) -> None:
        """Make the account of *email* an admin. Raise BadInput (no such account)."""

    def is_last_admin(self, user_id: UserId) -> bool:
        """Return True if the user is an admin, and no other account could manage the accounts."""
        ...

    def find_credentials(
        self, email: EmailAddress, lookups: Collection[str]
    ) -> StoredCredentials | None:
        """Return the credentials that are stored under *lookups*, the look-up values of *email*.

        If there are none: return None if an account has the address, else raise BadInput.
        """
        ...

    def change_credentials(
        self,
        new: StoredCredentials,
        seen_generation: int,
        email: EmailAddress | None = None,
        action: CredentialsAction = CredentialsAction.PASSWORD_SET,
        claims: Collection[str] = (),
        ways_in: Sequence[str] | None = None,
    ) -> bool:
        """Replace a user's credentials of *seen_generation* with *new*; end all sessions of the user, and store a notice.

        *email*: the new address, if *new* has one: it is stored in the account and at Supabase Auth, too. *action*:
        PASSWORD_SET, ADDRESS_FREED, ADDRESS_SET, FACTOR_REMOVED, PASSKEY_REMOVED or IDENTITY_MOVED; it is audited.
        ADDRESS_SET needs *claims*, as in `NewAddress`: a pending sign-up of the address and the look-up values of the user's
        former addresses are removed. PASSKEY_REMOVED and IDENTITY_MOVED need *ways_in*, as in
        `UserBackend.change_credentials`.

        Return False, and change nothing, if the stored credentials have a different generation or number of uses. Also
        change nothing when raising AddressTaken or WayInTaken.
        """
        ...

    def credentials(self) -> list[StoredCredentials]:
        """Return the credentials of all accounts."""
        ...

    def repair_sign_in(self, user_id: UserId, email: EmailAddress, password: str) -> None:
        """Make Supabase Auth accept *email* and the managed *password*; end the account's sessions.

        Raise BadInput (no such account).
        """

    def set_caps(self, email: EmailAddress | None, changes: Mapping[str, int | None]) -> UserCaps:
        """Change limits of an account, or (None) of new accounts; return all limits. Raise BadInput (no such account)."""
        ...

    def backup(self, target: Path) -> None:
        """Copy the store to the file *target*, and record the time if the store can be written.

        Raise BadInput, which names another way to make a backup, if this store cannot be copied to a file.
        """

    def load(
        self,
        proof_keys: Mapping[int, bytes],
        make: Callable[[datetime], CopiedRows],
        managed_password: Callable[[StoredCredentials], str],
    ) -> None:
        """Store, in one transaction, the rows that *make* returns for the store's current time; ids stay unchanged.

        *managed_password* returns the managed password of the given credentials. Raise BadInput if accounts exist.
        """
