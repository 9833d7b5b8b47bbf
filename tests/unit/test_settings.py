"""Settings of a deployment, and the refusals of invalid ones."""

import json

import jwt
import pytest
from annotated_types import Le

from services import settings
from services.domain.sign_in_methods import SignInMethod
from services.errors import Misconfigured
from services.settings import Settings

SECRET = "kumquat-7781"
SERVICE_ROLE = jwt.encode({"role": "service_role"}, SECRET * 3)
URL = "http://db.test"
ENDPOINT = {"OPENAI_BASE_URL": "http://llm.test"}


@pytest.fixture(autouse=True)
def secrets(monkeypatch, tmp_path):
    """Empty the environment; return the path of the secrets file."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.alias), raising=False)
    monkeypatch.setattr(settings, "SECRETS_FILE", tmp_path / "secrets.toml")
    return tmp_path / "secrets.toml"


def refusal():
    with pytest.raises(Misconfigured) as caught:
        settings.read()
    assert SECRET not in f"{caught.value!r}{caught.value.public}"
    assert caught.value.__cause__ is None
    return caught.value.public


def test_all_settings_have_defaults():
    chosen = settings.read()

    assert chosen.supabase_url is None
    assert chosen.openai_api_key is None
    assert chosen.instructions
    assert chosen.titles


@pytest.mark.parametrize(
    ("text", "most"), [("", 1_000_000_000), ("2500", 2_500_000_000), ("0", None)]
)
def test_bytes_of_an_account_are_set_in_megabytes(monkeypatch, text, most):
    monkeypatch.setenv("DAYBOOK_ACCOUNT_MB", text)

    assert settings.read().account_bytes == most


def test_largest_numbers_are_accepted(monkeypatch):
    for name, most in LARGEST.items():
        monkeypatch.setenv(f"DAYBOOK_{name}", str(most - (name == "REPLY_TOKENS")))

    assert settings.read().output_price_micro == 10**10


def test_each_number_has_a_largest_value():
    numbers = [one for one in Settings.model_fields.values() if one.annotation in (int, int | None)]

    assert len(numbers) > 10
    assert all(any(isinstance(each, Le) for each in one.metadata) for one in numbers)


@pytest.mark.parametrize("store", ["sqlite:/var/daybook.db", "json:../a//b", "sqlite:~/x.db"])
def test_path_of_a_store_may_be_any(monkeypatch, store):
    monkeypatch.setenv("DAYBOOK_STORE", store)

    assert settings.read().store == store


def test_titles_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("DAYBOOK_TITLES", "off")

    assert settings.read().titles is False


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("DAYBOOK_MODEL = '{}'", "DAYBOOK_MODEL"),
        ("model = '{}'", "model"),
        ("openai_api_key = '{}'\n[daybook]\nmodel = 'tiny'", "openai_api_key"),
        ("[daybook]\n[supabase]\nSUPABASE_KEY = '{}'", "SUPABASE_KEY"),
        ("[a.b]\nDAYBOOK_URL = '{}'", "DAYBOOK_URL"),
    ],
)
def test_setting_outside_of_its_table_is_refused(secrets, text, name):
    secrets.write_text(text.format(SECRET))

    assert refusal() == f"{secrets}: {name} is outside of [daybook]: move it there."


def test_keys_of_other_programs_are_left_alone(secrets):
    secrets.write_text("other = 1\n[connections.sql]\nurl = 'x'\nmodel = 'y'\n[auth]\nkey = 'z'\n")

    assert settings.read().model is None


@pytest.mark.parametrize("name", ["DAYBOOK_MODEL", "daybook_model", "model"])
def test_setting_is_read_from_the_secrets_file(secrets, name):
    secrets.write_text(
        f'[daybook]\n{name} = "tiny"\nOPENAI_API_KEY = "key"\n[auth]\nredirect_uri = "x"\n'
    )

    assert settings.read().model == "tiny"


def test_environment_wins_unless_empty(secrets, monkeypatch):
    secrets.write_text('[daybook]\nDAYBOOK_MODEL = "tiny"\nOPENAI_API_KEY = "key"\n')
    monkeypatch.setenv("DAYBOOK_MODEL", "")
    assert settings.read().model == "tiny"

    monkeypatch.setenv("DAYBOOK_MODEL", "large")
    assert settings.read().model == "large"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("DAYBOOK_ACOUNT_MB", "DAYBOOK_ACCOUNT_MB"),
        ("daybook_modle", "DAYBOOK_MODEL"),
        ("DAYBOOK_ROOT_KEY", "DAYBOOK_ROOT_KEYS"),
        ("DAYBOOK_SUPABASE_URL", "SUPABASE_URL"),
    ],
)
def test_misspelt_name_in_the_environment_is_refused(monkeypatch, name, right):
    monkeypatch.setenv(name, SECRET)

    assert refusal() == f"{name}: there is no such setting: write {right}, or unset it."


def test_variables_named_like_fields_are_ignored(monkeypatch):
    monkeypatch.setenv("MAIL", "/var/mail/maya")
    monkeypatch.setenv("MODEL", "another program's")

    assert settings.read() == Settings()
    assert (settings.read().mail, settings.read().model) == (None, None)


@pytest.mark.parametrize("name", ["PORT", "SERVICE_HOST", "PORT_8501_TCP_ADDR", "JOURNEYS", "SEED"])
def test_names_of_other_programs_in_the_environment_are_ignored(monkeypatch, name):
    """Kubernetes sets the first three for a service that is called "daybook"; the tests read the others."""
    monkeypatch.setenv(f"DAYBOOK_{name}", "1")

    assert settings.read() == Settings()


@pytest.mark.parametrize("text", ["", '[auth]\nredirect_uri = "x"\n'])
def test_secrets_file_without_our_table_is_ignored(secrets, text):
    secrets.write_text(text)

    assert settings.read() == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[daybook\n{SECRET}", "cannot be read"),
        (f'[daybook]\nDAYBOOK_MODEL = "{SECRET}', "cannot be read"),
        (f'daybook = "{SECRET}"', "is not a table"),
        (f'[daybook]\nDAYBOOK_MODLE = "{SECRET}"', "DAYBOOK_MODLE: there is no such setting"),
        (
            f'[daybook]\nDAYBOOK_CONTEXT_TOKENS = "{SECRET}"',
            "DAYBOOK_CONTEXT_TOKENS: write a whole number.",
        ),
    ],
)
def test_invalid_secrets_file_is_named_and_not_quoted(secrets, text, said):
    secrets.write_text(text)

    assert said in refusal()


def test_unreadable_secrets_file_is_named(secrets):
    secrets.mkdir()

    assert str(secrets) in refusal()


ALONE = {"DAYBOOK_STORE": "sqlite:daybook.db"}
LARGEST = {
    "CONTEXT_TOKENS": 100_000_000,
    "REPLY_TOKENS": 100_000_000,
    "INPUT_PRICE_MICRO": 10**10,
    "OUTPUT_PRICE_MICRO": 10**10,
    "SIGN_UPS_AN_HOUR": 1_000_000,
}


@pytest.mark.parametrize(
    ("mode", "is_alone"),
    [
        ({}, True),
        ({"DAYBOOK_STORE": "json:daybook"}, True),
        ({"DAYBOOK_SIGN_IN": "local"}, False),
        ({"DAYBOOK_STORE": "firestore:daybook/(default)"}, False),
    ],
)
def test_store_here_has_one_user_unless_accounts_are_set(monkeypatch, mode, is_alone):
    for name, value in (ALONE | mode).items():
        monkeypatch.setenv(name, value)

    assert settings.read().is_alone == is_alone


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"SUPABASE_URL": URL}, "SUPABASE_URL and SUPABASE_KEY go together"),
        ({"SUPABASE_KEY": SECRET}, "SUPABASE_URL and SUPABASE_KEY go together"),
        ({"SUPABASE_URL": URL, "SUPABASE_KEY": f"sb_secret_{SECRET}"}, "SUPABASE_KEY is a secret"),
        ({"SUPABASE_URL": URL, "SUPABASE_KEY": SERVICE_ROLE}, "SUPABASE_KEY is a secret key"),
        ({"OPENAI_API_KEY": SECRET}, "DAYBOOK_MODEL is missing"),
        (ENDPOINT, "DAYBOOK_MODEL is missing"),
        ({"DAYBOOK_URL": "ftp://chat.example.org"}, "DAYBOOK_URL: begin it with https:// or http"),
        ({"DAYBOOK_URL": "chat.example.org"}, "DAYBOOK_URL: begin it with https:// or http"),
        (
            {"OPENAI_BASE_URL": SECRET, "DAYBOOK_MODEL": "m"},
            "OPENAI_BASE_URL: begin it with https://",
        ),
        (
            {"OPENAI_BASE_URL": f"http://me:{SECRET}@llm.test/v1", "DAYBOOK_MODEL": "m"},
            "An address holds a password",
        ),
        ({"DAYBOOK_MODEL": "mini"}, "DAYBOOK_MODEL and DAYBOOK_MODELS need OPENAI_BASE_URL"),
        ({"DAYBOOK_MODELS": "mini"}, "DAYBOOK_MODEL and DAYBOOK_MODELS need OPENAI_BASE_URL"),
        (
            {**ENDPOINT, "DAYBOOK_MODELS": "mini, a large one"},
            "A model's name is wrong: DAYBOOK_MODEL holds one, DAYBOOK_MODELS some",
        ),
        ({**ENDPOINT, "DAYBOOK_MODEL": "mini,large"}, "A model's name is wrong"),
        ({**ENDPOINT, "DAYBOOK_MODEL": f"@{200 * 'x'}"}, "A model's name is wrong"),
        ({**ENDPOINT, "DAYBOOK_MODEL": "team|mini"}, "A model's name is wrong"),
        ({"DAYBOOK_CONTEXT_TOKENS": "511"}, "DAYBOOK_CONTEXT_TOKENS: must be 512 or more."),
        (
            {"DAYBOOK_CONTEXT_TOKENS": "600", "DAYBOOK_REPLY_TOKENS": "600"},
            "DAYBOOK_REPLY_TOKENS must leave room",
        ),
        # an even number of messages, and at most what the database accepts
        ({"DAYBOOK_WINDOW_MESSAGES": "31"}, "DAYBOOK_WINDOW_MESSAGES: must be a multiple of 2."),
        ({"DAYBOOK_WINDOW_MESSAGES": "1002"}, "DAYBOOK_WINDOW_MESSAGES: must be 1000 or less."),
        (
            {"DAYBOOK_POLICY": "everything"},
            "DAYBOOK_POLICY: must be one of full, window, summary, retrieval.",
        ),
        ({"DAYBOOK_TRUSTED_PROXIES": "-1"}, "DAYBOOK_TRUSTED_PROXIES: must be 0 or more."),
        (
            {"DAYBOOK_STORE": "mysql:here"},
            "DAYBOOK_STORE: must be sqlite:PLACE or json:PLACE",
        ),
        ({"DAYBOOK_STORE": "json:"}, "DAYBOOK_STORE: must be sqlite:PLACE"),
        (
            {"DAYBOOK_STORE": "json-plain:a", "DAYBOOK_SIGN_IN": "local"},
            "DAYBOOK_STORE=json-plain: is for one person",
        ),
        ({"DAYBOOK_STORE": "firestore:a/b/c"}, "DAYBOOK_STORE: must be firestore:PROJECT"),
        (
            {"DAYBOOK_STORE": "firestore:daybook", "DAYBOOK_SIGN_IN": "none"},
            "DAYBOOK_SIGN_IN=none is for a store on this machine",
        ),
        ({"DAYBOOK_SIGN_IN": "local"}, "DAYBOOK_SIGN_IN goes with DAYBOOK_STORE"),
        ({**ALONE, "SUPABASE_URL": URL, "SUPABASE_KEY": SECRET}, "DAYBOOK_STORE and Supabase"),
        ({**ALONE, "DATABASE_URL": SECRET}, "DAYBOOK_STORE and Supabase are both set"),
        ({**ALONE, "DAYBOOK_URL": URL}, "Without sign-in Daybook is for this machine"),
        ({**ALONE, "DAYBOOK_TRUSTED_PROXIES": "1"}, "Without sign-in Daybook is for this"),
        (
            {"DAYBOOK_SESSION_IDLE_SECONDS": "5"},
            "DAYBOOK_SESSION_IDLE_SECONDS: must be 60 or more.",
        ),
        # at most what the database takes
        *(
            ({f"DAYBOOK_{name}": str(most + 1)}, f"DAYBOOK_{name}: must be {most} or less.")
            for name, most in LARGEST.items()
        ),
        *(
            (
                {"DAYBOOK_STORE": f"{kind}://daybook"},
                f"DAYBOOK_STORE: The place is a path, not a URL: write {kind}:PATH",
            )
            for kind in ("sqlite", "json", "json-plain")
        ),
    ],
)
def test_invalid_setting_is_refused_by_name(monkeypatch, chosen, said):
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)

    sentence = refusal()

    assert sentence.startswith(said)
    assert sentence.endswith(".")


KEYS = ("SUPABASE_KEY", "OPENAI_API_KEY", "DAYBOOK_METRICS_TOKEN")


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    "text", [f"{SECRET}\u2026", f"{SECRET[:3]} {SECRET}", f"a\n{SECRET}", f"\0{SECRET}"]
)
def test_key_that_no_header_can_carry_is_refused(secrets, name, text):
    secrets.write_text(f"[daybook]\n{name} = {json.dumps(text)}\n")

    assert refusal() == f"{name}: must be plain ASCII without blanks: copy the whole value again."


def test_blanks_around_keys_are_dropped(monkeypatch):
    for name, value in {"SUPABASE_URL": URL, "DAYBOOK_MODEL": "m"}.items():
        monkeypatch.setenv(name, value)
    for name in KEYS:
        monkeypatch.setenv(name, f" {SECRET}\r\n")

    chosen = settings.read()

    for key in (chosen.supabase_key, chosen.openai_api_key, chosen.metrics_token):
        assert key.get_secret_value() == SECRET


def test_blank_key_is_unset(monkeypatch):
    monkeypatch.setenv("DAYBOOK_METRICS_TOKEN", "\n")

    assert settings.read().metrics_token is None


@pytest.mark.parametrize("rest", ["/chat", "//", "?", "/?a", "#", "/#a"])
def test_public_address_with_more_than_a_host_is_refused(monkeypatch, rest):
    monkeypatch.setenv("DAYBOOK_URL", f"https://chat.example.org{rest}")

    assert refusal().startswith("DAYBOOK_URL: must end after the host or port")


@pytest.mark.parametrize("url", [f"{URL}/rest/v1", URL.replace("://", f"://me:{SECRET}@")])
def test_address_that_is_not_the_supabase_projects_is_refused(monkeypatch, url):
    monkeypatch.setenv("SUPABASE_URL", url)

    assert refusal().startswith("SUPABASE_URL: must be the project's address")


def test_supabase_may_stand_below_a_path(monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", f"{URL}/supabase")
    monkeypatch.setenv("SUPABASE_KEY", "key")

    assert str(settings.read().supabase_url) == f"{URL}/supabase"


@pytest.mark.parametrize("user", [SECRET, f"me:{SECRET}"])
def test_public_address_with_a_user_is_refused(monkeypatch, user):
    monkeypatch.setenv("DAYBOOK_URL", f"https://{user}@chat.example.org")

    assert refusal().startswith("DAYBOOK_URL: must end after the host or port")


@pytest.mark.parametrize("url", ["https://chat.example.org", "http://[::1]:8501"])
@pytest.mark.parametrize("end", ["", "/", "\n"])
def test_public_address_is_a_scheme_a_host_and_a_port(monkeypatch, url, end):
    monkeypatch.setenv("DAYBOOK_URL", f"{url}{end}")

    assert settings.read().public_url == url


@pytest.mark.parametrize(
    ("model", "models", "offered"),
    [
        ("", "", ()),
        ("mini", "", ("mini",)),
        ("mini", " large, mini ,,meta/Llama-3.3-70B ", ("mini", "large", "meta/Llama-3.3-70B")),
        ("", "large,mini", ("large", "mini")),
        ("@cf/moonshotai/kimi-k2.7-code", "", ("@cf/moonshotai/kimi-k2.7-code",)),
        ("@preset/support", f"@{199 * 'x'}", ("@preset/support", f"@{199 * 'x'}")),
    ],
)
def test_models_are_offered_once_default_first(monkeypatch, model, models, offered):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://llm.test") if offered else None
    monkeypatch.setenv("DAYBOOK_MODEL", model)
    monkeypatch.setenv("DAYBOOK_MODELS", models)

    assert settings.read().offered_models == offered


MAIL = {"DAYBOOK_SMTP_HOST": "mail.corp.example", "DAYBOOK_SMTP_FROM": "No-Reply@corp.example"}
CONSOLE = {"DAYBOOK_MAIL": "console"}


@pytest.mark.parametrize(
    ("chosen", "port", "has_login"),
    [
        ({}, 587, False),
        ({"DAYBOOK_SMTP_PORT": "465"}, 465, False),
        ({"DAYBOOK_SMTP_USER": "me", "DAYBOOK_SMTP_PASSWORD": SECRET}, 587, True),
        ({"DAYBOOK_SMTP_HOST": "::1"}, 587, False),
    ],
)
def test_mail_server_is_set(monkeypatch, chosen, port, has_login):
    for name, value in (MAIL | chosen).items():
        monkeypatch.setenv(name, value)

    server = settings.read().mail_server

    assert (server.port, server.sender) == (port, "no-reply@corp.example")
    assert server.host == chosen.get("DAYBOOK_SMTP_HOST", "mail.corp.example")
    assert (server.login is not None) is has_login
    assert SECRET not in repr(server)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"DAYBOOK_SMTP_HOST": "h"}, "DAYBOOK_SMTP_FROM is missing"),
        *(
            ({f"DAYBOOK_SMTP_{name}": value}, "DAYBOOK_SMTP_HOST is missing")
            for name, value in (
                ("FROM", "a@b.example"),
                ("PORT", "25"),
                ("USER", "me"),
                ("PASSWORD", SECRET),
            )
        ),
        *(
            (MAIL | {"DAYBOOK_SMTP_FROM": text}, "DAYBOOK_SMTP_FROM is not an email address")
            for text in (
                "Daybook <a@b.example>",
                "a@b.example,c@d.example",
                "a@localhost",
                "\u00e9@b.example",
            )
        ),
        *(
            (MAIL | {"DAYBOOK_SMTP_HOST": text}, "DAYBOOK_SMTP_HOST is a host name")
            for text in ("smtp://h", "h:587", "h h", "h/x", "\u00e9.example")
        ),
        *(
            (MAIL | {"DAYBOOK_SMTP_PORT": text}, f"DAYBOOK_SMTP_PORT: {said}.")
            for text, said in (
                ("0", "must be 1 or more"),
                ("65536", "must be 65535 or less"),
                ("smtp", "write a whole number"),
            )
        ),
        (MAIL | {"DAYBOOK_SMTP_USER": "me"}, "DAYBOOK_SMTP_USER and DAYBOOK_SMTP_PASSWORD go"),
        (MAIL | {"DAYBOOK_SMTP_PASSWORD": SECRET}, "DAYBOOK_SMTP_USER and DAYBOOK_SMTP_PASSWORD"),
        *(
            (
                MAIL | {"DAYBOOK_SMTP_USER": "me", "DAYBOOK_SMTP_PASSWORD": f"{SECRET}{text}"},
                "DAYBOOK_SMTP_USER and DAYBOOK_SMTP_PASSWORD must be plain ASCII",
            )
            for text in ("\u00e9", "\n", "\r")
        ),
        (MAIL | CONSOLE, "DAYBOOK_MAIL=console and a mail server are both set"),
        (CONSOLE | {"DAYBOOK_SMTP_USER": "me"}, "DAYBOOK_MAIL=console and a mail server"),
        (CONSOLE | {"DAYBOOK_URL": "https://c.example"}, "DAYBOOK_MAIL=console is for this"),
        (CONSOLE | {"DAYBOOK_TRUSTED_PROXIES": "1"}, "DAYBOOK_MAIL=console is for this machine"),
        ({"DAYBOOK_MAIL": "smtp"}, "DAYBOOK_MAIL: must be 'console'"),
        ({"DAYBOOK_CODES_AN_HOUR": "0"}, "DAYBOOK_CODES_AN_HOUR: must be 1 or more."),
        ({"DAYBOOK_MAILS_AN_HOUR": "4"}, "DAYBOOK_MAILS_AN_HOUR: must be 5 or more."),
    ],
)
def test_mail_that_cannot_work_is_refused(monkeypatch, chosen, said):
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)

    assert said in refusal()


@pytest.mark.parametrize("chosen", [MAIL, CONSOLE, {"DAYBOOK_SMTP_USER": "me"}])
def test_no_mail_is_sent_or_demanded_without_sign_in(monkeypatch, chosen):
    for name, value in (ALONE | chosen).items():
        monkeypatch.setenv(name, value)

    assert (settings.read().mail_server, settings.read().prints_mail) == (None, False)


PROVIDER = {
    "DAYBOOK_OIDC": '{"corp": {"issuer": "http://localhost:9000", "client_id": "daybook", "client_secret": "x"}}'
}
METHODS = "DAYBOOK_SIGN_IN_METHODS"


@pytest.mark.parametrize(
    ("chosen", "methods"),
    [
        ({}, {"password", "passkey"}),
        (MAIL, {"password", "passkey", "code"}),
        (CONSOLE, {"password", "passkey", "code"}),
        (PROVIDER, {"password", "passkey", "oidc"}),
        (MAIL | PROVIDER, {*SignInMethod}),
        (MAIL | PROVIDER | {METHODS: " oidc, code ,,"}, {"oidc", "code"}),
        ({METHODS: "code,passkey"}, {"passkey"}),
        ({METHODS: "passkey", "DAYBOOK_URL": "https://chat.example.org"}, {"passkey"}),
        ({METHODS: "passkey", "DAYBOOK_URL": "http://localhost:8501"}, {"passkey"}),
        ({"DAYBOOK_URL": "http://chat.example.org"}, {"password"}),
    ],
)
def test_methods_are_those_that_are_named_and_work_here(monkeypatch, chosen, methods):
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)

    assert settings.read().methods == methods


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (
            {METHODS: "code"},
            "DAYBOOK_SIGN_IN_METHODS lets nobody in: code needs DAYBOOK_SMTP_HOST (or",
        ),
        ({METHODS: "code,oidc"}, "DAYBOOK_SIGN_IN_METHODS lets nobody in"),
        (MAIL | {METHODS: "oidc"}, "DAYBOOK_SIGN_IN_METHODS lets nobody in"),
        (PROVIDER | {METHODS: "code"}, "DAYBOOK_SIGN_IN_METHODS lets nobody in"),
        (
            {METHODS: "passkey", "DAYBOOK_URL": "https://192.168.1.5"},
            "DAYBOOK_SIGN_IN_METHODS lets nobody in",
        ),
        ({METHODS: "password,passwort"}, "DAYBOOK_SIGN_IN_METHODS holds some of password, code"),
        ({METHODS: "Password"}, "DAYBOOK_SIGN_IN_METHODS holds some of"),
    ],
)
def test_methods_that_let_nobody_in_are_refused(monkeypatch, chosen, said):
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)

    assert refusal().startswith(said)


@pytest.mark.parametrize("named", ["code", "no such method"])
def test_methods_are_not_read_without_sign_in(monkeypatch, named):
    for name, value in (ALONE | {METHODS: named}).items():
        monkeypatch.setenv(name, value)

    assert settings.read().methods == frozenset()


def test_secrets_stay_out_of_reprs(monkeypatch):
    for name, value in MAIL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAYBOOK_SMTP_USER", "me")
    for name in (
        "DAYBOOK_SMTP_PASSWORD",
        "SUPABASE_KEY",
        "OPENAI_API_KEY",
        "DAYBOOK_ROOT_KEYS",
        "DATABASE_URL",
    ):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("SUPABASE_URL", "http://db.test")
    monkeypatch.setenv("DAYBOOK_MODEL", "m")

    assert SECRET not in f"{settings.read()!r}{settings.read()}"


def test_default_memory_policy_is_a_setting(monkeypatch):
    assert (settings.read().policy, settings.read().window_messages) == ("summary", 20)
    monkeypatch.setenv("DAYBOOK_POLICY", "window")
    monkeypatch.setenv("DAYBOOK_WINDOW_MESSAGES", "30")
    assert (settings.read().policy, settings.read().window_messages) == ("window", 30)
