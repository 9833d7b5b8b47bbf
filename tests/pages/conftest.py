"""The whole app as AppTest runs it, with fakes in place of the backend."""

import itertools
import json
import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner import get_script_run_ctx, script_runner
from streamlit.testing.v1 import AppTest

from pages._parts import browser
from pages._tab import KEY
from services import bootstrap
from services.domain.accounts import SignUps
from services.domain.models import ModelState
from services.domain.sign_in_methods import SignInMethod
from services.web.recent_calls import RecentCalls
from services.web.server_health import SUPABASE
from tests.fakes import MAYA, FakePerson, ScriptedModel
from tests.stores import InMemoryDatabase

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()


def in_dialog(app, dialog, *args):
    """Open *dialog* in the next run; AppTest reruns the whole page when a browser would rerun the dialog alone."""
    app.session_state[KEY].dialog = dialog, args
    return app


def replace_the_run():
    """Make Streamlit stop the current run at its next check, as when a press begins another run."""
    get_script_run_ctx().yield_check.__self__.request_stop()


def press(app, label):
    return next(button for button in app.button if button.label == label).click().run()


def pressed(app, key):
    return app.button(key=key).click().run()


def clicked(app, **request):
    """Press a plain HTML button with these data attributes; return the app after the run."""
    return app.text_input(key="acts").set_value(json.dumps([next(_numbers), request])).run()


def opened(app, conversation):
    """Press a row of the list; return the app after the run."""
    return clicked(app, act="open", chat=str(conversation))


def chosen(app, conversation, choice):
    """Choose an entry in the menu of a row; return the app after the run."""
    assert choice in options(app, conversation)
    return clicked(app, act="choose", chat=str(conversation), choice=choice)


def options(app, conversation):
    """Return the entries of the menu of a row."""
    (found,) = re.findall(f'data-chat="{conversation}" data-options="(.*?)"', html(app))
    return found.split("|")


def options_above(app):
    """Return the entries of the menu of the open conversation."""
    (found,) = re.findall('data-place="above" data-options="(.*?)"', html(app))
    return found.split("|")


def listed(app):
    """Return the headings and titles of the list in order."""
    shown = "".join(each.value for each in app.sidebar.get("html") if "db-list" in each.value)
    found = re.findall('<p>(.*?)</p>|<button data-act="open".*?>(.*?)</button>', shown)
    return [unescape(re.sub("<[^>]*>", "", "".join(each))) for each in found]


def keys(app):
    return {str(each.key) for each in app.button}


def captions(app):
    return "\n".join(caption.value for caption in app.caption)


def warnings(app):
    return [warning.value for warning in app.warning]


def refusals(app):
    """Return the refusals that are drawn beside a form or a button."""
    return [
        unescape(each)
        for each in re.findall('role="alert" class="db-refusal">(.*?)</p>', html(app))
    ]


def refused(app):
    """Return the refusals below fields, by the labels of the fields."""
    blocks = (app.main, *app.get("dialog"))
    return {label: sentence for block in blocks for label, sentence in _refused(block)}


def _refused(block, label=None):
    for child in block.children.values():
        if getattr(child, "children", None):
            yield from _refused(child, label)
        elif child.type in ("number_input", "text_input"):
            label = child.label
        elif label and child.type == "html" and "db-refusal" in child.value:
            yield label, re.sub("<[^>]*>", "", child.value)


def news(app):
    """Return the news of success that are drawn beside a form or a button."""
    return [
        unescape(each) for each in re.findall('role="status" class="db-news">(.*?)</p>', html(app))
    ]


def grid(app, number=0):
    """Return a plain HTML table: its columns, and the figures of each row by its label."""
    table = html(app).split("<table>")[1 + number].split("</table>")[0]
    rows = [
        [
            unescape(re.sub("<[^>]*>", "", cell))
            for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", line)
        ]
        for line in re.findall("<tr>(.*?)</tr>", table)
    ]
    return rows[0][1:], {label: figures for label, *figures in rows[1:]}


def audit(app):
    """Return the shown entries of the audit, the newest first: their columns by label."""
    (table,) = [
        each for each in html(app).split("<table>") if each.startswith('<tr><th scope="col">Time<')
    ]
    lines = re.findall("<tr>(.*?)</tr>", table.split("</table>")[0])
    heads, *rows = [
        [unescape(cell) for cell in re.findall("<t[hd].*?>(.*?)</t[hd]>", line)] for line in lines
    ]
    return [dict(zip(heads, row, strict=True)) for row in rows]


def html(app):
    return "\n".join(each.value for each in app.get("html"))


def in_composer(app):
    proto = app.chat_input(key="composer").proto
    return proto.value if proto.set_value else ""


def messages(app):
    """Return the texts of the messages; prompts are HTML, replies Markdown."""
    return list(_texts(app.main))


def unanswered(app):
    """Return the prompts that are marked as unanswered, as HTML."""
    return [
        each for each in _PROMPT.findall(html(app)) if "Unanswered, not part of the chat" in each
    ]


_PROMPT = re.compile('<div class="db-message.*?>(.*?)</div><div class="db-acts')


def _texts(block, *, is_past=False):
    for child in block.children.values():
        if child.type == "chat_message":
            yield from [each.value for each in child.markdown][:1]
        elif child.type == "markdown" and is_past:
            yield child.value
        elif child.type == "html":
            yield from (
                unescape(re.sub("<[^>]*>", "", one)) for one in _PROMPT.findall(child.value)
            )
        elif getattr(child, "children", None):
            yield from _texts(child, is_past=is_past or "-past-" in child.proto.id)


def regenerated(app, message, choice=""):
    """Press Regenerate below a reply, or choose an entry of the menu beside it; return the app after the run."""
    if choice:
        return clicked(app, act="choose", message=str(message.id), choice=choice)
    return clicked(app, act="retry", message=str(message.id))


@pytest.fixture
def database():
    return InMemoryDatabase(MAYA)


@pytest.fixture
def garden(database):
    return database.hold("Garden", "One", "Two")


@pytest.fixture
def model():
    return ScriptedModel()


@pytest.fixture
def maya(database, model):
    return FakePerson(database, model)


class _Process(SimpleNamespace):
    """The process that pages ask; codes sign in where mail is set."""

    mail_invitation = staticmethod(lambda *_: False)
    mailer, off = None, frozenset()  # off: methods that DAYBOOK_SIGN_IN_METHODS leaves out

    @property
    def methods(self):
        without_mail = set() if self.mailer else {SignInMethod.CODE}
        return frozenset(SignInMethod) - self.off - without_mail


@pytest.fixture
def health(monkeypatch):
    """The health of a running process, unless a test changes it."""
    up = {"is_started": True, "is_database_away": False, "stage": "ready", "problem": ""}
    fake = SimpleNamespace(
        model=ModelState.REMOTE, version="0.1.0", store=SUPABASE, outage="", **up
    )
    app = _Process(health=fake, recent_calls=RecentCalls(), is_alone=False, is_plain=False)
    app.public_url, app.providers = "https://daybook.test", ()
    app.unread_files = lambda user_id: []
    app.doubt = app.has_ended = lambda session_id: False
    monkeypatch.setattr(bootstrap, "current_app", lambda: app)
    return fake


@pytest.fixture
def tab(monkeypatch, health):
    """A browser tab: the signed-in user, if any; whether the app has accounts; and the mode of sign-ups."""
    tab = SimpleNamespace(
        person=None,
        has_accounts=True,
        sign_ups=SignUps.OPEN,
        next_is_admin=False,
        invitations={},
        asked=[],
    )
    app = bootstrap.current_app()
    app.user = lambda session_id: tab.person
    app.has_accounts = lambda: tab.has_accounts
    app.sign_ups = lambda: tab.sign_ups
    app.next_is_admin = lambda: tab.next_is_admin

    def open_invitation(code, network):
        tab.asked.append(code)
        found = tab.invitations.get(code)
        if isinstance(found, Exception):
            raise found
        return found

    app.open_invitation = open_invitation
    return tab


@pytest.fixture(scope="session", autouse=True)
def _components_of_packages():
    """Look for components in the installed packages once: each AppTest would read the metadata of every package."""
    found = manifest_scanner.scan_component_manifests()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", lambda: found)
        yield


@pytest.fixture(autouse=True)
def acts(monkeypatch):
    """A field in place of the component that hears plain HTML buttons, because AppTest runs no components."""

    def hear(act):
        st.text_input(
            "acts", key="acts", on_change=lambda: act(json.loads(st.session_state.acts)[1])
        )

    monkeypatch.setattr(browser, "hear_acts", hear)


@pytest.fixture(autouse=True)
def navigation_only(monkeypatch):
    """AppTest would run the files of pages/ by themselves, which our server forbids (streamlit_app.py)."""

    def run(path):
        source = Path(path).read_text(encoding="utf-8")
        exec(compile(source, path, "exec"), {"__name__": "__main__", "__file__": path})  # noqa: S102

    monkeypatch.setattr(script_runner, "_mpa_v1", run)


@pytest.fixture
def open_app(tab):
    def open_for(person, **query):
        tab.person = person
        app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    return open_for


@pytest.fixture
def open_chat(open_app, maya, database):
    """Return a function that opens a stored conversation, "Garden", of these prompts and replies; it returns the page and the id."""

    def open_stored(*bodies, **of):
        garden = database.hold("Garden", *bodies, **of)
        return open_app(maya, c=str(garden)), garden

    return open_stored
