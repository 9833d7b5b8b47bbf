"""Refused starts on an SQLite file: one sentence, exit code 1, and an unchanged file."""

from base64 import urlsafe_b64encode
from contextlib import closing

import pytest

from services.crypto import RootKeys, new_key
from services.store.sqlite import SqlitePlace
from services.store.tables.backend import TablesBackend
from services.stores import open_tables
from tests.stack.apps import PASSWORD, App, running
from tests.stores import WholeAccounts

MODEL = {
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    "OPENAI_API_KEY": "none",
    "DAYBOOK_MODEL": "none",
}


@pytest.fixture
def start(tmp_path, cache):
    def start(port=None, **environment):
        (tmp_path / "store").mkdir(exist_ok=True)
        store = {"DAYBOOK_STORE": f"sqlite:{tmp_path}/store/daybook.db"}
        app = App(tmp_path / "home", cache, environment=MODEL | store | environment)
        return running(app)

    return start


def refused(app):
    """Return the sentence with which a start has ended."""
    assert app.ended() == 1
    (line,) = app.said().splitlines()
    return line


def listing(folder):
    """Return the bytes of the files in *folder*."""
    return {one: one.read_bytes() for one in folder.iterdir()}


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DAYBOOK_STORE": "sqlite:/dev/null/daybook.db"}, "cannot be made"),
        ({"DAYBOOK_STORE": "mysql:here"}, "DAYBOOK_STORE: must be"),
        ({"SUPABASE_URL": "http://a.test", "SUPABASE_KEY": "key"}, "are both set"),
        ({"STREAMLIT_SERVER_ADDRESS": "0.0.0.0"}, "for this machine alone"),  # noqa: S104
    ],
)
def test_wrong_start_makes_nothing(start, tmp_path, environment, sentence):
    with start(**environment) as app:
        assert sentence in refused(app)

    assert list((tmp_path / "store").iterdir()) == []
    assert not app.keys.exists()


def test_second_app_and_other_root_keys_are_refused(start, tmp_path):
    with start() as app:
        app.until_ready()
        with start() as second:
            assert "Another Daybook is using" in refused(second)
        app.interrupt()
    before = listing(tmp_path / "store")
    with start(DAYBOOK_ROOT_KEYS=urlsafe_b64encode(new_key()).decode()) as other:
        assert "not the one that this store was made with" in refused(other)
    (app.keys / "root.key").rename(tmp_path / "root.key")
    with start() as keyless:
        assert "The root key is missing" in refused(keyless)
    assert not (app.keys / "root.key").exists()
    assert listing(tmp_path / "store") == before


def test_start_without_sign_in_is_refused_to_several_accounts(start, tmp_path):
    key = urlsafe_b64encode(new_key()).decode()
    ring = RootKeys.parse(key)
    (tmp_path / "store").mkdir()
    with closing(open_tables(SqlitePlace(tmp_path / "store" / "daybook.db"), ring)) as tables:
        accounts = WholeAccounts(TablesBackend(tables), ring, 3600, 3600)
        for name in ("maya", "omar"):
            accounts.sign_up_with(f"{name}@daybook.test", PASSWORD)

    with start(DAYBOOK_ROOT_KEYS=key) as app:
        assert "accounts of several people, who need passwords" in refused(app)
