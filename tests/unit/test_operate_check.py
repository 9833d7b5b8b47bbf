"""The findings of `operate check`."""

import base64
import json
import re
from contextlib import closing
from uuid import UUID

import httpx
import pytest
from click.testing import CliRunner

from services.crypto import RootKeys, new_key
from services.domain import UserId
from services.domain.addresses import NO_ADDRESS
from services.embedded.folders import choose_folders, free_port
from services.errors import AddressNotAllowed, MailUnsent, StoreUnavailable, TooManyAttempts
from services.operate.__main__ import operate
from services.settings import Settings
from services.store.supabase import check
from services.store.tables.backend import TablesBackend
from services.stores import open_tables, place_of
from tests.identity.provider import METADATA, Response, forging_provider
from tests.mail_server import mail_server
from tests.stores import NOT_COUNTED, WholeAccounts

MAYA = UserId(UUID(int=7))


def auth(has_email=True, is_closed=False, is_confirmed=True):
    return check.AuthSettings(
        external={"email": has_email}, disable_signup=is_closed, mailer_autoconfirm=is_confirmed
    )


@pytest.mark.parametrize(
    ("finding", "mark", "words"),
    [
        (check.judge_sign_up(auth()), check.Mark.OK, "open"),
        (check.judge_sign_up(0), check.Mark.FAIL, "check SUPABASE_URL"),
        (check.judge_sign_up(540), check.Mark.FAIL, "paused"),
        (check.judge_sign_up(auth(has_email=False)), check.Mark.FAIL, "switch on Email"),
        (check.judge_sign_up(auth(is_closed=True)), check.Mark.NOTE, "closed"),
        (check.judge_sign_up(auth(is_confirmed=False)), check.Mark.NOTE, "enter yours under"),
        (check.judge_unsent(MailUnsent()), check.Mark.FAIL, "Auth logs have its answer"),
        (check.judge_unsent(AddressNotAllowed()), check.Mark.FAIL, "to the project's team only"),
        (check.judge_unsent(TooManyAttempts(60)), check.Mark.NOTE, "Try again in a minute."),
        (check.judge_unsent(StoreUnavailable(503)), check.Mark.FAIL, "does not answer"),
        (check.judge_root_keys((), (1,), 1), check.Mark.OK, "no data is stored yet"),
        (check.judge_root_keys((1,), (1,), 1), check.Mark.OK, "stored data needs root key 1"),
        (check.judge_root_keys((1, 4), (2, 3), 3), check.Mark.FAIL, "root keys 1 and 4: put them"),
        (check.judge_root_keys((1, 2), (2, 3), 3), check.Mark.FAIL, "root key 1: put it back"),
        (check.judge_root_keys((2,), (1, 2), 2), check.Mark.OK, "needs root key 1 any more"),
        (check.judge_root_keys((1,), (1, 2, 3), 2), check.Mark.OK, "needs root keys 2 or 3 yet"),
        (
            check.judge_root_keys((1, 2), (1, 2), 2),
            check.Mark.OK,
            "lists who still needs root key 1",
        ),
        (check.judge_max_rows(1000), check.Mark.OK, "100"),
        (check.judge_max_rows(99), check.Mark.FAIL, "99 are too few"),
        (check.judge_clocks(0.4), check.Mark.OK, "0 s apart"),
        (check.judge_clocks(-31.0), check.Mark.FAIL, "31 s apart"),
        (check.judge_access_tokens(3600), check.Mark.OK, "3600"),
        (check.judge_access_tokens(1200), check.Mark.FAIL, "3600"),
        (check.judge_access_tokens(None), check.Mark.UNKNOWN, "until the first sign-in"),
        (check.judge_credentials([], 3), check.Mark.OK, "all"),
        (
            check.judge_credentials([MAYA], 3),
            check.Mark.FAIL,
            f"1 are missing or do not open ({MAYA})",
        ),
        (check.judge_credentials([MAYA] * 4, 3), check.Mark.FAIL, f"{MAYA}, …): put their rows"),
        (check.judge_users([], 3), check.Mark.OK, "all"),
        (check.judge_users(["a", "b"], 1), check.Mark.NOTE, "2 of Supabase Auth"),
        (check.judge_auth_log(None, 0, 0.0), check.Mark.OK, "none"),
        (check.judge_auth_log(True, 0, 0.0), check.Mark.OK, "are removed"),
        (check.judge_auth_log(True, 2, 60.0), check.Mark.OK, "2 under way"),
        (check.judge_auth_log(True, 2, 7200.0), check.Mark.FAIL, "2 deleted accounts"),
        (check.judge_auth_log(False, 0, 0.0), check.Mark.NOTE, "Audit Logs"),
        (
            check.judge_auth_log(False, 2, 0.0),
            check.Mark.FAIL,
            "addresses of deleted accounts stay",
        ),
    ],
)
def test_finding_has_a_mark_and_says_what_to_do(finding, mark, words):
    assert finding[0] is mark
    assert words in finding[1]


@pytest.mark.parametrize("sends_mail", [True, False])
def test_note_on_confirm_email_advises_one_thing(sends_mail):
    _, text = check.judge_sign_up(auth(is_confirmed=False), sends_mail=sends_mail)

    assert ("switch off Confirm email" in text, "SMTP" in text) == (sends_mail, not sends_mail)


@pytest.fixture
def run_check(monkeypatch, tmp_path):
    """Run `check` on a hosted project whose API refuses every server proof."""

    def answer(_, request):
        if request.url.host == "away.test":
            raise httpx.ConnectError("no such host")
        if request.headers["apikey"] == "wrong":
            return httpx.Response(401, json={"message": "Invalid API key"})
        refused = {"code": "42501", "message": "not allowed"}
        return httpx.Response(403 if "/rpc/" in request.url.path else 404, json=refused)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)

    def run(**environment):
        project = {"SUPABASE_URL": "https://project.test", "SUPABASE_KEY": "key"}
        places = {f"DAYBOOK_{name}_DIR": str(tmp_path / name) for name in ("DATA", "KEY")}
        result = CliRunner().invoke(operate, "check", env=project | places | environment)
        rows = (re.split(r"  +", line, maxsplit=2) for line in result.output.splitlines())
        return result.exit_code, {name: (mark, text) for mark, name, text in rows}

    return run


def test_refused_server_proof_names_both_causes(run_check):
    code, found = run_check(DAYBOOK_ROOT_KEYS=base64.urlsafe_b64encode(new_key()).decode())

    causes = "the data was encrypted with others, or `migrate` has not run with these"
    advice = f"the API takes no proof of these root keys: {causes}"
    assert (code, found["root keys"]) == (1, (check.Mark.FAIL, advice))
    assert found["max rows"] == (check.Mark.UNKNOWN, "not checked: needs the root keys")


def test_api_that_is_away_accuses_no_root_key(run_check):
    key = base64.urlsafe_b64encode(new_key()).decode()

    code, found = run_check(DAYBOOK_ROOT_KEYS=key, SUPABASE_URL="https://away.test")

    mark, text = found["root keys"]
    assert (code, mark, text.partition(":")[0]) == (
        1,
        check.Mark.FAIL,
        "not checked, because the API fails",
    )
    assert found["max rows"] == (check.Mark.UNKNOWN, "not checked: needs the API")


def test_refused_api_key_is_the_one_cause(run_check):
    key = base64.urlsafe_b64encode(new_key()).decode()

    code, found = run_check(DAYBOOK_ROOT_KEYS=key, SUPABASE_KEY="wrong")

    assert code == 1
    assert found["API key"] == (check.Mark.FAIL, "the API refuses SUPABASE_KEY: copy it again")
    for name in ("sign-up", "root keys", "max rows"):
        text = "not checked: needs a key that the API takes"
        assert found[name] == (check.Mark.UNKNOWN, text)


def test_key_of_an_api_that_is_away_is_not_judged(run_check):
    _, found = run_check(SUPABASE_URL="https://away.test")

    assert found["API key"] == (check.Mark.UNKNOWN, "not checked: needs the API")


def test_mail_server_is_checked_where_mail_is_set(run_check):
    at = {"DAYBOOK_SMTP_HOST": "127.0.0.1", "DAYBOOK_SMTP_FROM": "no-reply@corp.example"}
    with mail_server() as received:
        _, found = run_check(**at, DAYBOOK_SMTP_PORT=str(received.port))

    text = f"127.0.0.1:{received.port} answers on this machine, without TLS"
    assert found["mail"] == (check.Mark.OK, text)
    assert received.received == []


def test_mail_server_that_is_away_fails_the_check(run_check):
    at = {"DAYBOOK_SMTP_HOST": "127.0.0.1", "DAYBOOK_SMTP_FROM": "no-reply@corp.example"}

    code, found = run_check(**at, DAYBOOK_SMTP_PORT=str(free_port()))

    mark, text = found["mail"]
    assert (code, mark) == (1, check.Mark.FAIL)
    assert "does not answer as a mail server (ConnectionRefusedError)" in text


def test_check_says_that_mail_is_printed(run_check):
    _, found = run_check(DAYBOOK_MAIL="console")

    assert found["mail"][0] == check.Mark.NOTE


def test_mail_is_not_checked_where_it_is_not_set(run_check):
    assert "mail" not in run_check()[1]


def test_missing_root_keys_are_not_checked(run_check):
    _, found = run_check(DAYBOOK_ROOT_KEYS="")

    mark, text = found["root keys"]
    assert (mark, text.partition(": ")[0]) == (check.Mark.UNKNOWN, "not checked")


def test_database_is_not_checked_without_its_address(run_check):
    _, found = run_check()

    unchecked = (check.Mark.UNKNOWN, "not checked: needs DATABASE_URL")
    for name in (
        "safeupdate",
        "schema",
        "access tokens",
        "credentials",
        "look-ups",
        "users",
        "auth log",
    ):
        assert found[name] == unchecked


@pytest.mark.parametrize(
    ("kind", "address", "finding"),
    [
        ("sqlite", "maya@corp.example", ("?", "not checked: needs DAYBOOK_SIGN_IN=local")),
        ("sqlite", NO_ADDRESS, ("ok", "each account has one that works here")),
        ("json-plain", "maya@corp.example", ("ok", "each account has one that works here")),
    ],
)
def test_check_without_sign_in_judges_no_account_with_an_address(tmp_path, kind, address, finding):
    key = base64.urlsafe_b64encode(new_key()).decode()
    settings = {"DAYBOOK_STORE": f"{kind}:{tmp_path}/store", "DAYBOOK_ROOT_KEYS": key}
    place = place_of(Settings(**settings), choose_folders(None, tmp_path / "keys"))
    with closing(open_tables(place, RootKeys.parse(key))) as tables:
        accounts = WholeAccounts(TablesBackend(tables), RootKeys.parse(key), 3600, 3600)
        found = accounts.find_for_sign_up(address, NOT_COUNTED)
        accounts.sign_up(found, None)

    lines = CliRunner().invoke(operate, "check", env=settings).output.splitlines()

    assert (*finding,) in [(line[:4].strip(), line[21:]) for line in lines if "ways in" in line]


def test_providers_are_checked_where_they_are_set(run_check):
    def checked(**changes):
        entry = {"issuer": corp.issuer, "client_id": "daybook", "client_secret": "a secret"}
        code, found = run_check(DAYBOOK_OIDC=json.dumps({"corp": entry | changes}))
        return (code, *found["single sign-on"])

    with forging_provider() as corp:
        text = "corp: metadata and keys can be read; a sign-in tests the client secret"
        assert checked()[1:] == (check.Mark.OK, text)
        code, mark, text = checked(issuer=f"{corp.issuer}/")
        assert (code, mark) == (1, check.Mark.FAIL)
        assert text == "corp has another issuer in its metadata: copy that one, to the last slash"
        corp.instead[METADATA] = Response(b"{}", 404)
        assert checked()[2].startswith("corp has no metadata at its issuer")

    assert checked()[2].startswith("corp does not answer")
    assert "single sign-on" not in run_check()[1]
