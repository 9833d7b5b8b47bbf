"""What a person sees of the facts that are kept about them: the offer, what was noted, and the Memory page."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages._parts import facts, safe_md, scoped_facts
from services.domain import (
    ConversationId,
    Fact,
    FactId,
    MessageId,
    Outcome,
    Purpose,
    Space,
    SpaceId,
)
from services.domain.memories import NotedFact
from services.errors import NotFound, StoreUnavailable
from tests.fakes import MAYA, NOON, choose
from tests.pages.conftest import ROOT, html, in_dialog, keys, menu_button, press, pressed
from tests.pages.test_chat_page import menu, send
from tests.pages.test_choices_page import captions, told

OpenApp = Callable[..., AppTest]


@pytest.fixture
def garden(database):
    return database.hold("Garden", "One", "Two", "Three", "Four")


@pytest.fixture(autouse=True)
def is_on(maya):
    choose(maya.store.profile, keeps_facts=True)


def fact(text, number=0, **changes):
    made = Fact(id=FactId(uuid4()), text=text, since=NOON + timedelta(minutes=number))
    return replace(made, **changes)


def keep(maya, *facts):
    for each in facts:
        maya.store.facts.keep(each)


def note(maya, garden, text, replaced=None):
    """As if it had been noted from the last prompt."""
    asked = maya.database.thread(garden).messages[-2]
    new = fact(text, source_id=asked.id, source_conversation_id=garden)
    one = NotedFact(replace(new, id=replaced.id) if replaced else new, replaced)
    maya.store.facts.keep(one.fact, replaces=replaced)
    tasks, user_id = maya.chat.background, maya.database.user_id
    tasks.claim(Purpose.FACTS, user_id, garden, asked.id, is_wanted=True)
    tasks.end(Purpose.FACTS, garden, asked.id, noted=(*tasks.noted(garden), one))
    return one


def memory(app):
    return app.switch_page("pages/memory.py").run()


def lines(app):
    """The facts that are listed, and what is said of each."""
    return [each.value for each in (*app.main.markdown, *app.main.caption)]


def texts(maya):
    return [each.text for each in maya.store.facts.facts()]


# --- the offer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "choice"), [("yes", True), ("no", False)])
def test_it_is_offered_once_and_never_again(open_app, maya, garden, answer, choice):
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

    pressed(app, f"open-{garden}")
    assert "Let Daybook remember" in html(app)
    pressed(app, f"open-{other}")
    assert "Let Daybook remember" not in html(app)
    pressed(app, f"open-{garden}")
    assert "Let Daybook remember" in html(app)


def test_memory_is_not_offered_in_a_long_conversation(open_app, maya, database):
    choose(maya.store.profile, keeps_facts=None)
    long = database.hold("Long", *(["One", "Two"] * 7))

    assert "Let Daybook remember" not in html(open_app(maya, c=str(long)))


@pytest.mark.parametrize("is_spoilt", [True, False])
def test_it_is_not_offered_where_that_is_no_question(open_app, maya, garden, database, is_spoilt):
    choose(maya.store.profile, keeps_facts=None if is_spoilt else False)
    if is_spoilt:
        database.spoil("preferences", MAYA)

    assert "Let Daybook remember" not in html(open_app(maya, c=str(garden)))


def test_memory_is_not_offered_below_a_failed_reply(open_app, maya, database):
    choose(maya.store.profile, keeps_facts=None)
    said = "One", "Two", "Three", "Four"
    garden = database.hold("Garden", *said, outcome=Outcome.FAILED)

    assert "Let Daybook remember" not in html(open_app(maya, c=str(garden)))


def test_what_cannot_be_stored_is_said_and_asked_again(open_app, maya, garden, database):
    choose(maya.store.profile, keeps_facts=None)
    database.rows.failures["put_document"] = StoreUnavailable()
    app = pressed(open_app(maya, c=str(garden)), "keep-facts-yes")

    assert [warning.value for warning in app.warning] == [StoreUnavailable.public]
    assert "Let Daybook remember" in html(app)


# --- what was noted --------------------------------------------------------------------------------


def test_fact_noted_while_the_page_is_drawn_is_shown(open_app, maya, garden, monkeypatch):
    asked = maya.database.thread(garden).messages[-2]
    user_id = maya.database.user_id
    assert maya.chat.background.claim(Purpose.FACTS, user_id, garden, asked.id)
    draw = facts.draw_noted

    def draw_and_note(chat, thread):
        draw(chat, thread)
        if garden in chat.coming(Purpose.FACTS):
            note(maya, garden, "Has a dog")

    monkeypatch.setattr(facts, "draw_noted", draw_and_note)
    # as a browser does, but without a pause
    monkeypatch.setattr(st, "fragment", lambda **_: lambda glance: lambda: (glance(), glance()))

    assert "Memory updated: Has a dog" in html(open_app(maya, c=str(garden)))


def test_what_was_noted_can_be_undone(open_app, maya, garden):
    one = note(maya, garden, "Has a <b>dog</b>.")
    app = open_app(maya, c=str(garden))
    assert (
        "Memory updated: Has a &lt;b&gt;dog&lt;/b&gt;. <small>Used in all chats</small></p>"
        in html(app)
    )

    pressed(app, f"take-back-{one.fact.id}")

    assert texts(maya) == []
    assert "Memory updated" not in html(app)


def test_undo_restores_the_replaced_fact(open_app, maya, garden):
    bern = fact("Lives in Bern.")
    keep(maya, bern)
    one = note(maya, garden, "Lives in Zurich.", replaced=bern)
    app = open_app(maya, c=str(garden))
    assert "updated: Lives in Zurich. <s>Lives in Bern.</s>" in html(app)

    pressed(app, f"take-back-{one.fact.id}")

    assert maya.store.facts.facts() == (bern,)


def test_noted_facts_are_undone_singly_and_dismissed_together(open_app, maya, garden):
    dog, _, _ = (note(maya, garden, text) for text in ("Dog", "Cat", "Cow"))
    app = open_app(maya, c=str(garden))

    pressed(app, f"take-back-{dog.fact.id}")
    assert html(app).count("Memory updated") == 2
    pressed(app, "dismiss-noted")

    assert "Memory updated" not in html(app)
    assert texts(maya) == ["Cat", "Cow"]


def test_it_is_gone_with_the_next_prompt(open_app, maya, garden, database):
    note(maya, garden, "Has a dog.")
    database.go_on(garden, "Five")

    app = open_app(maya, c=str(garden))

    assert "Memory updated" not in html(app)
    assert texts(maya) == ["Has a dog."]


def test_what_was_changed_since_is_not_undone(open_app, maya, garden):
    bern = fact("Lives in Bern.")
    keep(maya, bern)
    one = note(maya, garden, "Lives in Zurich.", replaced=bern)
    app = open_app(maya, c=str(garden))
    maya.store.facts.keep(replace(one.fact, text="Lives in Basel."), replaces=one.fact)

    pressed(app, f"take-back-{one.fact.id}")

    assert texts(maya) == ["Lives in Basel."]
    assert "changed in another tab" in app.warning[0].value
    assert "Memory updated" not in html(app)


# --- the Memory page -------------------------------------------------------------------------------


def test_the_page_is_in_the_menu_of_everybody(open_app, maya):
    app = open_app(maya)

    assert [link.label for link in app.sidebar.get("page_link")] == ["Memory"]


def test_each_fact_has_where_it_came_from_and_when(open_app, maya, garden):
    space = Space(id=SpaceId(uuid4()), name="*Spanish*", created_at=NOON)
    maya.store.spaces.keep(space)
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
    assert maya.store.facts.facts()  # a moment ago
    maya.database.rows.failures["conversations"] = StoreUnavailable()

    app = memory(open_app(maya))

    assert "added by you · only in its chat" in "\n".join(lines(app))
    assert not app.main.get("page_link")


def test_a_fact_can_be_added(open_app, maya):
    app = memory(open_app(maya))

    app.text_input(key="new-fact").set_value("  I take my coffee  black ")
    next(button for button in app.button if button.label == "Add").click().run()

    assert texts(maya) == ["I take my coffee black"]
    assert app.text_input(key="new-fact").value == ""


def test_what_could_not_be_kept_stays_in_its_field(open_app, maya, database):
    app = memory(open_app(maya))
    database.rows.failures["put_document"] = StoreUnavailable()

    app.text_input(key="new-fact").set_value("I have a dog")
    next(button for button in app.button if button.label == "Add").click().run()

    assert [warning.value for warning in app.warning] == [StoreUnavailable.public]
    assert app.text_input(key="new-fact").value == "I have a dog"


def test_edited_fact_becomes_the_users_own(open_app, maya, garden):
    one = note(maya, garden, "Lives in Bern.").fact
    app = pressed(memory(open_app(maya)), f"edit-fact-{one.id}")

    app.text_input(key=f"words-of-{one.id}").set_value("Lives in Zurich.").run()

    [now] = maya.store.facts.facts()
    assert (now.id, now.text) == (one.id, "Lives in Zurich.")
    assert (now.source_id, now.source_conversation_id) == (None, None)
    assert now.since > one.since
    assert "added by you" in "\n".join(lines(app))
    assert "leave-memory" not in keys(app)


def test_a_change_can_be_left(open_app, maya):
    one = fact("Lives in Bern.")
    keep(maya, one)
    app = pressed(memory(open_app(maya)), f"edit-fact-{one.id}")

    pressed(app, "leave-memory")

    assert maya.store.facts.facts() == (one,)
    assert "leave-memory" not in keys(app)


def test_fact_of_another_tab_is_shown_before_replacing(open_app, maya):
    one = fact("Lives in Bern.")
    keep(maya, one)
    app = pressed(memory(open_app(maya)), f"edit-fact-{one.id}")
    maya.store.facts.keep(replace(one, text="Lives in Basel."), replaces=one)

    app.text_input(key=f"words-of-{one.id}").set_value("Lives in Zurich.").run()

    assert texts(maya) == ["Lives in Basel."]
    assert "changed in another tab" in app.warning[0].value
    assert r"Current version: Lives in Basel\." in lines(app)
    assert app.text_input(key=f"words-of-{one.id}").value == "Lives in Zurich."
    app.text_input(key=f"words-of-{one.id}").set_value("Lives in Zurich").run()
    assert texts(maya) == ["Lives in Zurich"]


def test_a_deleted_fact_can_be_brought_back(open_app, maya):
    dog, cat = fact("Has a <dog>.", 0), fact("Has a cat.", 1)
    keep(maya, dog, cat)
    app = pressed(memory(open_app(maya)), f"delete-fact-{dog.id}")
    assert texts(maya) == ["Has a cat."]
    assert "Deleted “Has a &lt;dog&gt;.”" in html(app)

    pressed(app, f"restore-{dog.id}")

    assert maya.store.facts.facts() == (dog, cat)
    assert "Deleted" not in html(app)


def test_all_are_deleted_once_that_is_confirmed(open_app, maya):
    keep(maya, fact("Has a dog."), fact("Has a cat."))
    app = pressed(memory(open_app(maya)), "danger-ask")
    assert len(texts(maya)) == 2
    assert any(each.value.startswith("Delete 2 memories?") for each in app.markdown)

    # in a browser the dialog runs alone; here the whole page does, so it is asked for again
    app.button(key="danger-ask").click()
    pressed(app, "danger-delete-all")

    assert texts(maya) == []
    assert [header.value for header in app.header] == ["No memories yet"]


@pytest.mark.parametrize("was_on", [True, False])
def test_memory_is_switched_on_and_off(open_app, maya, was_on):
    choose(maya.store.profile, keeps_facts=was_on)
    keep(maya, fact("Has a dog."))
    app = memory(open_app(maya))
    assert app.toggle(key="keeps-facts").value is was_on

    app.toggle(key="keeps-facts").set_value(not was_on).run()

    assert maya.store.profile.preferences().keeps_facts is not was_on
    assert ("Nothing is saved." in "\n".join(lines(app))) is was_on
    assert texts(maya) == ["Has a dog."]


def test_a_switch_that_could_not_be_stored_goes_back(open_app, maya):
    app = memory(open_app(maya))
    maya.database.rows.failures["put_document"] = StoreUnavailable()

    app.toggle(key="keeps-facts").set_value(False).run()

    assert app.toggle(key="keeps-facts").value is True
    assert [warning.value for warning in app.warning] == [StoreUnavailable.public]


def test_search_of_other_conversations_is_switched_on(open_app, maya):
    app = memory(open_app(maya))
    assert app.toggle(key="recalls-elsewhere").value is False

    app.toggle(key="recalls-elsewhere").set_value(True).run()

    assert maya.store.profile.preferences().recalls_elsewhere is True
    assert "Chats in a space are only searched from that space." in " ".join(
        each.value for each in app.caption
    )


def test_many_facts_come_in_parts(open_app, maya):
    keep(maya, *(fact(f"Fact {number}", number) for number in range(60)))
    app = memory(open_app(maya))
    assert sum(key.startswith("edit-fact-") for key in keys(app)) == 50
    assert "Fact 59" in lines(app)

    pressed(app, "older-facts")

    assert sum(key.startswith("edit-fact-") for key in keys(app)) == 60
    assert "older-facts" not in keys(app)


def test_a_database_that_is_away_is_said(open_app, maya):
    maya.database.rows.failures["documents"] = StoreUnavailable()

    app = memory(open_app(maya))

    assert [error.value for error in app.error] == [StoreUnavailable.public]


def test_who_is_signed_out_is_asked_to_sign_in(tab):
    app = AppTest.from_file(str(ROOT / "pages/memory.py"), default_timeout=30).run()

    assert not app.toggle
    assert "Sign in" in str(app.main)


# --- the facts of one conversation -----------------------------------------------------------------


def press_in_notes(app, conversation, label):
    return press(in_dialog(app, scoped_facts.dialog, conversation), label)


def choose_for(app, conversation, one, choice):
    in_dialog(app, scoped_facts.dialog, conversation)
    return menu_button(app, f"menu-fact-{one.id}").click(choice).run()


def test_conversation_with_notes_shows_a_sign(open_app, maya, garden, model):
    choose(maya.store.profile, keeps_facts=False)
    conversation = maya.database.thread(garden).conversation
    app = open_app(maya, c=str(garden))
    assert "own-facts" not in keys(app)

    menu(app, "Chat notes")
    assert "Used only in “Garden”." in captions(app)
    app.text_input(key="new-fact-text").set_value("It is order 7781.")
    press_in_notes(app, conversation, "Add")
    (one,) = maya.store.facts.facts()
    assert (one.text, one.conversation_id) == ("It is order 7781.", garden)
    assert app.text_input(key="new-fact-text").value == ""

    choose_for(app, conversation, one, "Edit")
    app.text_area(key=f"fact-text-{one.id}").set_value("It is order 7782.")
    press_in_notes(app, conversation, "Save note")
    assert texts(maya) == ["It is order 7782."]
    send(app, "Where is it?")
    assert "It is order 7782." in told(model)
    assert app.button(key="own-facts").label == "Chat notes"

    pressed(app, "own-facts")
    choose_for(app, conversation, one, "Delete")
    assert texts(maya) == []
    press_in_notes(app, conversation, "Undo")
    assert texts(maya) == ["It is order 7782."]


def test_dialog_lists_the_notes_of_its_conversation_only(open_app, maya, garden):
    space = Space(id=SpaceId(uuid4()), name="Spanish", created_at=NOON)
    maya.store.spaces.keep(space)
    maya.database.conversations.move(garden, space.id)
    here = fact("Here", conversation_id=garden)
    there = fact("There", conversation_id=maya.database.hold("Other", "One", "Two"))
    others = fact("Of the space", space_id=space.id), fact("Of the person")
    keep(maya, here, there, *others)

    app = menu(open_app(maya, c=str(garden)), "Chat notes")

    assert [key for key in keys(app) if "menu-fact" in key] == [f"menu-fact-{here.id}"]


def test_edited_note_is_sent_though_memory_is_off(open_app, maya, garden, model):
    choose(maya.store.profile, keeps_facts=False)
    conversation = maya.database.thread(garden).conversation
    one = fact("Order 7781", conversation_id=garden, source_id=MessageId(uuid4()))
    keep(maya, one)
    app = send(open_app(maya, c=str(garden)), "Where is it?")
    assert "7781" not in told(model)

    menu(app, "Chat notes")
    choose_for(app, conversation, one, "Edit")
    app.text_area(key=f"fact-text-{one.id}").set_value("Order 7782")
    press_in_notes(app, conversation, "Save note")

    send(app, "And now?")
    assert "Order 7782" in told(model)


def test_refused_note_stays_in_its_field(open_app, maya, garden):
    conversation = maya.database.thread(garden).conversation
    app = menu(open_app(maya, c=str(garden)), "Chat notes")

    press_in_notes(app, conversation, "Add")
    assert "max. 500 characters" in app.warning[0].value
    app.text_input(key="new-fact-text").set_value("It is order 7781.")
    maya.database.conversations.delete(garden)
    press_in_notes(app, conversation, "Add")

    assert [warning.value for warning in app.warning] == [NotFound.public]
    assert app.text_input(key="new-fact-text").value == "It is order 7781."


def test_dialog_keeps_no_text_of_the_dialog_before(open_app, maya, garden):
    other = maya.database.hold("Other", "One", "Two")
    its = fact("Of the garden", conversation_id=garden)
    keep(maya, its)
    app = menu(open_app(maya, c=str(garden)), "Chat notes")
    app.text_input(key="new-fact-text").set_value("Never added")

    conversation = maya.database.thread(other).conversation
    in_dialog(app, scoped_facts.dialog, conversation).run()

    assert "Used only in “Other”." in captions(app)
    assert [key for key in keys(app) if "menu-fact" in key] == []
    assert app.text_input(key="new-fact-text").value == ""
    app.text_input(key="new-fact-text").set_value("Of the other")
    press_in_notes(app, conversation, "Add")
    assert {(one.text, one.conversation_id) for one in maya.store.facts.facts()} == {
        ("Of the garden", garden),
        ("Of the other", other),
    }


def test_the_dialog_opens_beside_the_list_of_all_facts(open_app, maya, garden):
    one = fact("Order 7781", conversation_id=garden)
    keep(maya, one)
    app = memory(open_app(maya))
    in_dialog(app, scoped_facts.dialog, maya.database.thread(garden).conversation)

    app.run()

    assert not app.exception
    assert {f"menu-fact-{one.id}", f"edit-fact-{one.id}"} <= set(keys(app))
