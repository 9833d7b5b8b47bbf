"""Small stores as this version writes them, so that tests of later versions can open them.

python -m tests.earlier.make

Writes an archive for each kind of store into this folder. Each has the store and, as `export.zip`, what Maya exports from it.
To have the stores of another version, copy this file into a checkout of it.
"""

import base64
import hashlib
import io
import tarfile
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from services.crypto import RootKeys
from services.embedded.folders import choose_folders
from services.operate.__main__ import operate
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.tables.backend import TablesBackend
from services.store.tables.opening import check_root_key, let_first_account_be_admin
from services.users import full_export
from services.users.full_export import FullExport
from tests import conftest
from tests.store.conformance import talk
from tests.store.conftest import PASSWORD, make_sessions
from tests.stores import OpenStore, WholeAccounts, store_of, sweep

# known to everybody: the ring refuses a key of readable text
_KEY = hashlib.sha256(b"This root key is for tests only.").digest()
ROOT_KEY = base64.urlsafe_b64encode(_KEY).decode()
RING = RootKeys.parse(ROOT_KEY)
HERE = Path(__file__).parent


class Noon(datetime):
    """A clock that stands still, because an export has its time."""

    @classmethod
    def now(cls, tz=None):
        return talk.NOON


def export(session):
    """Return the zip file that a user exports."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(full_export, "datetime", Noon)
        return b"".join(FullExport(store_of(session), UTC).parts())


def main():
    """Make the three stores."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("sqlite", "json", "supabase"):
            (folder / name).mkdir()
        for name, place in (("sqlite", SqlitePlace), ("json", FilesPlace)):
            with closing(place(folder / name / "store").open()) as tables:
                check_root_key(tables, RING)
                let_first_account_be_admin(tables, is_let=True)
                store = OpenStore(tables)
                accounts = WholeAccounts(TablesBackend(store), RING, 3600, 86400)
                exported = export(_fill(accounts, lambda store=store: store.let_pass(60)))
            (folder / name / "export.zip").write_bytes(exported)
        _copy_embedded(folder)
        for name in ("sqlite", "json", "supabase"):
            _pack(name, folder / name)


def _copy_embedded(folder):
    """Copy an embedded Supabase into an SQLite file."""
    lapse = "update public.turns set lease_until = now() - interval '1 s'"
    with pytest.MonkeyPatch.context() as changed:
        fixed = SimpleNamespace(urlsafe_b64encode=lambda _: ROOT_KEY.encode())
        changed.setattr(conftest, "base64", fixed)
        with conftest.started_stack(folder, choose_folders(None, None).cache) as stack:

            def let_lapse():
                with stack.connect() as database:
                    database.execute(lapse)

            exported = export(_fill(make_sessions(stack), let_lapse))
            (folder / "supabase" / "export.zip").write_bytes(exported)
            places = {"DAYBOOK_DATA_DIR": str(stack.data), "DAYBOOK_KEY_DIR": str(stack.keys)}
            copied = CliRunner().invoke(
                operate,
                ["copy", "supabase", f"sqlite:{folder}/supabase/store"],
                env=places | {"DAYBOOK_ROOT_KEYS": ROOT_KEY},
            )
            assert copied.exit_code == 0, copied.output


def _fill(accounts, lapse):
    """Make an admin, and Maya with some chats, facts and spaces; return her session."""
    accounts.sign_up_with("admin@daybook.test", PASSWORD)
    maya = accounts.sign_up_with("maya@daybook.test", PASSWORD)[1]
    talk.fill_chats(store_of(maya), lapse)
    sweep(accounts.backend)
    return maya


def _pack(name, folder):
    """Write the archive of a store, without the names of this machine's users."""
    for lock in folder.glob("store-*"):
        assert not lock.stat().st_size, lock
        lock.unlink()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name, filter=_anonymous)
    (HERE / f"{name}.tar.gz").write_bytes(content.getvalue())


def _anonymous(entry):
    return entry.replace(uid=0, gid=0, uname="", gname="", mtime=0, deep=False)


if __name__ == "__main__":
    main()
