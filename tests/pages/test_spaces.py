"""Spaces: chosen in the sidebar, edited in a dialog, and followed by their conversations."""

import re
import time
from dataclasses import replace
from html import unescape
from types import SimpleNamespace
from uuid import uuid4

import pytest

from pages import _session, _tab
from pages._parts import spaces as parts
from pages._parts.space_dialogs import delete_dialog, move_dialog, new_space_dialog, space_dialog
from services.domain import MessageId, Retrieval, SpaceId, Window
from services.errors import SpaceGone, StoreUnavailable
from tests.fakes import FakePerson, choose
from tests.pages.conftest import (
    chosen,
    clicked,
    html,
    in_composer,
    in_dialog,
    keys,
    listed,
    options,
    options_above,
    press,
    warnings,
)
from tests.pages.test_chat_page import menu as menu_above
from tests.pages.test_chat_page import said, send
from tests.pages.test_choices_page import captions, pressed, told
from tests.pages.test_conversation_list import look_for, undo_lines
from tests.store.conformance.talk import a_fact, a_space, stored_space


@pytest.fixture
def latin(maya):
    return make(maya, "Latin", instructions="Be a tutor.", policy=Window(12))


def make(maya, name, **changes):
    return maya.store.spaces.find(stored_space(maya.store, name, **changes).id)


def anew(maya):
    """Return the services of the same user in another process, with nothing cached."""
    return FakePerson(maya.database, maya.model)


def note(maya, space, text):
    maya.store.facts.keep(a_fact(text, space_id=space.id))


def chooser(app):
    """Return the label of the menu of spaces, and its entries: labels, and the requests that they send."""
    (found,) = [one for one in app.sidebar.get("html") if "db-opener" in one.value][:1]
    label = unescape(re.search("<span>(.*?)</span>", found.value)[1])
    entries = [
        (unescape(text), dict(re.findall('data-([a-z]+)="(.*?)"', about)))
        for about, text in re.findall("<button( data-act.*?)>(.*?)</button>", found.value)
    ]
    return SimpleNamespace(label=label, options=[text for text, _ in entries], entries=entries)


def enter(app, label):
    return clicked(app, **dict(chooser(app).entries)[label])


def address(app):
    return {name: "".join(value) for name, value in app.query_params.items()}


def press_in_dialog(app, space, label, dialog=space_dialog):
    return press(in_dialog(app, dialog, space), label)


def edit(app, maya, space):
    """Open the dialog of *space*."""
    return in_dialog(app, space_dialog, maya.store.spaces.find(space.id)).run()


def fill(app, space, **fields):
    if "name" in fields:
        app.text_input(key=f"space-name-{space.id}").set_value(fields["name"])
    if "instructions" in fields:
        app.text_area(key=f"space-instructions-{space.id}").set_value(fields["instructions"])
    if "policy" in fields:
        app.selectbox(key=f"space-policy-{space.id}").select(fields["policy"])


def sent(model):
    """Return the text of the last request."""
    return "\n".join(message.body for message in model.seen[-1])


# --- the list ----------------------------------------------------------------------------------------


def test_list_without_spaces_offers_a_new_one(open_app, maya, garden):
    app = open_app(maya, c=str(garden))

    assert "New space" in html(app)
    assert "All chats" not in html(app)
    assert "space-sign" not in keys(app)
    entries = options(app, garden)
    assert entries == ["Pin", "Rename", "Instructions", "Chat notes", "Archive", "Delete"]


def test_space_lists_its_own_conversations(open_app, maya, latin, garden, database):
    lesson = database.hold("Lesson", "One", "Two")
    database.conversations.move(lesson, latin.id)
    app = open_app(maya)
    assert chooser(app).label == "All chats"
    assert chooser(app).options == ["All chats", "Latin", "New space"]
    assert html(app).count("New space") == 1
    assert listed(app)[1:] == ["Lesson Latin", "Garden"]

    enter(app, "Latin")
    assert listed(app)[1:] == ["Lesson"]
    assert chooser(app).label == "Latin"
    assert address(app) == {"s": str(latin.id)}
    assert listed(open_app(maya, s=str(latin.id)))[1:] == ["Lesson"]  # after a reload

    enter(app, "All chats")
    assert listed(app)[1:] == ["Lesson Latin", "Garden"]
    assert address(app) == {}


def test_open_conversation_stays_if_its_space_is_chosen(open_app, maya, latin, garden, database):
    lesson = database.hold("Lesson", "One", "Two")
    database.conversations.move(lesson, latin.id)

    app = enter(open_app(maya, c=str(lesson)), "Latin")
    assert app.title[0].value == "Lesson"
    assert address(app) == {"c": str(lesson), "s": str(latin.id)}
    enter(app, "All chats")
    assert app.title[0].value == "Lesson"

    app = enter(open_app(maya, c=str(garden)), "Latin")
    assert app.title[0].value == "Latin"
    assert address(app) == {"s": str(latin.id)}


def test_title_filter_stays_within_the_space(open_app, maya, latin, database):
    for title in ("Peas in Latin", "Beans in Latin"):
        database.conversations.move(database.hold(title), latin.id)
    database.hold("Peas")
    app = open_app(maya, s=str(latin.id))

    assert listed(look_for(app, "peas"))[1:] == ["Peas in Latin"]
    everywhere = enter(app, "All chats")
    assert listed(everywhere)[1:] == ["Peas", "Peas in Latin Latin"]


def test_space_has_its_own_archive_and_pages(open_app, maya, latin, database, monkeypatch):
    asked, recent = [], maya.store.conversations.recent
    monkeypatch.setattr(
        maya.store.conversations, "recent", lambda n, **of: asked.append(n) or recent(n, **of)
    )
    for n in range(40):
        database.conversations.move(database.hold(f"Number {n}"), latin.id)
        database.conversations.archive(database.hold(f"Other {n}"))
    app = open_app(maya, s=str(latin.id))
    assert len(listed(app)) == 31
    assert asked == [31]  # one more than is drawn
    clicked(app, act="older")
    assert listed(app)[-1] == "Number 0"

    clicked(app, act="archive")
    assert listed(app) == ["No archived chats."]
    enter(app, "All chats")
    assert len(listed(app)) == 31  # the list again, from its top


def test_unknown_space_in_the_address_lists_all(open_app, maya, latin, garden):
    for name in ("nowhere", str(uuid4())):
        app = open_app(maya, s=name)

        assert listed(app)[1:] == ["Garden"]
        assert app.title[0].value == "New chat"


def test_spaces_of_equal_names_are_chosen_apart(open_app, maya):
    spaces = [make(maya, "Latin", id=SpaceId(uuid4())) for _ in range(2)]
    app = open_app(maya)
    _, *entries, _ = chooser(app).entries

    found = {address(clicked(app, **request))["s"] for _, request in entries}

    assert found == {str(space.id) for space in spaces}


def test_space_name_draws_no_markup(open_app, maya, garden):
    space = make(maya, "![x](http://e/i)<b>")
    maya.database.conversations.move(garden, space.id)

    app = open_app(maya, s=str(space.id), c=str(garden))

    assert chooser(app).label == "![x](http://e/i)<b>"
    assert "<b>" not in html(app)
    assert "![" not in app.button(key="space-sign").label
    assert "![" not in open_app(maya, s=str(space.id)).title[0].value


def test_unverified_space_is_labelled(open_app, maya, latin):
    maya.database.spoil("space", latin.id)
    maya = anew(maya)

    app = open_app(maya, s=str(latin.id))

    assert chooser(app).label == "Unverified space"


def test_list_is_drawn_while_spaces_are_unreadable(open_app, maya, latin, garden):
    maya = anew(maya)
    maya.store.profile.preferences()
    maya.database.rows.failures["documents"] = StoreUnavailable()

    app = open_app(maya, c=str(garden))

    assert listed(app)[1:] == ["Garden"]
    assert not app.error


# --- a chat in a space --------------------------------------------------------------------------------


def test_conversation_begun_in_a_space_belongs_to_it(open_app, maya, latin, model, database):
    app = open_app(maya, s=str(latin.id))
    assert app.title[0].value == "Latin"

    assert said(send(app, "Salve"))[-1] == "Prune in March."

    (thread,) = database.threads()
    assert thread.conversation.space_id == latin.id
    assert thread.conversation.policy == Window(12)
    assert told(model) == "Be a tutor."
    assert address(app) == {"c": str(thread.conversation.id), "s": str(latin.id)}
    assert app.button(key="space-sign").label == "Latin"

    pressed(app, "new-chat")
    assert app.title[0].value == "Latin"
    send(app, "Vale")
    assert {one.conversation.space_id for one in database.threads()} == {latin.id}


def test_nothing_begins_in_a_deleted_space(open_app, maya, latin, database):
    app = open_app(maya, s=str(latin.id))
    maya.store.spaces.forget(latin.id)

    send(app, "Salve")

    assert warnings(app) == [SpaceGone.public]
    assert in_composer(app) == "Salve"
    assert database.threads() == []
    assert app.title[0].value == "New chat"
    send(app, "Salve")
    assert len(database.threads()) == 1


def test_conversation_begins_in_the_chosen_space_only(open_app, maya, latin, database):
    maya = anew(maya)
    maya.store.profile.preferences()
    database.rows.failures["documents"] = StoreUnavailable()
    app = open_app(maya, s=str(latin.id))

    send(app, "Salve")
    assert in_composer(app) == "Salve"
    assert database.threads() == []

    maya.database.rows.failures.clear()
    send(app, "Salve")
    (thread,) = database.threads()
    assert thread.conversation.space_id == latin.id


def test_notes_of_a_space_are_sent_in_it_alone(open_app, maya, latin, model):
    note(maya, latin, "She reads Caesar.")
    maya.store.facts.keep(a_fact("Has a dog."))

    # facts about the user are switched off in this space
    send(open_app(maya, s=str(latin.id)), "Salve")
    assert "She reads Caesar." in sent(model)
    assert "Has a dog." not in sent(model)

    send(open_app(maya), "Hello")
    assert maya.database.threads()[0].conversation.space_id is None
    assert "She reads Caesar." not in sent(model)


# --- the dialog ---------------------------------------------------------------------------------------


def test_created_space_is_opened(open_app, maya):
    app = clicked(open_app(maya), act="new-space")
    key = next(one.key for one in app.text_input if str(one.key).startswith("space-name-"))
    space = a_space("", id=SpaceId(parts.UUID(key.removeprefix("space-name-"))))

    fill(app, space, name=" Greek  I", instructions="Be a tutor.", policy="Smart recall")
    press_in_dialog(app, space, "Create", new_space_dialog)

    (made,) = maya.store.spaces.all()
    assert (made.name, made.instructions) == ("Greek I", "Be a tutor.")
    assert made.policy == Retrieval()
    assert address(app) == {"s": str(made.id)}
    assert app.title[0].value == "Greek I"
    assert not [one for one in app.text_input if str(one.key).startswith("space-name-")]


def test_space_needs_a_name(open_app, maya, latin):
    space = a_space("")
    app = open_app(maya)
    in_dialog(app, new_space_dialog, space).run()
    fill(app, space, instructions="A long thought.")

    press_in_dialog(app, space, "Create", new_space_dialog)

    assert ["Enter a name" in error.value for error in app.error] == [True]
    assert app.text_area(key=f"space-instructions-{space.id}").value == "A long thought."
    assert maya.store.spaces.all() == (latin,)


def test_space_is_created_once_though_the_answer_is_lost(open_app, maya):
    space = a_space("")
    app = open_app(maya)
    in_dialog(app, new_space_dialog, space).run()
    fill(app, space, name="Greek")
    # the earlier call, whose answer was lost, had stored it
    maya.store.spaces.keep(replace(space, name="Greek"))

    press_in_dialog(app, space, "Create", new_space_dialog)

    assert not app.warning
    assert [one.name for one in maya.store.spaces.all()] == ["Greek"]


@pytest.mark.parametrize(
    ("is_on", "is_noted", "is_partly"),
    [(False, True, True), (False, False, False), (True, True, False)],
)
def test_notes_that_memory_took_of_a_space_are_said_to_be_off_with_it(
    open_app, maya, latin, is_on, is_noted, is_partly
):
    choose(maya.store.profile, keeps_facts=is_on)
    source = MessageId(uuid4()) if is_noted else None
    maya.store.facts.keep(a_fact("She reads Caesar.", space_id=latin.id, source_id=source))

    app = edit(open_app(maya, s=str(latin.id)), maya, latin)

    used = "Used in every chat in this space."
    partly = f"{used} While memory is off, only notes that you wrote are."
    said = [one.value for one in app.caption if used in one.value]
    assert said == [partly if is_partly else used]


def test_space_is_edited(open_app, maya, latin):
    app = pressed(open_app(maya, s=str(latin.id)), "edit-space")
    assert app.text_input(key=f"space-name-{latin.id}").value == "Latin"
    assert app.text_area(key=f"space-instructions-{latin.id}").value == "Be a tutor."
    assert app.selectbox(key=f"space-policy-{latin.id}").value == "Recent only"

    fill(app, latin, name="Latin II")
    app.toggle(key=f"space-memories-{latin.id}").set_value(False)
    press_in_dialog(app, latin, "Save")
    changed = replace(latin, name="Latin II", uses_personal_facts=False)
    assert maya.store.spaces.find(latin.id) == changed
    assert chooser(app).label == "Latin II"

    edit(app, maya, latin)
    fill(app, latin, instructions=" ", policy="Your default")
    press_in_dialog(app, latin, "Save")
    now = maya.store.spaces.find(latin.id)
    assert (now.instructions, now.policy) == (None, None)


def test_space_deleted_in_another_tab_is_reported(open_app, maya, latin):
    app = edit(open_app(maya, s=str(latin.id)), maya, latin)
    maya.store.spaces.forget(latin.id)
    fill(app, latin, instructions="A long thought.")

    press_in_dialog(app, latin, "Save")

    assert [error.value for error in app.error] == [SpaceGone.public]
    assert app.text_area(key=f"space-instructions-{latin.id}").value == "A long thought."
    assert maya.store.spaces.all() == ()


def test_archived_space_moves_to_the_archive(open_app, maya, latin, garden):
    maya.database.conversations.move(garden, latin.id)
    make(maya, "Greek")
    app = edit(open_app(maya, s=str(latin.id), c=str(garden)), maya, latin)

    fill(app, latin, instructions="Typed.")
    press_in_dialog(app, latin, "Archive space")
    assert undo_lines(app) == ["Archived “Latin”"]
    stored = maya.store.spaces.find(latin.id)
    assert stored == replace(latin, is_archived=True, instructions="Typed.")
    assert address(app) == {"c": str(garden)}
    assert chooser(app).options == ["All chats", "Greek", "New space"]
    assert listed(app)[1:] == ["Garden Latin"]

    clicked(app, act="archive")
    assert listed(app)[0:2] == ["Current chat", "Garden Latin"]
    clicked(app, act="space", space=str(latin.id))
    assert chooser(app).label == "Latin"

    edit(app, maya, latin)
    press_in_dialog(app, maya.store.spaces.find(latin.id), "Unarchive space")
    assert not maya.store.spaces.find(latin.id).is_archived
    assert undo_lines(app)[0] == "Unarchived “Latin”"


def test_archiving_a_space_is_undone(open_app, maya, latin, garden):
    maya.database.conversations.move(garden, latin.id)
    app = edit(open_app(maya, s=str(latin.id), c=str(garden)), maya, latin)
    press_in_dialog(app, latin, "Archive space")
    archived = maya.store.spaces.find(latin.id)
    # renamed in another tab
    maya.store.spaces.keep(replace(archived, name="Latin II"), replaces=archived)

    press(app, "Undo")

    assert maya.store.spaces.find(latin.id) == replace(latin, name="Latin II")
    assert undo_lines(app) == []
    assert address(app) == {"c": str(garden), "s": str(latin.id)}
    assert chooser(app).label == "Latin II"


def test_deleting_a_space_keeps_conversations_and_deletes_notes(
    open_app, maya, latin, garden, monkeypatch
):
    maya.database.conversations.move(garden, latin.id)
    note(maya, latin, "She reads Caesar.")
    app = edit(open_app(maya, s=str(latin.id), c=str(garden)), maya, latin)

    press_in_dialog(app, latin, "Delete space")
    asked = [text.value for text in app.markdown if "its chats are kept" in text.value]
    assert len(asked) == 1
    press_in_dialog(app, latin, "Cancel", delete_dialog)
    assert maya.store.spaces.all() == (latin,)

    press_in_dialog(edit(app, maya, latin), latin, "Delete space")
    press_in_dialog(app, latin, "Delete space", delete_dialog)
    assert maya.store.spaces.all() == maya.store.facts.facts() == ()
    assert address(app) == {"c": str(garden)}
    assert app.title[0].value == "Garden"
    assert listed(app)[1:] == ["Garden"]
    deleted = ["Deleted “Latin”. Its chats are kept."]
    assert undo_lines(app) == deleted
    assert undo_lines(app.run()) == deleted  # a browser that skips a run shows the news of the next
    later = time.monotonic() + _session._NEWS_SECONDS
    monkeypatch.setattr(_tab, "time", SimpleNamespace(monotonic=lambda: later))
    assert undo_lines(app.run()) == []


def test_dialog_keeps_no_text_of_another_space(open_app, maya, latin):
    greek = replace(latin, id=SpaceId(uuid4()), name="Greek")
    maya.store.spaces.keep(greek)
    app = edit(open_app(maya, s=str(latin.id)), maya, greek)

    # the field of a dialog that was dismissed
    app.session_state[f"space-name-{latin.id}"] = "Latin"
    edit(app, maya, latin)

    assert [each.key for each in app.text_area] == [f"space-instructions-{latin.id}"]


# --- moving -------------------------------------------------------------------------------------------


def move(app, conversation, label):
    app.selectbox(key="move-to").select(label)
    return press(in_dialog(app, move_dialog, conversation), "Move")


def test_conversation_moves_into_a_space_and_out(open_app, maya, latin, garden, database):
    make(maya, "Old", is_archived=True)
    app = chosen(open_app(maya, c=str(garden)), garden, "Move to space")
    assert app.selectbox(key="move-to").options == ["No space", "Latin"]
    assert app.selectbox(key="move-to").value == "No space"

    move(app, database.thread(garden).conversation, "Latin")
    assert database.thread(garden).conversation.space_id == latin.id
    assert undo_lines(app) == ["Moved “Garden” to “Latin”"]
    assert app.button(key="space-sign").label == "Latin"

    menu_above(app, "Move to space")
    assert app.selectbox(key="move-to").value == "Latin"
    move(app, database.thread(garden).conversation, "No space")
    assert database.thread(garden).conversation.space_id is None
    assert undo_lines(app) == ["Removed “Garden” from its space"]
    assert "space-sign" not in keys(app)

    press(app, "Undo")
    assert database.thread(garden).conversation.space_id == latin.id


def test_names_of_spaces_to_move_to_are_plain_text(open_app, maya, garden, database):
    for _ in range(2):
        make(maya, "Work (2026)", id=SpaceId(uuid4()))
    app = chosen(open_app(maya, c=str(garden)), garden, "Move to space")
    _, first, second = app.selectbox(key="move-to").options
    assert (first, second.startswith(first), second == first) == ("Work (2026)", True, False)

    move(app, database.thread(garden).conversation, second)

    assert database.thread(garden).conversation.space_id == maya.store.spaces.all()[1].id


def test_chat_moves_only_where_a_place_is_open(open_app, maya, garden, database):
    old = make(maya, "Old", is_archived=True)
    app = open_app(maya, c=str(garden))
    assert "Move to space" not in options(app, garden)
    assert "Move to space" not in options_above(app)

    database.conversations.move(garden, old.id)
    app.run()
    assert "Move to space" in options(app, garden)
    assert "Move to space" in options_above(app)


def test_move_into_a_deleted_space_is_refused(open_app, maya, latin, garden, database):
    app = chosen(open_app(maya), garden, "Move to space")
    database.rows.failures["change_conversation"] = SpaceGone()

    move(app, database.thread(garden).conversation, "Latin")

    assert SpaceGone.public in [error.value for error in app.error]


def test_space_label_of_a_conversation_opens_the_space(open_app, maya, latin, garden):
    maya.database.conversations.move(garden, latin.id)
    maya.database.hold("Other")
    app = open_app(maya, c=str(garden))

    pressed(app, "space-sign")

    assert address(app) == {"c": str(garden), "s": str(latin.id)}
    assert listed(app)[1:] == ["Garden"]


# --- the source of the instructions ---------------------------------------------------------------


def test_instructions_dialog_names_their_source(open_app, maya, latin, garden):
    app = menu_above(open_app(maya, c=str(garden)), "Instructions")
    assert "Using the default instructions." in captions(app)

    choose(maya.store.profile, instructions="Be brief.")
    assert "Using your instructions from Preferences." in captions(menu_above(app, "Instructions"))

    maya.database.conversations.move(garden, latin.id)
    app = menu_above(open_app(maya, c=str(garden)), "Instructions")
    assert "Using the instructions of the space “Latin”." in captions(app)

    maya.database.conversations.set_instructions(garden, "Answer in verse.")
    app = menu_above(open_app(maya, c=str(garden)), "Instructions")
    assert "its own instructions instead of the instructions of the space" in captions(app)
    assert app.button(key="use-my-own").label == "Reset to the space's"
