"""Whether a deployment will work: findings from facts about the Supabase API and the database behind it."""

from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

from services.store.paging import LEAST, PAGE

_MOST_SKEW_SECONDS = 30.0  # PostgREST refuses a token from further ahead
_SHORTEST_TOKEN_SECONDS = 20 * 60
_API = "SUPABASE_URL and SUPABASE_KEY"
_SIGN_IN = "Authentication, Sign In / Providers"


class Mark(StrEnum):
    """How a finding counts."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"
    UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    mark: Mark
    what: str
    said: str


class External(BaseModel):
    """The providers that Supabase Auth offers; the others do not matter here."""

    email: bool


class AuthSettings(BaseModel):
    """What `/auth/v1/settings` answers."""

    external: External
    disable_signup: bool
    mailer_autoconfirm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenFacts:
    """What the API shows to who proves to be the app."""

    root_key_versions: Collection[int]
    row_bound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFacts:
    """What the API shows to who holds its publishable key."""

    is_publishable: bool  # else an anon key, of the old kind
    auth: AuthSettings | int  # or the status that came instead; 0: no answer
    ahead_seconds: float | None  # its clock before ours; None: it did not say
    proven: ProvenFacts | None  # None: it takes no proof of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFacts:
    """What the database shows where its schema is Daybook's and up to date."""

    token_seconds: int | None  # the newest session's; None: nobody has signed in
    strangers: int  # users of Supabase Auth who have no profile


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What the database shows to the owner of its schema."""

    ahead_seconds: float
    has_safeupdate: bool
    schema: SchemaFacts | Collection[str] | str  # or the migrations it lacks, or why it takes none


def findings(
    api: ApiFacts | None, database: DatabaseFacts | None, ring: Collection[int] | str
) -> list[Finding]:
    """The table of what was checked or could not be. *ring*: the root keys' versions, or why there are none."""
    return [
        *_of_the_api(api),
        *_of_what_is_proven(api, ring),
        _of_clocks(api, database),
        *_of_the_database(database),
    ]


def _of_the_api(api: ApiFacts | None) -> Iterator[Finding]:
    if api is None:
        yield _unchecked("API key", _API)
        yield _unchecked("sign-up", _API)
        return
    kind = "publishable" if api.is_publishable else "anon, of the old kind"
    yield Finding(Mark.OK, "API key", kind)
    match api.auth:
        case AuthSettings() as auth:
            yield _of_sign_up(auth)
        case 0:
            yield Finding(Mark.FAIL, "sign-up", "Supabase Auth does not answer: check SUPABASE_URL")
        case 401 | 403:
            yield Finding(Mark.FAIL, "sign-up", "the API refuses SUPABASE_KEY: copy it again")
        case status:
            yield Finding(Mark.FAIL, "sign-up", f"the API answers {status}: is the project paused?")


def _of_sign_up(auth: AuthSettings) -> Finding:
    if not auth.external.email:
        return Finding(Mark.FAIL, "sign-up", f"switch on Email under {_SIGN_IN}")
    if auth.disable_signup:
        said = f"closed: nobody new can come, unless you allow it under {_SIGN_IN}"
        return Finding(Mark.NOTE, "sign-up", said)
    if not auth.mailer_autoconfirm:
        said = (
            "addresses are confirmed by e-mail, which Supabase's own server sends to its team only: "
            f"set up SMTP, or switch off Confirm email under {_SIGN_IN}"
        )
        return Finding(Mark.NOTE, "sign-up", said)
    return Finding(Mark.OK, "sign-up", "open, without confirmation of addresses")


def _of_what_is_proven(
    api: ApiFacts | None, ring: Collection[int] | str
) -> tuple[Finding, Finding]:
    if api is None:
        return _unchecked("root keys", _API), _unchecked("max rows", _API)
    if isinstance(ring, str):
        keys = Finding(Mark.UNKNOWN, "root keys", f"not checked: {ring}")
    elif api.proven is None:
        said = "the API takes no proof of these root keys: run `migrate` with them"
        keys = Finding(Mark.FAIL, "root keys", said)
    else:
        needed = set(api.proven.root_key_versions)
        return _of_root_keys(needed, set(ring)), _of_rows(api.proven.row_bound)
    return keys, _unchecked("max rows", "the root keys")


def _of_root_keys(needed: Set[int], ring: Set[int]) -> Finding:
    if missing := needed - ring:
        said = f"stored data needs {_listed(missing)}: put it back beside the others"
        return Finding(Mark.FAIL, "root keys", said)
    spare = f", and not {_listed(ring - needed)}" if ring - needed else ""
    return Finding(Mark.OK, "root keys", f"stored data needs {_listed(needed)}{spare}")


def _of_rows(bound: int) -> Finding:
    if bound < LEAST:
        said = f"{bound} are too few: set Max rows to 1000 under Project Settings, Data API"
        return Finding(Mark.FAIL, "max rows", said)
    return Finding(Mark.OK, "max rows", f"{bound}" if bound <= PAGE else f"more than {PAGE}")


def _of_clocks(api: ApiFacts | None, database: DatabaseFacts | None) -> Finding:
    ahead = database.ahead_seconds if database else api and api.ahead_seconds
    if ahead is None:
        return _unchecked("clocks", "DATABASE_URL")
    said = f"{abs(ahead):.0f} s apart"
    if abs(ahead) > _MOST_SKEW_SECONDS:
        return Finding(Mark.FAIL, "clocks", f"{said}: set this machine's (NTP)")
    return Finding(Mark.OK, "clocks", said)


def _of_the_database(database: DatabaseFacts | None) -> Iterator[Finding]:
    if database is None:
        for what in ("safeupdate", "schema", "access tokens", "users"):
            yield _unchecked(what, "DATABASE_URL")
        return
    loaded = "loaded" if database.has_safeupdate else "not loaded"
    yield Finding(
        Mark.OK,
        "safeupdate",
        f"{loaded} for the API's connections; Daybook runs with it and without",
    )
    match database.schema:
        case SchemaFacts() as schema:
            yield Finding(Mark.OK, "schema", "Daybook's, and up to date")
            yield _of_tokens(schema.token_seconds)
            yield _of_users(schema.strangers)
        case str(refusal):
            yield Finding(Mark.FAIL, "schema", refusal)
        case missing:
            yield Finding(Mark.FAIL, "schema", f"lacks {', '.join(missing)}: run `migrate`")


def _of_tokens(seconds: int | None) -> Finding:
    if seconds is None:
        return Finding(Mark.UNKNOWN, "access tokens", "unknown until somebody signs in")
    said = f"good for {seconds} s"
    if seconds <= _SHORTEST_TOKEN_SECONDS:
        said += ": set their expiry to 3600 s under Project Settings, JWT Keys"
        return Finding(Mark.FAIL, "access tokens", said)
    return Finding(Mark.OK, "access tokens", said)


def _of_users(strangers: int) -> Finding:
    if strangers:
        said = f"{strangers} of Supabase Auth are not Daybook's, and cannot use it: give it a project of its own"
        return Finding(Mark.NOTE, "users", said)
    return Finding(Mark.OK, "users", "all are Daybook's")


def _unchecked(what: str, needs: str) -> Finding:
    return Finding(Mark.UNKNOWN, what, f"not checked: needs {needs}")


def _listed(versions: Collection[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"
