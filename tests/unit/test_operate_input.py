"""The passwords that commands of `operate` ask for."""

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

MAYA = "maya@daybook.test"
PASSWORD = "a long password of Maya"


@pytest.fixture
def run(tmp_path):
    """Return a function that gives Maya a new password, with *typed* as the input."""
    key = base64.urlsafe_b64encode(new_key()).decode()
    ring = RootKeys.parse(key)
    with closing(open_tables(SqlitePlace(tmp_path / "daybook.db"), ring)) as tables:
        WholeAccounts(TablesBackend(tables), ring, 3600, 3600).sign_up_with(MAYA, PASSWORD)

    def run(typed):
        settings = {"DAYBOOK_STORE": f"sqlite:{tmp_path}/daybook.db", "DAYBOOK_ROOT_KEYS": key}
        return CliRunner().invoke(operate, ["set-password", MAYA], env=settings, input=typed)

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
