"""The whole app as AppTest runs it, with fakes where the backend would be."""

import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest
from streamlit.runtime.scriptrunner import script_runner
from streamlit.testing.v1 import AppTest

from services import bootstrap
from services.domain.models import ModelState
from tests.fakes import MAYA, FakePerson, ScriptedModel
from tests.stores import InMemoryDatabase

ROOT = Path(__file__).parents[2]


def in_dialog(app, dialog, *args):
    """Have the next run open *dialog*: AppTest reruns the whole page where a browser reruns the dialog alone."""
    app.session_state["dialog"] = dialog, args
    return app


def press(app, label):
    return next(button for button in app.button if button.label == label).click().run()


def pressed(app, key):
    return app.button(key=key).click().run()


def menu_button(app, key):
    (found,) = [one for one in app.get("menu_button") if one.key == key]
    return found


def keys(app):
    return {str(each.key) for each in (*app.button, *app.get("menu_button"))}


def captions(app):
    return "\n".join(caption.value for caption in app.caption)


def html(app):
    return "\n".join(each.value for each in app.get("html"))


def in_composer(app):
    proto = app.chat_input(key="composer").proto
    return proto.value if proto.set_value else ""


def messages(app):
    """The texts of the messages: prompts are HTML, replies Markdown."""
    return [each for each in map(_text, _drawn(app.main)) if each is not None]


def unanswered(app):
    """The prompts that are said to have no reply, as HTML."""
    return [each.value for each in app.main.get("html") if "Not answered, not sent" in each.value]


def _drawn(block):
    """The messages, and all else that is not a block, as they stand one below the other."""
    for child in block.children.values():
        if child.type == "chat_message" or not getattr(child, "children", None):
            yield child
        else:
            yield from _drawn(child)


def _text(drawn):
    if drawn.type == "chat_message":
        return drawn.markdown[0].value if drawn.markdown else None
    prompt = re.match(
        '<div class="db-message".*?>(.*)</div><div class="db-acts', _html(drawn), re.S
    )
    return unescape(re.sub("<[^>]*>", "", prompt[1])) if prompt else None


def _html(drawn):
    return drawn.proto.body if drawn.type == "html" else ""


@dataclass
class FakeHealth:
    """A process that is up, unless a test says otherwise."""

    is_started: bool = True
    is_database_away: bool = False
    stage: str = "ready"
    problem: str = ""
    model: ModelState = ModelState.REMOTE


@dataclass
class Tab:
    """Who sits before the tab: somebody, or nobody."""

    person: FakePerson | None = None
    has_accounts: bool = True


@pytest.fixture
def database():
    return InMemoryDatabase(MAYA)


@pytest.fixture
def model():
    return ScriptedModel()


@pytest.fixture
def maya(database, model):
    return FakePerson(database, model)


@pytest.fixture
def health(monkeypatch):
    fake = FakeHealth()
    monkeypatch.setattr(bootstrap, "server_health", lambda: fake)
    return fake


@pytest.fixture
def tab(monkeypatch, health):
    tab = Tab()
    monkeypatch.setattr(bootstrap, "person_services", lambda session_id: tab.person)
    monkeypatch.setattr(bootstrap, "has_accounts", lambda: tab.has_accounts)
    return tab


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
        app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=30)
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    return open_for
