"""The list of conversations: its order, and the actions of its menus."""

import re
import time
from types import SimpleNamespace
from uuid import uuid4

import pytest

from pages import _tab
from pages._parts import turns
from pages._tab import KEY, BarLine
from services.errors import StoreUnavailable, TooLate
from tests.pages.conftest import (
    chosen,
    clicked,
    html,
    listed,
    opened,
    options,
    press,
    pressed,
    warnings,
)
from tests.stack.apps import until


def undo_lines(app):
    """Return the lines of the bar: what was done, with or without Undo."""
    return re.findall('<p role="status">(.*?)</p>', html(app))


def undo_keys(app):
    """Return the keys of these lines, by which a browser recognises them."""
    (bar,) = (each for each in app.main if getattr(each.proto, "id", "").endswith("-undo"))
    return [line.proto.id for line in bar.children.values()]


def marked(app):
    """Return the titles that are marked as open."""
    return _titles(app, ' aria-current="true"')


def news(app):
    """Return the titles that are marked as unread."""
    return _titles(app, ' class="db-unread"')


def _titles(app, state):
    return re.findall(
        f'<button data-act="open" data-chat="[^"]*"{state}.*?>(.*?)</button>', html(app)
    )


def test_pinned_conversation_stands_on_top(open_app, maya, database):
    old = database.hold("Old", "One", "Two")
    database.hold("New", "One", "Two")
    app = open_app(maya)
    (_, *plain) = listed(app)
    assert plain == ["New", "Old"]

    chosen(app, old, "Pin")
    assert listed(app)[:2] == ["Pinned", "Old"]
    assert "New" in listed(app)
    assert undo_lines(app) == []  # the menu itself undoes it

    chosen(app, old, "Unpin")
    assert listed(app)[1:] == ["New", "Old"]


def test_archived_conversation_moves_to_the_archive(open_app, maya, database):
    old = database.hold("Old", "One", "Two")
    database.conversations.pin(old)
    database.hold("New", "One", "Two")
    app = open_app(maya)

    chosen(app, old, "Archive")
    assert listed(app)[1:] == ["New"]
    assert undo_lines(app) == ["Archived “Old”"]
    (first,) = undo_keys(app)
    assert undo_keys(app.run()) == [first]
    press(app, "Undo")
    assert listed(app)[:2] == ["Pinned", "Old"]
    assert undo_lines(app) == []
    chosen(app, old, "Archive")
    # with the key of the first line, the browser would hide the second one when the time of the first is up
    assert undo_keys(app) != [first]

    clicked(app, act="archive")
    assert listed(app) == ["Archived", "Old"]
    assert options(app, old) == ["Rename", "Instructions", "Chat notes", "Unarchive", "Delete"]

    chosen(app, old, "Unarchive")
    assert listed(app) == ["No archived chats."]
    clicked(app, act="leave-archive")
    assert listed(app)[1:] == ["New", "Old"]


def test_unread_reply_is_marked_until_opened(open_app, maya, garden):
    maya.chat.open(garden)
    maya.chat.begin(garden, "Three").wait(20)

    app = open_app(maya)
    assert listed(app)[1:] == ["Garden"]
    assert news(app) == ["Garden"]

    opened(app, garden)
    assert listed(app)[1:] == ["Garden"]
    assert news(open_app(maya)) == []


def test_a_reply_that_comes_elsewhere_is_news_by_itself(open_app, maya, garden, model):
    maya.chat.open(garden)
    model.gate.clear()
    turn = maya.chat.begin(garden, "Three")
    app = open_app(maya)
    assert news(app) == []
    expected = turns.expected_news(maya.chat)
    assert expected[0] == {garden}

    model.gate.set()
    turn.wait(20)

    assert turns.expected_news(maya.chat) != expected
    assert news(app.run()) == ["Garden"]


def test_thirty_are_drawn_and_older_ones_on_demand(open_app, maya, database):
    for n in range(70):
        database.hold(f"Number {n}")
    app = open_app(maya)
    assert [words for words in listed(app) if "Number" in words][::29] == ["Number 69", "Number 40"]
    assert len(listed(app)) == 31

    clicked(app, act="older")
    assert len(listed(app)) == 61
    clicked(app, act="older")
    assert listed(app)[-1] == "Number 0"
    assert "Show more" not in html(app)


def test_an_archive_is_paged_by_itself(open_app, maya, database):
    for n in range(40):
        database.conversations.archive(database.hold(f"Number {n}"))
        database.hold(f"Other {n}")
    app = open_app(maya)
    clicked(app, act="older")
    assert len(listed(app)) == 41

    clicked(app, act="archive")
    assert len(listed(app)) == 31
    clicked(app, act="older")
    assert len(listed(app)) == 41


def test_list_includes_the_open_old_conversation(open_app, maya, database):
    old = database.hold("Old", "One", "Two")
    for n in range(40):
        database.hold(f"Number {n}")

    app = open_app(maya, c=str(old))

    assert listed(app)[:2] == ["Current chat", "Old"]
    assert marked(app) == ["Old"]
    clicked(app, act="older")
    assert listed(app)[-1] == "Old"
    assert listed(app).count("Old") == 1


def deleted(app):
    """Return the lines that offer to restore a deleted conversation."""
    return [html.value for html in app.main.get("html") if "Deleted" in html.value]


def test_deleted_conversation_can_be_restored(open_app, maya, garden, database):
    database.hold("Other", "One", "Two")
    app = open_app(maya, c=str(garden))

    chosen(app, garden, "Delete")
    assert listed(app)[1:] == ["Other"]
    assert app.title[0].value == "New chat"
    assert "“Garden”" in deleted(app)[0]

    app.button(key=f"restore-{garden}").click().run()
    assert listed(app)[1:] == ["Other", "Garden"]
    assert marked(app) == ["Garden"]  # the restored conversation is open again
    assert deleted(app) == []


def test_deleting_another_conversation_leaves_the_page(open_app, maya, database):
    garden, other = (database.hold(name, "One", "Two") for name in ("Garden", "Other"))
    third = database.hold("Third", "One", "Two")
    app = open_app(maya, c=str(garden))

    chosen(app, other, "Delete")
    chosen(app, third, "Delete")
    assert app.title[0].value == "Garden"
    assert ["Third" in line for line in deleted(app)] == [True, False]

    app.button(key=f"restore-{other}").click().run()
    assert app.title[0].value == "Garden"
    assert listed(app)[1:] == ["Other", "Garden"]
    assert len(deleted(app)) == 1


def test_undo_is_offered_for_a_while(open_app, maya, garden, monkeypatch):
    app = chosen(open_app(maya), garden, "Delete")
    assert deleted(app.run())

    later = time.monotonic() + 21
    monkeypatch.setattr(_tab, "time", SimpleNamespace(monotonic=lambda: later))

    assert deleted(app.run()) == []


def test_undo_that_takes_longer_than_it_is_offered_is_done(open_app, maya, garden):
    app = open_app(maya)
    here = app.session_state[KEY]
    undone = []

    def restore():
        undone.append(True)
        here.bar.clear()  # as another run does once the time is up

    here.bar.append(BarLine(uuid4(), "Deleted 300 chats", restore))

    press(app.run(), "Undo")

    assert not app.exception
    assert undone == [True]
    assert undo_lines(app) == []


def test_undo_that_comes_too_late_says_so(open_app, maya, garden, database):
    app = chosen(open_app(maya), garden, "Delete")
    database.let_pass(21)

    app.button(key=f"restore-{garden}").click().run()

    assert warnings(app) == [TooLate.public]


def test_undo_is_offered_again_where_the_database_stumbled(open_app, maya, database):
    garden, other = (database.hold(name, "One", "Two") for name in ("Garden", "Other"))
    app = chosen(chosen(open_app(maya), garden, "Delete"), other, "Delete")
    database.rows.failure = StoreUnavailable()

    app.button(key=f"restore-{other}").click().run()
    assert StoreUnavailable.public in warnings(app)
    assert ["Other" in line for line in deleted(app)] == [True, False]

    database.rows.failure = None
    app.button(key=f"restore-{other}").click().run()
    assert "Other" in listed(app)
    assert ["Garden" in line for line in deleted(app)] == [True]


def test_a_double_click_brings_back_once(open_app, maya, garden):
    app = chosen(open_app(maya), garden, "Delete")

    undo_it = app.button(key=f"restore-{garden}").click()
    undo_it.run()
    undo_it.click().run()

    assert "Garden" in listed(app)
    assert not app.warning
    assert not app.exception


def look_for(app, words):
    return app.sidebar.text_input(key="search").set_value(words).run()


def test_titles_are_filtered_wherever_they_are_kept(open_app, maya, database):
    for title in ("Peas in March", "Beans", "March hares"):
        database.hold(title)
    database.conversations.archive(database.hold("A march in May"))
    app = open_app(maya)

    look_for(app, " mARCH ")
    assert listed(app)[1:] == ["March hares", "Peas in March", "Archived", "A march in May"]
    look_for(app, "in march")
    assert listed(app)[1:] == ["Peas in March", "Archived", "A march in May"]
    look_for(app, "zebra")
    assert listed(app) == ["No titles match."]

    look_for(app, "")
    assert listed(app)[1:] == ["March hares", "Beans", "Peas in March"]


def test_what_the_filter_finds_is_paged(open_app, maya, database):
    for n in range(70):
        database.hold(f"{'Odd' if n % 2 else 'Even'} {n}")
    app = open_app(maya)
    clicked(app, act="older")

    look_for(app, "odd")
    assert len(listed(app)) == 31
    clicked(app, act="older")
    assert len(listed(app)) == 36
    look_for(app, "even")
    assert len(listed(app)) == 31


@pytest.mark.parametrize("way", ["title", "new chat", "archive"])
def test_filter_is_empty_once_another_chat_or_list_opens(open_app, maya, database, way):
    peas = database.hold("Peas in March")
    database.hold("Beans")
    app = look_for(open_app(maya), "peas")
    assert "Beans" not in listed(app)

    match way:
        case "title":
            opened(app, peas)
        case "new chat":
            pressed(app, "new-chat")
        case _:
            clicked(app, act="archive")
            clicked(app, act="leave-archive")

    assert app.text_input(key="search").value == ""
    assert {"Beans", "Peas in March"} <= set(listed(app))


def test_archive_and_first_space_are_offered_below_a_long_list(open_app, maya, database):
    for n in range(40):
        database.hold(f"Number {n}")

    parts = [part.value for part in open_app(maya).sidebar.get("html")]

    (foot,) = [number for number, part in enumerate(parts) if "Archived" in part]
    assert "New space" in parts[foot]
    assert (
        max(n for n, part in enumerate(parts) if "Number 0" in part or "data-found" in part) < foot
    )
    assert "Number" not in parts[foot]  # the foot does not scroll with the rows


def test_title_in_the_list_is_text(open_app, maya, database):
    title = '<img src=x> & "quoted" **words**'
    database.hold(title, "One", "Two")

    app = open_app(maya)

    assert listed(app)[1:] == [title]
    assert "<img" not in html(app)


def test_press_on_a_deleted_conversation_does_no_harm(open_app, maya, database):
    old = database.hold("Old", "One", "Two")
    app = open_app(maya)
    database.conversations.discard(old, 20)

    chosen(app, old, "Archive")
    assert listed(app) == ["No chats yet."]
    assert not app.exception
    opened(app, old)
    assert [error.value for error in app.error] == ["This chat does not exist."]


@pytest.mark.parametrize(
    "request_",
    [{"act": "open", "chat": "x"}, {"act": "choose", "chat": "x", "choice": "Pin"}, {"act": "?"}],
)
def test_unknown_press_does_nothing(open_app, maya, database, request_):
    database.hold("Old", "One", "Two")

    app = clicked(open_app(maya), **request_)

    assert listed(app)[1:] == ["Old"]
    assert not app.exception


def test_title_in_an_undo_line_draws_nothing(open_app, maya, database):
    one = database.hold("<img src=x>", "One", "Two")

    app = chosen(open_app(maya), one, "Archive")

    assert undo_lines(app) == ["Archived “&lt;img src=x&gt;”"]


def test_what_could_not_be_done_is_said(open_app, maya, database):
    one = database.hold("Old", "One", "Two")
    app = open_app(maya)
    database.rows.failure = StoreUnavailable()

    chosen(app, one, "Pin")

    assert StoreUnavailable.public in warnings(app)
    assert undo_lines(app) == []


def test_chat_with_a_reply_under_way_is_marked(open_app, maya, database, model):
    bees, garden = (database.hold(name, "One", "Two") for name in ("Bees", "Garden"))
    model.gate.clear()
    turn = maya.chat.begin(bees, "Three")

    app = open_app(maya, c=str(garden))

    assert f'data-chat="{bees}" class="db-running"' in html(app)
    model.gate.set()
    until(lambda: turn.is_done)
    assert "db-running" not in html(app.run())
