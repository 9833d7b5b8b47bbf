"""The settings of single sign-on, and the refusals of invalid ones."""

import json

import pytest

from services import settings
from services.errors import Misconfigured
from services.provider_settings import is_address
from services.settings import Settings

SECRET = "kumquat-7781"
CORP = {
    "issuer": "https://sso.corp.example/realms/main",
    "client_id": "daybook",
    "client_secret": SECRET,
}
URL = {"DAYBOOK_URL": "https://daybook.corp.example"}
TABLE = f"""
[daybook]
DAYBOOK_URL = "https://daybook.corp.example"
[daybook.oidc.corp]
issuer = "https://sso.corp.example/realms/main"
client_id = "daybook"
client_secret = "{SECRET}"
label = "Corp"
may_sign_up = true
domains = ["Corp.example", "xn--dmin-moa0i.example"]
only = true
session_days = 3
trusts_address = true
trusts_mfa = ["mfa", "https://refeds.example/profile/mfa"]
"""


@pytest.fixture(autouse=True)
def secrets(monkeypatch, tmp_path):
    """Empty the environment; return the path of the secrets file."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.alias), raising=False)
    monkeypatch.setattr(settings, "SECRETS_FILE", tmp_path / "secrets.toml")
    return tmp_path / "secrets.toml"


def chosen(monkeypatch, others=URL, **entries):
    """Return the settings with *entries* in the environment."""
    for name, value in {**others, "DAYBOOK_OIDC": json.dumps(entries)}.items():
        monkeypatch.setenv(name, value)
    return settings.read()


def refusal(monkeypatch, others=URL, **entries):
    with pytest.raises(Misconfigured) as caught:
        chosen(monkeypatch, others, **entries)
    assert SECRET not in f"{caught.value!r}{caught.value.public}"
    assert caught.value.__cause__ is None
    return caught.value.public


def test_provider_is_set_in_a_table_of_the_secrets_file(secrets):
    secrets.write_text(TABLE)

    corp = settings.read().providers["corp"]

    assert corp.issuer == CORP["issuer"]
    assert corp.client_secret.get_secret_value() == SECRET
    assert corp.domains == ("corp.example", "xn--dmin-moa0i.example")
    assert (corp.label, corp.session_days) == ("Corp", 3)
    assert (corp.may_sign_up, corp.only, corp.trusts_address) == (True, True, True)
    assert corp.trusts_mfa == ("mfa", "https://refeds.example/profile/mfa")


def test_provider_that_says_no_more_is_trusted_with_nothing_more(monkeypatch):
    corp = chosen(monkeypatch, corp=CORP).providers["corp"]

    assert (corp.may_sign_up, corp.only, corp.trusts_address) == (False, False, False)
    assert (corp.domains, corp.trusts_mfa, corp.session_days) == ((), (), 7)


@pytest.mark.parametrize("name", ["oidc", "DAYBOOK_OIDC"])
def test_json_in_the_environment_wins_whole(secrets, monkeypatch, name):
    secrets.write_text(TABLE.replace("daybook.oidc", f"daybook.{name}"))
    assert {*settings.read().providers} == {"corp"}

    other = {**CORP, "issuer": "https://other.example"}

    assert {*chosen(monkeypatch, other=other).providers} == {"other"}
    assert chosen(monkeypatch, corp=other).providers["corp"].label == ""


def test_secret_of_a_provider_stays_out_of_reprs(secrets, monkeypatch):
    secrets.write_text(TABLE)
    from_file = settings.read()
    from_environment = chosen(monkeypatch, corp=CORP)

    for one in (from_file, from_environment):
        assert SECRET not in f"{one!r}{one}{one.providers}"


WRONG = [
    (CORP | {"issuer": issuer}, "DAYBOOK_OIDC corp.issuer: The issuer stands for many")
    for issuer in (
        "https://login.microsoftonline.com/common/v2.0",
        "https://login.microsoftonline.com/organizations/v2.0",
        "https://login.microsoftonline.com/consumers/v2.0",
        "https://login.microsoftonline.com/{tenantid}/v2.0",
        "https://sso.corp.example/common/",
    )
]
WRONG += [
    (CORP | {"issuer": issuer}, "DAYBOOK_OIDC corp.issuer: The issuer should be an https address")
    for issuer in (
        "http://sso.corp.example",
        "sso.corp.example",
        "ftp://localhost/x",
        "https://",
        "https://[::1",
        "https://sso.corp.example:port",
        "https://me:secret@sso.corp.example",
        "https://sso.corp.example?tenant=1",
        "https://sso.corp.example#top",
        "https://sso.corp.example/\n",
        "https://sso.corp.example\\@localhost",
        "https://sso.c\u00f6rp.example",
    )
]
WRONG += [
    (
        {name: value for name, value in CORP.items() if name != missing},
        f"DAYBOOK_OIDC corp.{missing}: Field required",
    )
    for missing in CORP
]
WRONG += [
    (CORP | {"client_secret": ""}, "DAYBOOK_OIDC corp.client_secret: Value should have"),
    (CORP | {"client_id": "day book"}, "DAYBOOK_OIDC corp.client_id: String should"),
    (CORP | {"klient": "x"}, "DAYBOOK_OIDC corp.klient: there is no such setting"),
    (CORP | {"label": "two\nlines"}, "DAYBOOK_OIDC corp.label: The label should be one line"),
    (CORP | {"label": "x" * 41}, "DAYBOOK_OIDC corp.label: String should have at most 40"),
    (CORP | {"only": True}, "DAYBOOK_OIDC corp: domains is missing"),
    (CORP | {"session_days": "x"}, "DAYBOOK_OIDC corp.session_days: write a whole number"),
    (CORP | {"session_days": 1.5}, "DAYBOOK_OIDC corp.session_days: write a whole number"),
    (CORP | {"only": "x"}, "DAYBOOK_OIDC corp.only: write true or false"),
    (CORP | {"session_days": 0}, "DAYBOOK_OIDC corp.session_days: must be 1 or more"),
    (CORP | {"trusts_mfa": [""]}, "DAYBOOK_OIDC corp.trusts_mfa.0: String should"),
    (CORP | {"trusts_mfa": "mfa"}, "DAYBOOK_OIDC corp.trusts_mfa: must be a valid"),
    *(
        (CORP | {"domains": [one]}, "DAYBOOK_OIDC corp.domains: A domain is wrong")
        for one in (
            "",
            "@corp.example",
            ".corp.example",
            "*.corp.example",
            "corp",
            "c\u00f6rp.example",
        )
    ),
    ("corp", "DAYBOOK_OIDC corp: must be a valid"),
]


@pytest.mark.parametrize(("entry", "said"), WRONG)
def test_entry_that_cannot_work_is_refused(monkeypatch, entry, said):
    sentence = refusal(monkeypatch, corp=entry)

    assert sentence.startswith(said)
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    "name", ["", "Corp", "1corp", "-corp", "corp_1", "c" * 21, "corp\n", "c\u00f6rp"]
)
def test_name_of_a_provider_fits_an_address(monkeypatch, name):
    assert refusal(monkeypatch, **{name: CORP}).startswith("DAYBOOK_OIDC: A name should be 1 to 20")


@pytest.mark.parametrize("name", ["c", "c" * 20, "corp-2"])
def test_name_of_a_provider_has_up_to_twenty_characters(monkeypatch, name):
    assert {*chosen(monkeypatch, **{name: CORP}).providers} == {name}


@pytest.mark.parametrize("text", [SECRET, "[]", '"corp"', f"{{{SECRET}", "[" * 100_000])
def test_setting_that_is_no_object_is_refused_unquoted(monkeypatch, text):
    monkeypatch.setenv("DAYBOOK_OIDC", text)
    with pytest.raises(Misconfigured, match=r"^DAYBOOK_OIDC") as caught:
        settings.read()

    assert SECRET not in f"{caught.value!r}{caught.value.public}"


@pytest.mark.parametrize(
    "text",
    [
        f'{{"corp": {json.dumps(CORP)}, "corp": {json.dumps(CORP | {"client_id": "another"})}}}',
        f'{{"corp": {json.dumps(CORP)[:-1]}, "only": true, "only": false}}}}',
    ],
)
def test_name_that_comes_twice_is_refused(monkeypatch, text):
    monkeypatch.setenv("DAYBOOK_URL", URL["DAYBOOK_URL"])
    monkeypatch.setenv("DAYBOOK_OIDC", text)
    with pytest.raises(Misconfigured, match="each name in it once") as caught:
        settings.read()

    assert SECRET not in f"{caught.value!r}{caught.value.public}"


def test_one_issuer_has_one_entry(monkeypatch):
    sentence = refusal(monkeypatch, corp=CORP, other=CORP | {"client_id": "another"})

    assert sentence == "DAYBOOK_OIDC corp: Another entry has the same issuer."


def test_provider_elsewhere_needs_the_public_address(monkeypatch):
    sentence = refusal(monkeypatch, {}, corp=CORP)

    assert sentence.startswith("DAYBOOK_URL is missing: the provider corp")


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:9000"])
def test_provider_on_this_machine_needs_neither_tls_nor_the_address(monkeypatch, host):
    corp = CORP | {"issuer": f"http://{host}/realms/main"}

    assert chosen(monkeypatch, {}, corp=corp).providers["corp"].is_on_this_machine


@pytest.mark.parametrize("entry", [CORP, {"issuer": SECRET}, SECRET])
def test_providers_are_not_read_without_sign_in(monkeypatch, entry):
    alone = {"DAYBOOK_STORE": "sqlite:daybook.db", "DAYBOOK_SIGN_IN": "none"}

    assert chosen(monkeypatch, alone, corp=entry).providers == {}


def test_address_of_another_machine_is_https():
    assert is_address("http://localhost/token")
    assert not is_address("http://localhost/token", may_be_here=False)
    assert is_address("https://sso.corp.example/token?v=1", may_be_here=False)
