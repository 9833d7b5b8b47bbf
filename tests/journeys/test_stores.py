"""Daybook on stores without a database server: opened, killed during a reply, and opened again by the same users and others."""

import re
import signal
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.firestore import documents_in, is_npms, new_place
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.stack.apps import running, until

ALONE = "Open the address in the file open-"


@pytest.fixture
def make_alone(make_app, tmp_path):
    """Return a function that makes an app on an SQLite file of this test."""

    def make(**changes):
        environment = {"DAYBOOK_STORE": f"sqlite:{tmp_path}/daybook.db"}
        environment |= changes.pop("environment", {})
        return make_app("alone", None, environment=environment, **changes)

    return make


def address(app):
    """Return the path of the address in the file that the start names, because the output is not a terminal."""
    file = app.keys / f"open-{app.port}.txt"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert app.last_line() == f"Daybook is ready on SQLite: open the address in {file}"
    return urlsplit(file.read_text().strip()).path


def partial_reply(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return file.execute("select row from turns where finished_at is null").fetchone()


def test_one_person_alone_on_a_file(make_alone, person, tmp_path):
    prompt = "Tell me all [[tokens=9000 rate=12 times=1]]"
    with running(make_alone()) as app:
        app.until_ready()
        maya = person(url=app.url)
        maya.visit("/")
        maya.sees(ALONE)
        expect(maya.page.locator("form")).to_have_count(0)
        maya.visit(address(app))
        maya.is_welcome()
        assert maya.page.url == f"{app.url}/"
        maya.asks("Before")
        maya.hears_all_of("You said: Before")
        maya.asks(prompt)
        maya.hears("word10")
        before = partial_reply(tmp_path / "daybook.db")
        until(lambda: partial_reply(tmp_path / "daybook.db") != before)
        secret = address(app).rpartition("/")[2]
        app.kill()
        assert secret not in app.said()
    with running(make_alone(base=app.base, port=app.port)) as again:
        again.until_ready()
        assert address(again).rpartition("/")[2] != secret
        # the cookie is still valid after the process has ended
        maya.sees("This reply was interrupted.")
        assert maya.texts()[:3] == ["Before", "You said: Before", prompt]
        assert re.fullmatch(r"word1 word2 .*word\d+", maya.texts()[3])

        maya.visit(f"/open/{secret}")
        maya.sees("This address is not valid, or no longer.")
        maya.visit("/admin")
        maya.sees("Totals only: admins cannot read chats.")
        for name in ("Users", "Sign-ups"):
            expect(maya.page.get_by_role("tab", name=name)).to_have_count(0)
        maya.visit("/data")
        maya.sees("stored encrypted, in SQLite")
        maya.page.get_by_role("button", name="Sign out of this browser").click()
        maya.sees(ALONE)
        maya.visit(address(again))
        maya.is_welcome()
        maya.visit("/account")  # leads to Your data
        maya.sees("This Daybook is for one person and needs no password")
        maya.page.get_by_role("button", name="Delete account").click()
        maya.page.get_by_label("Type “delete” to confirm").fill("delete")
        maya.page.locator(".db-form").get_by_role("button", name="Delete account").click()
        maya.sees("Your account has been deleted.")
        again.interrupt()
    with running(make_alone(base=app.base, port=app.port)) as third:
        third.until_ready()
        maya.visit(address(third))
        maya.is_welcome()
        expect(maya.rows).to_have_count(0)


@dataclass
class JsonFolder:
    """A store of JSON files in *folder*."""

    folder: Path
    name = "JSON files"

    @property
    def environment(self):
        return {"DAYBOOK_STORE": f"json:{self.folder}"}

    def open_turns(self):
        return [one.read_bytes() for one in self.folder.rglob("open-turns.jsonl")]

    def everything(self):
        return "".join(one.read_text() for one in self.folder.rglob("*.jsonl"))


@dataclass
class Firestore:
    """A store at the emulator *host*."""

    host: str
    name = "Firestore"

    def __post_init__(self):
        place = new_place(self.host)
        self.database = place.connect(place.project, place.database)
        self.environment = {
            "DAYBOOK_STORE": f"firestore:{place.project}",
            "FIRESTORE_EMULATOR_HOST": self.host,
        }

    def open_turns(self):
        return documents_in(self.database, "turns")

    def everything(self):
        return documents_in(self.database)


@pytest.fixture(
    params=[
        pytest.param("json", marks=pytest.mark.long_run(start=True)),
        pytest.param("firestore", marks=pytest.mark.long_run),
    ]
)
def kept(request, tmp_path):
    """A store for several users, in each kind."""
    if request.param == "json":
        return JsonFolder(tmp_path / "daybook")
    if is_npms():
        pytest.skip("Daybook opens no store at npm's emulator")
    return Firestore(request.getfixturevalue("firestore"))


def outcomes(kept, name):
    """Return the number of stored messages and ledger entries with the outcome *name*."""
    return len(re.findall(rf"outcome\W+{name}", kept.everything()))


def test_two_people_with_passwords_find_all_after_a_kill(make_alone, person, kept):
    local = kept.environment | {"DAYBOOK_SIGN_IN": "local"}
    with running(make_alone(environment=local)) as app:
        app.until_ready()
        assert (
            app.last_line() == f"Daybook is ready on {kept.name}: open http://localhost:{app.port}"
        )
        maya, omar = person("maya", url=app.url), person("omar", url=app.url, viewport=PHONE)
        maya.signs_up()
        maya.asks("Peas")
        maya.hears_all_of("You said: Peas")
        omar.signs_up()
        omar.asks("Tell me all [[tokens=9000 rate=12 times=1]]")
        omar.hears("word10")
        before = kept.open_turns()
        until(lambda: kept.open_turns() != before)
        app.kill()
    stored = kept.everything()
    assert "Peas" not in stored
    assert stored.count("@daybook.test") >= 2  # addresses are readable
    with running(make_alone(base=app.base, port=app.port, environment=local)) as again:
        again.until_ready()
        omar.sees("This reply was interrupted.")
        fresh = person("fresh", url=again.url, viewport=DESK)
        fresh.email = maya.email
        fresh.signs_in()
        expect(fresh.rows).to_have_text(["Peas"])
        fresh.opens("Peas")
        fresh.hears_all_of("You said: Peas")
        assert again.health()[1]["store"] == kept.name
        assert PASSWORD not in again.said()
        fresh.asks("And more [[tokens=9000 rate=12]]")
        fresh.hears("word3")
        lapsed = outcomes(kept, "lapsed")
        interrupted = outcomes(kept, "interrupted")
        again.interrupt(signal.SIGTERM)
    assert outcomes(kept, "lapsed") == lapsed
    assert outcomes(kept, "interrupted") > interrupted
