"""What is kept about a person across conversations: to be seen, added to, changed and deleted."""

from dataclasses import replace

import streamlit as st

from pages._parts import dialogs, facts, sidebar, turns
from pages._session import callbacks, find_person, keep_errors, person_services, show_errors


def draw_switch(preference: str, label: str, *, is_on: bool, on: str, off: str) -> None:
    key = preference.replace("_", "-")
    with st.container(gap=2):
        st.session_state[key] = is_on  # it may have been switched in another tab
        st.toggle(label, key=key, on_change=switch, args=[preference, key])
        st.caption(on if is_on else off)


def switch(preference: str, key: str) -> None:
    with keep_errors():
        chosen = {preference: bool(st.session_state[key])}
        find_person().profile.change(lambda now: replace(now, **chosen))


ended = callbacks().ended
person = person_services()
sidebar.draw_top()
with show_errors():
    preferences = person.profile.preferences()
    is_on = bool(preferences.keeps_facts)
    kept = person.memories.facts()
    with st.container(gap=2):
        st.title("Memory", anchor=False)
        st.markdown(":gray[What Daybook keeps about you across conversations, sealed as they are.]")
    draw_switch(
        "keeps_facts",
        "Keep facts about me",
        is_on=is_on,
        on="Daybook notes what you say about yourself, and the model sees it in later conversations.",
        off="Nothing is noted. The model sees only what you wrote for one conversation or space.",
    )
    draw_switch(
        "recalls_elsewhere",
        "Look in my other conversations",
        is_on=preferences.recalls_elsewhere,
        on="Where the memory policy is Retrieval, the model also sees what was said in other conversations "
        "and your prompt is about. A space keeps to itself.",
        off="Where the memory policy is Retrieval, only the conversation itself is looked through.",
    )
    said = turns.draw_refusals(has_composer=False)
    facts.draw_adding()
    if kept:
        facts.draw_all(person, kept)
    else:
        facts.draw_none(is_on=is_on)
    callbacks().forget(said)
is_dialog_open = dialogs.open_asked()
sidebar.draw_rest(person)
if not is_dialog_open:  # which would be closed
    turns.await_news(ended)
