"""Facts on screen: the offer to note any, noted facts, the memory page, and notes in dialogs."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages._parts import facts, safe_md, words
from pages._parts.fact_list import notes_dialog
from pages._parts.space_dialogs import space_dialog
from services import bootstrap
from services.domain import ConversationId, MessageId, Outcome, Purpose
from services.domain.memories import NotedFact
from services.errors import NotFound, SignedOut, SpaceGone, StoreUnavailable
from tests.fakes import MAYA, NOON, choose
from tests.pages.conftest import (
    ROOT,
    captions,
    html,
    in_dialog,
    keys,
    opened,
    press,
    pressed,
    warnings,
)
from tests.pages.test_chat_page import menu, send
from tests.pages.test_choices_page import told
from tests.store.conformance.talk import a_fact, destroy, stored_space

REMEMBERS, RECALLS = "Remember things about me", "Let the model use my other chats"


@pytest.fixture
def garden(database):
    return database.hold("Garden", "One", "Two", "Three", "Four")


@pytest.fixture(autouse=True)
def is_on(maya):
    choose(maya.store.profile, keeps_facts=True)


def fact(text, number=0, **changes):
    return a_fact(text, since=NOON + timedelta(minutes=number), **changes)


def keep(maya, *facts):
    for each in facts:
        maya.store.facts.keep(each)
    return facts


def note(maya, garden, text, replaced=None):
    """Store a fact as if it was noted from the last prompt."""
    asked = maya.database.thread(garden).messages[-2]
    new = fact(text, source_id=asked.id, source_conversation_id=garden)
    one = NotedFact(replace(new, id=replaced.id) if replaced else new, replaced)
    maya.store.facts.keep(one.fact, replaces=replaced)
    tasks, user_id = maya.chat.tasks.registry, maya.database.user_id
    tasks.claim(Purpose.FACTS, user_id, garden, asked.id, is_wanted=True)
    tasks.end(Purpose.FACTS, garden, asked.id, noted=(*tasks.noted(garden), one))
    return one


def memory(app):
    return app.switch_page("pages/memory.py").run()


def lines(app):
    """Return the listed facts, and the caption of each."""
    return [each.value for each in (*app.main.markdown, *app.main.caption)]


def texts(maya):
    return [each.text for each in maya.store.facts.facts()]


# --- the offer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "choice"), [("yes", True), ("no", False)])
def test_memory_is_not_offered_after_an_answer(open_app, maya, garden, answer, choice):
    choose(maya.store.profile, keeps_facts=None)
    app = open_app(maya, c=str(garden))
    assert "Let Daybook remember things about you" in html(app)

    pressed(app, f"keep-facts-{answer}")

    assert maya.store.profile.preferences().keeps_facts is choice
    assert "Let Daybook remember" not in html(app)
    assert "Let Daybook remember" not in html(open_app(maya, c=str(garden)))


def test_memory_is_offered_after_the_second_reply_once(open_app, maya, garden, database):
    choose(maya.store.profile, keeps_facts=None)
    young = database.hold("Young", "One", "Two")
    other = database.hold("Other", "One", "Two", "Three", "Four")
    app = open_app(maya, c=str(young))
    assert "Let Daybook remember" not in html(app)

    opened(app, garden)
    assert "Let Daybook remember" in html(app)
    opened(app, other)
    assert "Let Daybook remember" not in html(app)
    opened(app, garden)
    assert "Let Daybook remember" in html(app)


@pytest.mark.parametrize("reason", ["long", "failed", "unverified", "answered"])
def test_memory_is_not_offered_where_not_applicable(open_app, maya, database, reason):
    choose(maya.store.profile, keeps_facts=False if reason == "answered" else None)
    said = ["One", "Two"] * (7 if reason == "long" else 2)
    outcome = Outcome.FAILED if reason == "failed" else Outcome.COMPLETE
    asked_in = database.hold("Garden", *said, outcome=outcome)
    if reason == "unverified":
        database.spoil("preferences", MAYA)

    assert "Let Daybook remember" not in html(open_app(maya, c=str(asked_in)))


# --- noted facts -----------------------------------------------------------------------------------


def test_fact_noted_while_the_page_is_drawn_is_shown(open_app, maya, garden, monkeypatch):
    asked = maya.database.thread(garden).messages[-2]
    user_id = maya.database.user_id
    assert maya.chat.tasks.registry.claim(Purpose.FACTS, user_id, garden, asked.id)
    draw = facts.draw_noted

    def draw_and_note(user, view):
        draw(user, view)
        if garden in user.chat.coming(Purpose.FACTS):
            note(maya, garden, "Has a dog")

    monkeypatch.setattr(facts, "draw_noted", draw_and_note)
    # runs the fragment twice, as a browser does, but without a pause
    monkeypatch.setattr(st, "fragment", lambda **_: lambda glance: lambda: (glance(), glance()))

    assert "Memory updated: Has a dog" in html(open_app(maya, c=str(garden)))


def test_noted_facts_are_undone_singly_and_dismissed_together(open_app, maya, garden):
    (bern,) = keep(maya, fact("Lives in Bern."))
    dog = note(maya, garden, "Has a <b>dog</b>.")
    zurich = note(maya, garden, "Lives in Zurich.", replaced=bern)
    note(maya, garden, "Has a cat.")
    app = open_app(maya, c=str(garden))
    assert "Memory updated: 3 memories <small>Used in all chats</small></p>" in html(app)
    assert ">Has a &lt;b&gt;dog&lt;/b&gt;.</p>" in html(app)
    assert ">Lives in Zurich. <s>Lives in Bern.</s></p>" in html(app)
    assert html(app).count("Memory updated") == html(app).count("Used in all chats") == 1

    for one in (dog, zurich):
        pressed(app, f"take-back-{one.fact.id}")
    assert "Memory updated: Has a cat. <small>Used in all chats</small></p>" in html(app)
    pressed(app, "dismiss-noted")

    assert "Memory updated" not in html(app)
    assert texts(maya) == ["Lives in Bern.", "Has a cat."]


def test_noted_fact_is_hidden_after_the_next_prompt(open_app, maya, garden, database):
    note(maya, garden, "Has a dog.")
    database.go_on(garden, "Five")

    app = open_app(maya, c=str(garden))

    assert "Memory updated" not in html(app)
    assert texts(maya) == ["Has a dog."]


# --- the Memory page -------------------------------------------------------------------------------


def test_fact_shows_its_scope_and_source(open_app, maya, garden):
    space = stored_space(maya.store, "*Spanish*")
    orchard = maya.database.hold("Orchard", "One", "Two")
    keep(
        maya,
        fact("Mine :smile: ![](x)", 0),
        fact("Noted", 1, source_conversation_id=garden),
        fact("Of what is gone", 2, source_conversation_id=ConversationId(uuid4())),
        fact("Of a space", 3, space_id=space.id),
        fact("Of one conversation", 4, conversation_id=orchard),
        fact("Noted of it", 5, conversation_id=orchard, source_conversation_id=orchard),
    )

    app = memory(open_app(maya))

    said = "\n".join(lines(app))
    assert safe_md.label("Mine :smile: ![](x)", 500) in said
    assert [each.value.partition(" · ")[2] for each in app.main.caption][2:] == [
        "only in",
        "added by you · only in",
        r"only in \*Spanish\* · added by you",
        "from a deleted chat",
        "from",
        "added by you",
    ]
    links = [(link.label, link.proto.query_string) for link in app.main.get("page_link")]
    assert links == [("Orchard", f"c={orchard}")] * 2 + [("Garden", f"c={garden}")]


def test_fact_shows_its_scope_while_conversations_are_unreadable(open_app, maya, garden):
    keep(maya, fact("Of one conversation", conversation_id=garden))
    assert maya.store.facts.facts()  # stored a moment before
    maya.database.rows.failures["conversations"] = StoreUnavailable()

    app = memory(open_app(maya))

    assert "added by you · only in its chat" in "\n".join(lines(app))
    assert not app.main.get("page_link")


def test_fact_is_added(open_app, maya):
    app = memory(open_app(maya))

    app.text_input(key="new-memory").set_value("  I take my coffee  black ")
    press(app, "Add")

    assert texts(maya) == ["I take my coffee black"]
    assert app.text_input(key="new-memory").value == ""


def test_edited_fact_becomes_the_users_own(open_app, maya, garden):
    one = note(maya, garden, "Lives in Bern.").fact
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")

    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich.").run()

    [now] = maya.store.facts.facts()
    assert (now.id, now.text) == (one.id, "Lives in Zurich.")
    assert (now.source_id, now.source_conversation_id) == (None, None)
    assert now.since > one.since
    assert "added by you" in "\n".join(lines(app))
    assert "leave-memory" not in keys(app)


def test_editing_can_be_cancelled(open_app, maya):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")

    pressed(app, "leave-memory")

    assert maya.store.facts.facts() == (one,)
    assert "leave-memory" not in keys(app)


def test_fact_of_another_tab_is_shown_before_replacing(open_app, maya):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")
    maya.store.facts.keep(replace(one, text="Lives in Basel."), replaces=one)

    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich.").run()

    assert texts(maya) == ["Lives in Basel."]
    assert "changed in another tab" in app.warning[0].value
    assert drawn(app).index("warning") > drawn(app).index("text_input", 1)
    assert r"Current version: Lives in Basel\." in lines(app)
    assert app.text_input(key=f"text-memory-{one.id}").value == "Lives in Zurich."
    app.text_input(key=f"text-memory-{one.id}").set_value("").run()
    assert r"Current version: Lives in Basel\." in lines(app)
    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich").run()
    assert texts(maya) == ["Lives in Zurich"]


def drawn(app):
    """Return the kinds of the elements on the page, from the first field on."""
    kinds = [each.type for each in app.main]
    return kinds[kinds.index("text_input") :]


def save_key(app):
    return next(each.key for each in app.button if each.label == "Save")


def test_fact_of_another_tab_has_a_save_button_of_its_own(open_app, maya):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")
    before = save_key(app)
    maya.store.facts.keep(
        one.rewritten("Lives in Basel.", NOON + timedelta(minutes=1)), replaces=one
    )

    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich.").run()

    assert save_key(app) != before


def test_fact_that_was_not_saved_is_saved_by_its_button(open_app, maya):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")
    maya.database.rows.failures["put_document"] = StoreUnavailable()
    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich.").run()
    assert warnings(app) == [StoreUnavailable.public]
    maya.database.rows.failures.clear()

    press(app, "Save")

    assert texts(maya) == ["Lives in Zurich."]
    assert not warnings(app)
    assert "leave-memory" not in keys(app)


def test_save_that_also_leaves_the_field_saves_once(open_app, maya):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")

    maya.database.rows.calls.clear()
    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich.")
    press(app, "Save")

    assert texts(maya) == ["Lives in Zurich."]
    assert not warnings(app)
    assert [verb for verb, *_ in maya.database.rows.calls].count("put_document") == 1


def test_refused_call_that_saves_a_fact_leads_to_a_check(open_app, maya, monkeypatch):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")
    session_id, doubted = str(uuid4()), []
    monkeypatch.setattr(st, "user", {"sid": session_id})
    monkeypatch.setattr(bootstrap.current_app(), "doubt", doubted.append)
    maya.database.rows.failures["put_document"] = SignedOut()

    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich.").run()

    assert doubted == [session_id]
    assert not warnings(app)


def test_unchanged_fact_that_is_saved_keeps_its_source(open_app, maya, garden):
    one = note(maya, garden, "Lives in Bern.").fact
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")

    press(app, "Save")

    assert maya.store.facts.facts() == (one,)
    assert "leave-memory" not in keys(app)


# Streamlit calls the callbacks of one run in the order in which the elements are drawn
@pytest.mark.parametrize("first", [0, 1])
def test_fact_is_saved_when_another_is_edited_in_the_same_run(open_app, maya, first):
    both = keep(maya, fact("Lives in Bern."), fact("Has a dog.", 1))
    one, other = both[first], both[1 - first]
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")

    app.text_input(key=f"text-memory-{one.id}").set_value("Has a cat.")
    pressed(app, f"edit-memory-{other.id}")

    assert sorted(texts(maya)) == sorted([other.text, "Has a cat."])
    assert app.text_input(key=f"text-memory-{other.id}").value == other.text


@pytest.mark.parametrize("first", [0, 1])
def test_refused_fact_is_told_when_another_is_edited_in_the_same_run(open_app, maya, first):
    both = keep(maya, fact("Lives in Bern."), fact("Has a dog.", 1))
    one, other = both[first], both[1 - first]
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")
    maya.database.rows.failures["put_document"] = StoreUnavailable()

    app.text_input(key=f"text-memory-{one.id}").set_value("Has a cat.")
    pressed(app, f"edit-memory-{other.id}")

    assert warnings(app) == [StoreUnavailable.public]


def test_fact_saved_by_leaving_its_field_is_not_refused_to_its_button(open_app, maya):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")
    at = NOON + timedelta(minutes=1)
    maya.store.facts.keep(one.rewritten("Lives in Zurich.", at), replaces=one)  # the other thread

    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in\tZurich.")
    press(app, "Save")

    assert texts(maya) == ["Lives in Zurich."]
    assert not warnings(app)
    assert "leave-memory" not in keys(app)


def test_fact_deleted_in_another_tab_can_be_added_again(open_app, maya):
    (one,) = keep(maya, fact("Lives in Bern."))
    app = pressed(memory(open_app(maya)), f"edit-memory-{one.id}")
    maya.store.facts.forget(one.id)

    app.text_input(key=f"text-memory-{one.id}").set_value("Lives in Zurich.").run()

    assert texts(maya) == []
    assert "deleted in another tab" in app.warning[0].value
    assert app.text_input(key="new-memory").value == "Lives in Zurich."


def test_deleted_fact_can_be_restored(open_app, maya):
    dog, cat = keep(maya, fact("Has a <dog>.", 0), fact("Has a cat.", 1))
    app = pressed(memory(open_app(maya)), f"delete-memory-{dog.id}")
    assert texts(maya) == ["Has a cat."]
    assert "Deleted “Has a &lt;dog&gt;.”" in html(app)

    pressed(app, f"restore-{dog.id}")

    assert maya.store.facts.facts() == (dog, cat)
    assert "Deleted" not in html(app)


def test_all_facts_are_deleted_after_confirmation(open_app, maya):
    keep(maya, fact("Has a dog."), fact("Has a cat."))
    app = pressed(memory(open_app(maya)), "danger-ask")
    assert len(texts(maya)) == 2
    assert any(each.value.startswith("Delete 2 memories?") for each in app.markdown)

    pressed(in_dialog(app, facts.delete_all_dialog), "danger-delete-all-2-0")

    assert texts(maya) == []
    assert [header.value for header in app.header] == ["No memories yet"]


def test_memory_added_meanwhile_is_counted_before_all_are_deleted(open_app, maya):
    keep(maya, fact("Has a dog."))
    app = pressed(memory(open_app(maya)), "danger-ask")
    keep(maya, fact("Has a cat.", 1))

    delete = next(one for one in app.button if one.key.startswith("danger-delete-all"))
    in_dialog(app, facts.delete_all_dialog)
    delete.click().run()

    assert len(texts(maya)) == 2
    assert any(each.value.startswith("Delete 2 memories?") for each in app.markdown)
    maya.store.facts.forget_all()
    in_dialog(app, facts.delete_all_dialog).run()
    assert any(each.value == "There are no memories." for each in app.markdown)


def test_date_that_begins_with_a_number_begins_no_list(open_app, maya, monkeypatch):
    monkeypatch.setattr(words, "moment", lambda *given, **named: "19. Nov., 16:30")
    keep(maya, fact("Has a dog."))

    assert r"19\. Nov\., 16:30 · added by you" in captions(memory(open_app(maya)))


def test_notes_are_named_before_all_is_deleted(open_app, maya, database):
    app, garden = memory(open_app(maya)), database.hold("Garden")
    note, dog = replace(fact("Order 7."), conversation_id=garden), fact("Has a dog.", 1)
    for kept, named in ((note, ""), (dog, "1 memory and ")):
        keep(maya, kept)

        shown = [each.value for each in pressed(app.run(), "danger-ask").markdown]

        assert any(one.startswith(f"Delete {named}1 chat or space note?") for one in shown)


@pytest.mark.parametrize("was_on", [True, False])
def test_memory_is_switched_on_and_off(open_app, maya, was_on):
    choose(maya.store.profile, keeps_facts=was_on)
    keep(maya, fact("Has a dog."))
    app = memory(open_app(maya))
    assert app.toggle(key=REMEMBERS).value is was_on

    app.toggle(key=REMEMBERS).set_value(not was_on).run()

    assert maya.store.profile.preferences().keeps_facts is not was_on
    assert ("Nothing new is remembered" in "\n".join(lines(app))) is was_on
    assert texts(maya) == ["Has a dog."]


def test_switch_that_cannot_be_stored_goes_back(open_app, maya):
    app = memory(open_app(maya))
    maya.database.rows.failures["put_document"] = StoreUnavailable()

    app.toggle(key=REMEMBERS).set_value(False).run()

    assert app.toggle(key=REMEMBERS).value is True
    assert [warning.value for warning in app.warning] == [StoreUnavailable.public]


def test_search_of_other_conversations_is_switched_on(open_app, maya):
    app = memory(open_app(maya))
    assert app.toggle(key=RECALLS).value is False

    app.toggle(key=RECALLS).set_value(True).run()

    assert maya.store.profile.preferences().recalls_elsewhere is True
    assert "Chats in a space are used only within that space." in captions(app)


def test_facts_are_drawn_fifty_at_a_time(open_app, maya):
    keep(maya, *(fact(f"Fact {number}", number) for number in range(60)))
    app = memory(open_app(maya))
    assert sum(key.startswith("edit-memory-") for key in keys(app)) == 50
    assert "Fact 59" in lines(app)

    pressed(app, "older-facts")

    assert sum(key.startswith("edit-memory-") for key in keys(app)) == 60
    assert "older-facts" not in keys(app)


@pytest.mark.parametrize("is_plain", [False, True])
def test_page_says_how_memories_are_stored(open_app, maya, is_plain):
    bootstrap.current_app().is_plain = is_plain

    shown = "\n".join(lines(memory(open_app(maya))))

    assert ("Encrypted like your chats." in shown) is not is_plain
    assert ("Stored as plain text like your chats." in shown) is is_plain


def test_unreachable_database_is_reported(open_app, maya):
    maya.database.rows.failures["documents"] = StoreUnavailable()

    app = memory(open_app(maya))

    assert [error.value for error in app.error] == [StoreUnavailable.public]


def test_memory_page_needs_a_session(tab):
    app = AppTest.from_file(str(ROOT / "pages/memory.py"), default_timeout=120).run()

    assert not app.toggle
    assert "Sign in" in str(app.main)


# --- the notes of one conversation or space ----------------------------------------------------------


@pytest.fixture
def latin(maya):
    stored_space(maya.store, "Latin")
    return maya.store.spaces.all()[0]


@pytest.fixture(params=["conversation", "space"])
def scope(request, maya, garden, latin):
    """The dialog of a scope, the fields of its facts, and a function that deletes the scope."""
    if request.param == "space":
        forget = partial(maya.store.spaces.forget, latin.id)
        return space_dialog, latin, {"space_id": latin.id}, forget
    conversation = maya.database.thread(garden).conversation
    forget = partial(destroy, maya.database, maya.database, garden)
    return notes_dialog, conversation, {"conversation_id": garden}, forget


def test_notes_are_added_edited_deleted_and_restored(open_app, maya, scope):
    dialog, subject, notes, _ = scope
    app = in_dialog(open_app(maya), dialog, subject).run()
    app.text_input(key=new_note(subject)).set_value("It is order 7781.")
    press(in_dialog(app, dialog, subject), "Add")
    (one,) = maya.store.facts.facts()
    assert one == replace(one, text="It is order 7781.", **notes)
    assert app.text_input(key=new_note(subject)).value == ""

    pressed(in_dialog(app, dialog, subject), f"edit-note-{one.id}")
    field = app.text_input(key=f"text-note-{one.id}").set_value("It is order 7782.")
    in_dialog(app, dialog, subject)
    field.run()
    assert texts(maya) == ["It is order 7782."]

    pressed(in_dialog(app, dialog, subject), f"delete-note-{one.id}")
    assert texts(maya) == []
    pressed(in_dialog(app, dialog, subject), f"restore-fact-{one.id}")
    assert texts(maya) == ["It is order 7782."]
    assert "Deleted" not in html(app)


def new_note(subject):
    return f"new-note-{subject.id}"


def test_dialog_lists_the_notes_of_its_scope_only(open_app, maya, garden, latin, scope):
    dialog, subject, notes, _ = scope
    maya.database.conversations.move(garden, latin.id)
    other = maya.database.hold("Other", "One", "Two")
    keep(maya, fact("Of the user"), fact("Of another", conversation_id=other))
    both = fact("Of the chat", conversation_id=garden), fact("Of the space", space_id=latin.id)
    keep(maya, *both)

    app = in_dialog(open_app(maya, c=str(garden)), dialog, subject).run()

    assert [key for key in keys(app) if key.startswith("edit-note-")] == [
        f"edit-note-{one.id}" for one in both if one == replace(one, **notes)
    ]


def test_note_of_a_deleted_scope_stays_in_its_field(open_app, maya, scope):
    dialog, subject, _, delete = scope
    app = in_dialog(open_app(maya), dialog, subject).run()

    press(in_dialog(app, dialog, subject), "Add")
    assert "max. 500 characters" in app.warning[0].value
    app.text_input(key=new_note(subject)).set_value("It is order 7781.")
    delete()
    press(in_dialog(app, dialog, subject), "Add")

    gone = SpaceGone if dialog is space_dialog else NotFound
    # in the dialog and on the page, which a browser would not redraw
    assert [warning.value for warning in app.warning] == [gone.public] * 2
    assert app.text_input(key=new_note(subject)).value == "It is order 7781."


def test_conversation_with_notes_shows_a_sign(open_app, maya, garden, model):
    choose(maya.store.profile, keeps_facts=False)
    app = open_app(maya, c=str(garden))
    assert "own-facts" not in keys(app)

    menu(app, "Chat notes")
    assert "Used only in “Garden”." in captions(app)
    keep(maya, fact("It is order 7781.", conversation_id=garden))
    keep(maya, fact("It is late.", conversation_id=garden, source_id=MessageId(uuid4())))
    send(app, "Where is it?")

    assert "It is order 7781." in told(model)
    assert "It is late." not in told(model)  # a noted fact is not sent while memory is off
    assert app.button(key="own-facts").label == "Chat notes"
    assert "Used only in “Garden”." in captions(pressed(app, "own-facts"))


def test_dialog_keeps_no_text_of_the_dialog_before(open_app, maya, garden):
    conversation = maya.database.thread(maya.database.hold("Other", "One", "Two")).conversation
    app = menu(open_app(maya, c=str(garden)), "Chat notes")
    app.text_input(key=f"new-note-{garden}").set_value("Never added")

    in_dialog(app, notes_dialog, conversation).run()

    assert "Used only in “Other”." in captions(app)
    assert app.text_input(key=new_note(conversation)).value == ""


def test_notes_dialog_opens_on_the_memory_page(open_app, maya, garden):
    (one,) = keep(maya, fact("Order 7781", conversation_id=garden))
    app = pressed(memory(open_app(maya)), f"delete-memory-{one.id}")
    pressed(app, f"restore-{one.id}")

    in_dialog(app, notes_dialog, maya.database.thread(garden).conversation).run()

    assert not app.exception
    assert {f"edit-note-{one.id}", f"edit-memory-{one.id}"} <= set(keys(app))
