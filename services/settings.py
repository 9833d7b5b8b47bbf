"""Settings of a deployment, read once from the environment and `.streamlit/secrets.toml`."""

import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from services.domain.addresses import EmailAddress, checked_address
from services.domain.models import MODEL_NAME
from services.domain.passkeys import relying_party
from services.domain.policies import POLICIES, WINDOW_MESSAGES, Summary
from services.domain.sign_in_methods import ALL_METHODS, SignInMethod
from services.errors import BadAddress, Misconfigured
from services.provider_settings import ProviderSettings, first_problem, read_providers

SECRETS_FILE = Path(__file__).parents[1] / ".streamlit" / "secrets.toml"
# the highest values that the database accepts: for the tokens of a turn, and for a price that an admin sets
_MOST_TOKENS = 100_000_000
_MOST_PRICE_MICRO = 10_000_000_000
# the kinds of stores that DAYBOOK_STORE can name; Supabase has separate settings
STORES = ("sqlite", "json", "json-plain", "firestore")
_FIRESTORE = re.compile(
    r"firestore:([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9](/(\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]))?"
)
_LABEL = "[A-Za-z0-9_-]{1,63}"
# a host name, or an IP address
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|[0-9A-Fa-f:.]{{2,45}}")
_KEY = re.compile(r"[!-~]*")  # the characters that an HTTP header can contain
# a URL without user and path, as pydantic formats it (with a slash at the end)
_ORIGIN = re.compile(r"https?://[^/?#@]+/")
# the similarity (ratio of `difflib`) from which an unknown name, such as MODLE, counts as a misspelt setting
_LIKENESS = 0.8
# the environment variables of fields with these prefixes do not begin with DAYBOOK_: other programs read them, too
_UNPREFIXED = ("supabase_", "openai_", "database_")


def _environment_name(field: str) -> str:
    return field.upper() if field.startswith(_UNPREFIXED) else f"DAYBOOK_{field.upper()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """The SMTP server through which mails are sent."""

    host: str = field(repr=False)
    port: int
    sender: EmailAddress = field(repr=False)
    # the user and the password; None: the server requires no login
    login: tuple[str, SecretStr] | None = field(repr=False)


class Settings(BaseSettings):
    """All settings with types and defaults. The environment takes precedence over the table `[daybook]`
    of the secrets file.

    If neither SUPABASE_URL nor DAYBOOK_STORE is set, the embedded backend is started. If neither OPENAI_BASE_URL nor
    OPENAI_API_KEY is set, the local model is started.
    """

    model_config = SettingsConfigDict(
        alias_generator=_environment_name,
        hide_input_in_errors=True,  # a mistyped key must not end up in a log
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
    )

    store: str | None = None  # the store's kind and place, such as sqlite:PATH; None: Supabase
    sign_in: Literal["none", "local"] | None = None  # None: the default for the kind of the store
    # sign-in methods, separated by commas; "": all methods that can work on this deployment
    sign_in_methods: str = ""
    supabase_url: HttpUrl | None = None
    supabase_key: SecretStr | None = None
    database_url: SecretStr | None = None  # used only by the commands of `operate`
    openai_base_url: HttpUrl | None = None
    openai_api_key: SecretStr | None = None
    model: str | None = None
    models: str = ""  # other models that users may choose, separated by commas
    # the next four settings apply to all offered models, not only to the default one
    context_tokens: int | None = Field(default=None, ge=512, le=_MOST_TOKENS)
    reply_tokens: int | None = Field(default=None, ge=16, le=_MOST_TOKENS)
    # micro-dollars per million tokens; these prices replace those of the endpoint and of the list genai-prices
    input_price_micro: int | None = Field(default=None, ge=0, le=_MOST_PRICE_MICRO)
    output_price_micro: int | None = Field(default=None, ge=0, le=_MOST_PRICE_MICRO)
    assistant_prefix: bool = False
    instructions: str = Field(default="You are a helpful assistant.", repr=False)
    policy: str = Summary.name
    window_messages: int = Field(default=WINDOW_MESSAGES, ge=2, le=1000, multiple_of=2)
    titles: bool = True
    root_keys: SecretStr | None = None
    metrics_token: SecretStr | None = None  # None: /metrics is switched off
    data_dir: Path | None = None
    key_dir: Path | None = None
    url: HttpUrl | None = None
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    sign_ups_an_hour: int = Field(default=20, ge=1, le=1_000_000)
    # None: mail is sent through the SMTP server, if one is set
    mail: Literal["console"] | None = None
    smtp_host: str | None = None
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_user: str | None = Field(default=None, repr=False)
    smtp_password: SecretStr | None = None
    smtp_from: str | None = Field(default=None, repr=False)
    # maximum sign-in codes that clients at one network address may request in an hour
    codes_an_hour: int = Field(default=20, ge=1, le=1_000_000)
    # maximum mails that one process sends in an hour
    mails_an_hour: int = Field(default=500, ge=5, le=1_000_000)
    # JSON in the environment, which pydantic must not decode: it would merge the result with the secrets file's tables
    oidc: Annotated[str | dict[str, object], NoDecode] = Field(default="", repr=False)
    # maximum megabytes that an account may store; 0: no limit
    account_mb: int = Field(default=1_000, ge=0, le=1_000_000_000)
    # megabytes of memory that the search indexes of all users may take
    search_mb: int = Field(default=500, ge=0, le=1_000_000)
    session_idle_seconds: int = Field(default=14 * 86_400, ge=60, le=31_536_000)
    session_lifetime_seconds: int = Field(default=90 * 86_400, ge=60, le=31_536_000)

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, name: str) -> str:
        if name not in POLICIES:
            raise ValueError(f"must be one of {', '.join(POLICIES)}")
        return name

    @field_validator("store")
    @classmethod
    def _check_store(cls, text: str | None) -> str | None:
        kind, _, place = (text or "").partition(":")
        if text is not None and (kind not in STORES or not place):
            raise ValueError(f"must be {' or '.join(f'{one}:PLACE' for one in STORES)}")
        if kind != "firestore" and place.startswith("//"):
            raise ValueError(f"The place is a path, not a URL: write {kind}:PATH")
        if text is not None and kind == "firestore" and not _FIRESTORE.fullmatch(text):
            raise ValueError("must be firestore:PROJECT or firestore:PROJECT/DATABASE")
        return text

    @field_validator("supabase_key", "openai_api_key", "metrics_token")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        """Return *key* without surrounding white space, such as a mounted file's last newline; None if it is empty."""
        text = key.get_secret_value().strip() if key else ""
        if not _KEY.fullmatch(text):
            raise ValueError("must be plain ASCII without blanks: copy the whole value again")
        return SecretStr(text) if text else None

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: HttpUrl | None) -> HttpUrl | None:
        if url and not _ORIGIN.fullmatch(str(url)):
            raise ValueError("must end after the host or port, as https://chat.example.org")
        return url

    @field_validator("supabase_url")
    @classmethod
    def _check_supabase_url(cls, url: HttpUrl | None) -> HttpUrl | None:
        """Refuse a user name, and the address of a part of Supabase: its parts are found below the project's address."""
        if url and (url.username or re.search(r"/(?:rest|auth)/v1/?$", url.path or "")):
            raise ValueError("must be the project's address, as https://name.supabase.co")
        return url

    @model_validator(mode="after")
    def _check_store_alone(self) -> Self:
        if self.store is None:
            if self.sign_in:
                raise ValueError("DAYBOOK_SIGN_IN goes with DAYBOOK_STORE: unset it")
        elif self.supabase_url or self.database_url:
            raise ValueError(
                "DAYBOOK_STORE and Supabase are both set: unset DAYBOOK_STORE, or what begins with SUPABASE_ and DATABASE_URL"
            )
        elif self.is_plain and not self.is_alone:
            raise ValueError(
                "DAYBOOK_STORE=json-plain: is for one person: unset DAYBOOK_SIGN_IN, or name it as json:"
            )
        elif self.sign_in == "none" and not self.is_alone:
            raise ValueError("DAYBOOK_SIGN_IN=none is for a store on this machine: unset it")
        elif self.is_alone and (self.url or self.trusted_proxies):
            raise ValueError(
                "Without sign-in Daybook is for this machine alone: set DAYBOOK_SIGN_IN=local, or unset DAYBOOK_URL and DAYBOOK_TRUSTED_PROXIES"
            )
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.supabase_url is None) != (self.supabase_key is None):
            raise ValueError("SUPABASE_URL and SUPABASE_KEY go together: set both, or neither")
        if self.supabase_key and _is_secret(self.supabase_key.get_secret_value()):
            raise ValueError(
                "SUPABASE_KEY is a secret key, which bypasses row level security: set the publishable key"
            )
        if not all(MODEL_NAME.fullmatch(name) for name in self.offered_models):
            raise ValueError(
                "A model's name is wrong: DAYBOOK_MODEL holds one, DAYBOOK_MODELS some with commas between"
            )
        has_endpoint = self.openai_base_url or self.openai_api_key
        if self.offered_models and not has_endpoint:
            raise ValueError(
                "DAYBOOK_MODEL and DAYBOOK_MODELS need OPENAI_BASE_URL or OPENAI_API_KEY beside them"
            )
        if has_endpoint and not self.offered_models:
            raise ValueError("DAYBOOK_MODEL is missing: name the model of your endpoint")
        if any(url and url.password for url in (self.supabase_url, self.openai_base_url)):
            # refused because HTTP clients write URLs, and so the password, to their logs
            raise ValueError("An address holds a password: leave it out, keys have their own names")
        if self.context_tokens and self.reply_tokens and self.context_tokens <= self.reply_tokens:
            raise ValueError("DAYBOOK_REPLY_TOKENS must leave room in DAYBOOK_CONTEXT_TOKENS")
        return self

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.is_alone:  # no user signs in, so nothing is mailed
            return self
        others = self.smtp_user, self.smtp_password, self.smtp_from
        if self.mail and (self.smtp_host or any(others)):
            raise ValueError(
                "DAYBOOK_MAIL=console and a mail server are both set: unset DAYBOOK_MAIL, or what begins with DAYBOOK_SMTP_"
            )
        if self.mail and (self.url or self.trusted_proxies):
            raise ValueError(
                "DAYBOOK_MAIL=console is for this machine alone: set DAYBOOK_SMTP_HOST, or unset DAYBOOK_URL and DAYBOOK_TRUSTED_PROXIES"
            )
        if self.smtp_host is None:
            if any(others) or "smtp_port" in self.model_fields_set:
                raise ValueError(
                    "DAYBOOK_SMTP_HOST is missing: set it, or unset what begins with DAYBOOK_SMTP_"
                )
            return self
        if not _HOST.fullmatch(self.smtp_host):
            raise ValueError(
                "DAYBOOK_SMTP_HOST is a host name or an IP address alone: the port is DAYBOOK_SMTP_PORT"
            )
        if self.smtp_from is None:
            raise ValueError(
                "DAYBOOK_SMTP_FROM is missing: set the email address that mails come from"
            )
        try:
            checked_address(self.smtp_from)
        except BadAddress:
            raise ValueError(
                "DAYBOOK_SMTP_FROM is not an email address: write it as name@example.org"
            ) from None
        if (self.smtp_user is None) != (self.smtp_password is None):
            raise ValueError(
                "DAYBOOK_SMTP_USER and DAYBOOK_SMTP_PASSWORD go together: set both, or neither"
            )
        password = self.smtp_password.get_secret_value() if self.smtp_password else ""
        login = f"{self.smtp_user or ''}{password}"
        # smtplib can encode only printable ASCII
        if not (login.isascii() and login.isprintable()):
            raise ValueError("DAYBOOK_SMTP_USER and DAYBOOK_SMTP_PASSWORD must be plain ASCII")
        return self

    @model_validator(mode="after")
    def _check_providers(self) -> Self:
        for name, provider in self.providers.items():
            if self.url is None and not provider.is_on_this_machine:
                raise ValueError(
                    f"DAYBOOK_URL is missing: the provider {name} sends browsers back to it"
                )
        return self

    @model_validator(mode="after")
    def _check_methods(self) -> Self:
        if self.is_alone:  # DAYBOOK_SIGN_IN_METHODS is not used, so it need not be valid
            return self
        try:
            methods = self.methods
        except ValueError:
            raise ValueError(
                f"DAYBOOK_SIGN_IN_METHODS holds some of {', '.join(SignInMethod)} with commas between"
            ) from None
        if not methods:
            raise ValueError(
                "DAYBOOK_SIGN_IN_METHODS lets nobody in: code needs DAYBOOK_SMTP_HOST (or DAYBOOK_MAIL=console), oidc needs DAYBOOK_OIDC, passkey needs a host name with https in DAYBOOK_URL; or add password"
            )
        return self

    @property
    def providers(self) -> Mapping[str, ProviderSettings]:
        """The single sign-on providers by name; none in a deployment without sign-in."""
        return {} if self.is_alone else read_providers(self.oidc)

    @property
    def methods(self) -> frozenset[SignInMethod]:
        """The methods of DAYBOOK_SIGN_IN_METHODS that can work on this deployment; none in a deployment without sign-in."""
        if self.is_alone:
            return frozenset()
        works = {
            SignInMethod.PASSWORD: True,
            SignInMethod.CODE: bool(self.smtp_host or self.mail),
            SignInMethod.PASSKEY: relying_party(self.public_url, "http", "localhost") is not None,
            SignInMethod.OIDC: bool(self.providers),
        }
        return frozenset(one for one in self._named_methods if works[one])

    @property
    def _named_methods(self) -> frozenset[SignInMethod]:
        """The methods in DAYBOOK_SIGN_IN_METHODS, or all if it is empty. Raise ValueError for an unknown name."""
        names = [name.strip() for name in self.sign_in_methods.split(",")]
        return frozenset(SignInMethod(name) for name in names if name) or ALL_METHODS

    @property
    def root_keys_text(self) -> str | None:
        """The text of DAYBOOK_ROOT_KEYS; None if it is not set."""
        return self.root_keys.get_secret_value() if self.root_keys else None

    @property
    def public_url(self) -> str | None:
        """The URL at which users open the app, without a slash at the end; None if it is not set."""
        return str(self.url).rstrip("/") if self.url else None

    @property
    def mail_server(self) -> MailServer | None:
        """The SMTP server; None if it is not set, or if the deployment has no sign-in."""
        if self.is_alone or self.smtp_host is None or self.smtp_from is None:
            return None
        login = None
        if self.smtp_user and self.smtp_password:
            login = self.smtp_user, self.smtp_password
        return MailServer(
            host=self.smtp_host,
            port=self.smtp_port,
            sender=checked_address(self.smtp_from),
            login=login,
        )

    @property
    def prints_mail(self) -> bool:
        """True if mails are printed on the console of the process."""
        return self.mail == "console" and not self.is_alone

    @property
    def is_model_local(self) -> bool:
        """True if the local model is started, because no endpoint is named."""
        return not (self.openai_base_url or self.openai_api_key)

    @property
    def asks_titles(self) -> bool:
        """True if the model titles conversations; the local model's titles say less than a prompt's first words."""
        return self.titles and not self.is_model_local

    @property
    def is_alone(self) -> bool:
        """True if the deployment has a single user, who signs in without a password."""
        is_here = self.store is not None and not self.store.startswith("firestore:")
        return is_here and self.sign_in != "local"

    @property
    def is_plain(self) -> bool:
        """True if the store does not encrypt users' texts (DAYBOOK_STORE=json-plain:…)."""
        return self.store is not None and self.store.startswith("json-plain:")

    @property
    def offered_models(self) -> tuple[str, ...]:
        """The names of the models offered at the endpoint, the default first."""
        names = [self.model or "", *self.models.split(",")]
        return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))

    @property
    def account_bytes(self) -> int | None:
        """The maximum bytes that an account may store; None if there is no limit."""
        return self.account_mb * 1_000_000 or None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # the field names in the table are translated here: with `populate_by_name`, pydantic would also read variables
        # with these names from the environment, and a variable MAIL is often the path of a mailbox
        table = {
            _environment_name(key) if key in settings_cls.model_fields else key: value
            for key, value in _table().items()
        }
        return init_settings, env_settings, InitSettingsSource(settings_cls, table)


def _environment_names() -> set[str]:
    return {_environment_name(field) for field in Settings.model_fields}


def _is_secret(key: str) -> bool:
    """Return True if *key* is a Supabase secret key, of the new form (`sb_secret_…`) or the old one (a JWT)."""
    import jwt  # imported only here, because the import takes 30 ms

    try:
        claims = jwt.decode(key, options={"verify_signature": False})
    except jwt.DecodeError:
        return key.startswith("sb_secret_")
    return claims.get("role") == "service_role"


def _table() -> dict[str, Any]:
    """Read the table `[daybook]` of the secrets file; the file's other tables belong to Streamlit."""
    try:
        tables = tomllib.loads(SECRETS_FILE.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else error
        raise Misconfigured(f"{SECRETS_FILE} cannot be read: {fault}.") from None
    table = tables.pop("daybook", {})
    if name := _misplaced(tables, {*Settings.model_fields}):
        raise Misconfigured(f"{SECRETS_FILE}: {name} is outside of [daybook]: move it there.")
    if not isinstance(table, dict):
        raise Misconfigured(f"{SECRETS_FILE}: daybook is not a table: write [daybook].")
    return cast(dict[str, Any], table)


def _check_environment() -> None:
    """Raise Misconfigured for a name in the environment that looks like a misspelt setting.

    Other names are accepted: Kubernetes sets DAYBOOK_PORT for a service called "daybook", and tests set other variables.
    """
    names = _environment_names()
    for name in os.environ:
        if not name.upper().startswith("DAYBOOK_") or name.upper() in names:
            continue
        rest = name.lower().removeprefix("daybook_")
        for close in get_close_matches(rest, Settings.model_fields, n=1, cutoff=_LIKENESS):
            right = _environment_name(close)
            raise Misconfigured(f"{name}: there is no such setting: write {right}, or unset it.")


def _misplaced(table: Mapping[str, Any], fields: Collection[str] = ()) -> str | None:
    """Return the first key, in *table* or its subtables, that is the name of a setting's environment variable; else None.

    A key of *table* itself is also returned if it is in *fields*, the names of the settings in the table `[daybook]`.
    """
    names = _environment_names()
    for key, value in table.items():
        if key.upper() in names or key.lower() in fields:
            return key
        if isinstance(value, Mapping) and (name := _misplaced(cast(Mapping[str, Any], value))):
            return name
    return None


def read(**others: Any) -> Settings:
    """Read the settings of this deployment. *others*: values that take precedence over environment and file.

    Raise Misconfigured for the first invalid setting.
    """
    _check_environment()
    try:
        return Settings(**{_environment_name(name): value for name, value in others.items()})
    except ValidationError as error:
        name, problem = first_problem(error)
        raise Misconfigured(f"{name}: {problem}." if name else f"{problem}.") from None
