"""The new-chat page: the newest chats, and things to try."""

import re
from dataclasses import replace
from html import unescape
from uuid import uuid4

import pytest

from pages._parts import welcome
from pages._tab import KEY
from services.domain import Retrieval, Space, SpaceId
from services.domain.models import ModelState
from tests.fakes import NOON
from tests.pages.conftest import clicked, listed


def start(app):
    """Return the elements of the page that begin something, each with its title."""
    (found,) = [html.value for html in app.main.get("html") if "db-start" in html.value] or [""]
    rows = re.findall(r"<(button|a) (.*?)><span.*?>(.*?)<", found)
    return {unescape(title): attributes for _, attributes, title in rows}


def recent(app):
    return [
        title for title, attributes in start(app).items() if 'data-act="continue"' in attributes
    ]


def test_new_user_sees_three_things_to_try(open_app, maya):
    shown = start(open_app(maya))

    assert [*shown] == [
        "See what is sent to the model",
        "Let Daybook remember",
        "See what is stored where",
    ]
    assert "data-prompt=" in shown["See what is sent to the model"]
    assert 'href="/data"' in shown["See what is stored where"]


def test_user_sees_the_three_newest_chats_and_opens_one(open_app, maya, database):
    chats = [database.hold(f"Chat {n}", "One", "Two") for n in range(5)]
    database.conversations.pin(chats[0])  # first in the list, but not new
    app = open_app(maya)
    assert recent(app) == ["Chat 4", "Chat 3", "Chat 2"]

    clicked(app, act="continue", chat=str(chats[3]))

    assert app.title[0].value == "Chat 3"
    assert start(app) == {}


def test_newest_chats_stay_while_the_list_shows_others(open_app, maya, database):
    database.hold("Peas")
    database.conversations.archive(database.hold("Beans"))
    app = open_app(maya)

    clicked(app, act="archive")
    assert "Beans" in listed(app)
    assert recent(app) == ["Peas"]
    app.sidebar.text_input(key="search").set_value("roses").run()
    assert recent(app) == ["Peas"]


@pytest.mark.parametrize(
    ("has_decided", "has_space", "recalls", "names"),
    [
        (False, False, False, ["memory", "space", "recall"]),
        (True, False, False, ["space", "recall", "data"]),
        (True, True, False, ["recall", "data", "sent"]),
        (True, True, True, ["data", "sent", "space"]),
    ],
)
def test_user_sees_things_not_tried_yet(maya, has_decided, has_space, recalls, names):
    if has_decided:
        maya.profile.change(lambda now: now.with_memory(False, NOON))
    if has_space:
        maya.spaces.keep(Space(id=SpaceId(uuid4()), name="Latin", created_at=NOON))
    if recalls:
        maya.profile.change(lambda now: replace(now, policy=Retrieval()))

    assert welcome.things_to_try(maya, is_new=False) == names


def test_recall_is_tried_in_the_new_chat(open_app, maya, database):
    database.hold("Peas")
    app = open_app(maya)

    clicked(app, act="try", thing="recall")

    assert app.session_state[KEY].new.policy == Retrieval()


def test_space_is_tried_in_its_dialog(open_app, maya, database):
    database.hold("Peas")
    app = open_app(maya)

    clicked(app, act="try", thing="space")

    assert app.get("dialog")


def test_temporary_chat_shows_no_other_chats(open_app, maya, database):
    database.hold("Peas")

    assert start(open_app(maya, temporary="1")) == {}


def test_ways_to_connect_stand_above_all_that_is_to_try(open_app, maya, health):
    health.model = ModelState.READY

    app = open_app(maya)

    kinds = _kinds(app.main)
    assert kinds.index("title") < kinds.index("expander") < kinds.index("html")


def _kinds(block):
    """Return the types of the elements of the page, from its welcome on, in order."""
    for child in block.children.values():
        if "-welcome" in getattr(child.proto, "id", ""):
            return [*_all_kinds(child)]
        if getattr(child, "children", None) and (found := _kinds(child)):
            return found
    return []


def _all_kinds(block):
    for child in block.children.values():
        yield child.type
        if getattr(child, "children", None):
            yield from _all_kinds(child)
