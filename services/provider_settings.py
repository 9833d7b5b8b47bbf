"""The setting `DAYBOOK_OIDC`: single sign-on, with an entry for each OpenID Connect provider."""

import json
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from services.domain.addresses import checked_address
from services.domain.hosts import is_this_machine
from services.errors import BadAddress

_GOOGLE = "https://accounts.google.com"
# issuers of Microsoft Entra whose URL path begins with one of these names stand for many organisations, and are refused
_OF_MANY = {"common", "organizations", "consumers"}
# sentences in place of pydantic's, by the type of its error
_PROBLEMS = {
    "extra_forbidden": "there is no such setting",
    "url_parsing": "begin it with https:// or http://, and then name the host",
    "url_scheme": "begin it with https:// or http://, and then name the host",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "bool_parsing": "write true or false",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "multiple_of": "must be a multiple of {multiple_of}",
}
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}$")]
_Value = Annotated[str, Field(min_length=1, max_length=255)]


class ProviderSettings(BaseModel):
    """The settings of one OpenID Connect provider."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    issuer: str = Field(max_length=500)  # a URL, compared byte by byte
    client_id: str = Field(min_length=1, max_length=255, pattern=r"^[!-~]+$")
    client_secret: SecretStr = Field(min_length=1, max_length=1000)
    label: str = Field(default="", max_length=40)  # the name on screen; "": the entry's name
    may_sign_up: bool = False  # true: a user may create an account through this provider
    # domains of the email addresses with which an account may be created through this provider; empty: all domains
    domains: tuple[str, ...] = ()
    # true: users whose email address has one of the `domains` must sign in through this provider
    only: bool = False
    # if `only` is true, the maximum length of a session in days
    session_days: int = Field(default=7, ge=1, le=365)
    trusts_address: bool = False  # true: all email addresses from the provider count as verified
    # values of the claims acr or amr that count as a second factor
    trusts_mfa: tuple[_Value, ...] = ()

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, issuer: str) -> str:
        of_many = "{" in issuer
        if not of_many and (not is_address(issuer) or "?" in issuer):
            raise ValueError(
                "The issuer should be an https address, as the provider's metadata has it, without a password and a query"
            )
        if of_many or urlsplit(issuer).path.strip("/").partition("/")[0] in _OF_MANY:
            raise ValueError(
                "The issuer stands for many organisations: set that of your own, as the provider's metadata has it"
            )
        return issuer

    @field_validator("label")
    @classmethod
    def _check_label(cls, label: str) -> str:
        if label != label.strip() or not label.isprintable():
            raise ValueError("The label should be one line, without blanks around it")
        return label

    @field_validator("domains")
    @classmethod
    def _check_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(checked_address(f"a@{one}").removeprefix("a@") for one in domains)
        except BadAddress:
            raise ValueError(
                "A domain is wrong: write what stands after the @, such as example.org"
            ) from None

    @model_validator(mode="after")
    def _check_only(self) -> "ProviderSettings":
        if self.only and not self.domains:
            raise ValueError("domains is missing: only is for the addresses of its domains")
        return self

    def name_on_screen(self, name: str) -> str:
        """Return the name that pages show for the entry called *name*."""
        return self.label or name

    @property
    def is_google(self) -> bool:
        return self.issuer == _GOOGLE

    @property
    def is_on_this_machine(self) -> bool:
        return _is_on_this_machine(urlsplit(self.issuer))


_ENTRIES = TypeAdapter(dict[_Name, ProviderSettings])


def is_address(text: str, *, may_be_here: bool = True) -> bool:
    """Return True for an https URL without a user name or a fragment.

    If *may_be_here*, also return True for an http URL of this machine.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    is_safe = parts.scheme == "https" or (
        parts.scheme == "http" and may_be_here and _is_on_this_machine(parts)
    )
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(' "<>\\^`{|}')
    return bool(is_safe and host and is_plain and "@" not in parts.netloc and "#" not in text)


def read_providers(setting: str | Mapping[str, object]) -> dict[str, ProviderSettings]:
    """Return the providers in *setting* (JSON, or tables of the secrets file), keyed by the names of their entries.

    Raise ValueError for the first invalid entry; the error's text contains none of the values.
    """
    if isinstance(setting, str):
        try:
            setting = json.loads(setting or "{}", object_pairs_hook=_object)
        except (ValueError, RecursionError):
            raise ValueError(
                "DAYBOOK_OIDC should be a JSON object, with each name in it once"
            ) from None
    try:
        entries = _ENTRIES.validate_python(setting)
    except ValidationError as error:
        raise ValueError(_sentence(error)) from None
    issuers = [one.issuer for one in entries.values()]
    for name, entry in entries.items():
        if issuers.count(entry.issuer) > 1:
            raise ValueError(f"DAYBOOK_OIDC {name}: Another entry has the same issuer")
    return entries


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return *pairs* as a dict. Raise ValueError if a name occurs twice: a JSON parser would silently take the last value."""
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return the place of the first invalid value, and what is wrong with it, in words that do not repeat the value."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if words := _PROBLEMS.get(first["type"]):
        return place, words.format(**first.get("ctx", {}))
    return place, first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)


def _sentence(error: ValidationError) -> str:
    place, problem = first_problem(error)
    if place.endswith(".[key]"):
        place, problem = (
            "",
            "A name should be 1 to 20 of a-z, 0-9 and -, and begin with a letter",
        )
    return f"DAYBOOK_OIDC {place}: {problem}" if place else f"DAYBOOK_OIDC: {problem}"


def _is_on_this_machine(parts: SplitResult) -> bool:
    return is_this_machine(parts.hostname or "")
