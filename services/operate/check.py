"""Whether a deployment will work: findings from facts about the Supabase API and the database behind it."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from pydantic import AliasPath, BaseModel, Field

from services.store.supabase.paging import LEAST, PAGE

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


Verdict = tuple[Mark, str]


class AuthSettings(BaseModel):
    """What `/auth/v1/settings` answers; the other providers do not matter here."""

    has_email: bool = Field(validation_alias=AliasPath("external", "email"))
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
) -> dict[str, Verdict]:
    """What was checked or could not be, by name. *ring*: the root keys' versions, or why there are none."""
    ahead_seconds = database.ahead_seconds if database else api and api.ahead_seconds
    clocks = {"clocks": _of_clocks(ahead_seconds)}
    return _of_the_api(api, ring) | clocks | _of_the_database(database)


def _of_the_api(api: ApiFacts | None, ring: Collection[int] | str) -> dict[str, Verdict]:
    if api is None:
        return dict.fromkeys(("API key", "sign-up", "root keys", "max rows"), _unchecked(_API))
    proven = None if isinstance(ring, str) else api.proven
    return {
        "API key": (Mark.OK, "publishable" if api.is_publishable else "anon, of the old kind"),
        "sign-up": _of_sign_up(api.auth),
        "root keys": _of_root_keys(proven, ring),
        "max rows": _of_rows(proven.row_bound) if proven else _unchecked("the root keys"),
    }


def _of_sign_up(auth: AuthSettings | int) -> Verdict:
    match auth:
        case 0:
            return Mark.FAIL, "Supabase Auth does not answer: check SUPABASE_URL"
        case 401 | 403:
            return Mark.FAIL, "the API refuses SUPABASE_KEY: copy it again"
        case int(status):
            return Mark.FAIL, f"the API answers {status}: is the project paused?"
        case AuthSettings(has_email=False):
            return Mark.FAIL, f"switch on Email under {_SIGN_IN}"
        case AuthSettings(disable_signup=True):
            return Mark.NOTE, f"closed: nobody can sign up, unless you allow it under {_SIGN_IN}"
        case AuthSettings(mailer_autoconfirm=False):
            return Mark.NOTE, (
                "addresses are confirmed by e-mail, which Supabase's own server sends to its team only: "
                f"set up SMTP, or switch off Confirm email under {_SIGN_IN}"
            )
        case _:
            return Mark.OK, "open, without confirmation of addresses"


def _of_root_keys(proven: ProvenFacts | None, ring: Collection[int] | str) -> Verdict:
    if isinstance(ring, str):
        return Mark.UNKNOWN, f"not checked: {ring}"
    if proven is None:
        return Mark.FAIL, "the API takes no proof of these root keys: run `migrate` with them"
    needed, had = set(proven.root_key_versions), set(ring)
    if missing := needed - had:
        return Mark.FAIL, f"stored data needs {_listed(missing)}: put it back beside the others"
    spare = f", and not {_listed(had - needed)}" if had - needed else ""
    return Mark.OK, f"stored data needs {_listed(needed)}{spare}"


def _of_rows(bound: int) -> Verdict:
    if bound < LEAST:
        return (
            Mark.FAIL,
            f"{bound} are too few: set Max rows to 1000 under Project Settings, Data API",
        )
    return Mark.OK, f"{bound}" if bound <= PAGE else f"more than {PAGE}"


def _of_clocks(ahead_seconds: float | None) -> Verdict:
    if ahead_seconds is None:
        return _unchecked("DATABASE_URL")
    said = f"{abs(ahead_seconds):.0f} s apart"
    if abs(ahead_seconds) > _MOST_SKEW_SECONDS:
        return Mark.FAIL, f"{said}: set this machine's (NTP)"
    return Mark.OK, said


def _of_the_database(database: DatabaseFacts | None) -> dict[str, Verdict]:
    if database is None:
        names = ("safeupdate", "schema", "access tokens", "users")
        return dict.fromkeys(names, _unchecked("DATABASE_URL"))
    loaded = "loaded" if database.has_safeupdate else "not loaded"
    said = f"{loaded} for the API's connections; Daybook runs with it and without"
    found = {"safeupdate": (Mark.OK, said)}
    match database.schema:
        case SchemaFacts() as schema:
            return found | {
                "schema": (Mark.OK, "Daybook's, and up to date"),
                "access tokens": _of_tokens(schema.token_seconds),
                "users": _of_users(schema.strangers),
            }
        case str(refusal):
            return found | {"schema": (Mark.FAIL, refusal)}
        case missing:
            return found | {"schema": (Mark.FAIL, f"lacks {', '.join(missing)}: run `migrate`")}


def _of_tokens(seconds: int | None) -> Verdict:
    if seconds is None:
        return Mark.UNKNOWN, "unknown until somebody signs in"
    if seconds <= _SHORTEST_TOKEN_SECONDS:
        advice = "set their expiry to 3600 s under Project Settings, JWT Keys"
        return Mark.FAIL, f"good for {seconds} s: {advice}"
    return Mark.OK, f"good for {seconds} s"


def _of_users(strangers: int) -> Verdict:
    if strangers:
        return Mark.NOTE, (
            f"{strangers} of Supabase Auth are not Daybook's, and cannot use it: give it a project of its own"
        )
    return Mark.OK, "all are Daybook's"


def _unchecked(needs: str) -> Verdict:
    return Mark.UNKNOWN, f"not checked: needs {needs}"


def _listed(versions: Collection[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"
