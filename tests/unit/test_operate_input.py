"""What commands of `operate` ask for, and how they refuse."""

import base64
from contextlib import closing

import click
import pytest
from click.testing import CliRunner

from services.crypto import RootKeys, new_key
from services.operate.__main__ import operate
from services.store.sqlite import SqlitePlace
from services.store.tables.backend import TablesBackend
from services.stores import open_tables
from tests.stores import WholeAccounts
from tests.sure import ASKING

MAYA = "maya@daybook.test"
PASSWORD = "a long password of Maya"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command with Maya, the only admin: by default one that sets a password; *typed*: the input."""
    key = base64.urlsafe_b64encode(new_key()).decode()
    ring = RootKeys.parse(key)
    with closing(open_tables(SqlitePlace(tmp_path / "daybook.db"), ring)) as tables:
        WholeAccounts(TablesBackend(tables), ring, 3600, 3600).sign_up_with(MAYA, PASSWORD)

    def run(typed, *command):
        settings = {"DAYBOOK_STORE": f"sqlite:{tmp_path}/daybook.db", "DAYBOOK_ROOT_KEYS": key}
        command = command or ("set-password", MAYA)
        return CliRunner().invoke(operate, command, env=settings, input=typed)

    return run


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_password_is_piped_in_twice(run, end):
    done = run(f"{PASSWORD} anew{end}" * 2)

    assert (done.exit_code, done.output.splitlines()) == (
        0,
        [f"{MAYA} has a new password, and is signed out everywhere."],
    )


@pytest.mark.parametrize("typed", ["", "\n\n", f"{PASSWORD}\n", f"{PASSWORD}\n{PASSWORD}!\n"])
def test_other_input_than_two_equal_lines_is_refused(run, typed):
    done = run(typed)

    sentence = "Type the password on a terminal, or pipe it in twice, as two equal lines.\n"
    assert (done.exit_code, done.output) == (1, sentence)


def test_password_is_asked_for_on_a_terminal(run, monkeypatch):
    asked = list[tuple[str, dict[str, bool]]]()

    def prompt(text, **how):
        asked.append((text, how))
        return f"{PASSWORD} anew"

    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    monkeypatch.setattr(click, "prompt", prompt)

    assert run("").exit_code == 0
    assert asked == [("New password", {"hide_input": True, "confirmation_prompt": True})]


CHANGES = {
    "free-address": (MAYA,),
    "reset-factors": (MAYA,),
    "set-address": (MAYA, "new@daybook.test"),
    "move-issuer": ("https://old.test", "https://new.test"),
    "repair-sign-in": (MAYA,),
}


@pytest.mark.parametrize("verb", CHANGES)
def test_change_of_an_account_asks_first(run, monkeypatch, verb):
    piped = run("", verb, *CHANGES[verb])
    assert piped.exit_code == 1
    assert "brings" in piped.output
    assert piped.output.endswith("To do so without being asked, add --yes.\n")

    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    refused = run("n\n", verb, *CHANGES[verb])
    assert refused.exit_code == 1
    assert "Go on? [y/N]: n" in refused.output


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("free-address", "brings it back as confirmed"),
        ("set-address", "nothing brings back the account's former addresses"),
        ("move-issuer", "moves the accounts that are linked to https://new.test already, too"),
    ],
)
def test_question_says_what_does_not_come_back(run, verb, words):
    assert words in run("", verb, *CHANGES[verb]).output


def test_no_other_command_asks():
    asking = {
        name
        for name, command in operate.commands.items()
        if any(option.name == "is_sure" for option in command.params)
    }

    assert asking == {*CHANGES} == {*ASKING}


def test_address_of_the_only_admin_is_not_freed(run):
    run("", "grant-admin", MAYA)

    done = run("", "free-address", MAYA, "--yes")

    assert done.exit_code == 1
    assert "This is the only admin." in done.output
    assert "`set-address`" in done.output


def test_help_has_the_whole_first_sentence_of_each_command():
    text = " ".join(CliRunner().invoke(operate, ["--help"]).output.split())

    for command in operate.commands.values():
        sentence = " ".join(command.help.split("\n\n")[0].split())
        assert sentence.partition(". ")[0].rstrip(".") in text


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--daily", "x", "'x' is not a valid amount in dollars."),
        ("--tokens", "many", "'many' is not a valid number of tokens."),
    ],
)
def test_limit_that_is_no_number_is_named_in_words(run, option, value, words):
    assert words in run("", "limits", MAYA, option, value).output
