"""What is kept about a person across conversations: to be seen, added to, changed and deleted."""

import streamlit as st

from pages._parts import dialogs, facts, recall, sidebar, turns
from pages._session import callbacks_ended, forget_errors, person_services, show_errors

ended = callbacks_ended()
person = person_services()
sidebar.draw_top()
with show_errors():
    preferences = person.profile.preferences()
    is_on = bool(preferences.keeps_facts)
    kept = person.memories.facts()
    with st.container(gap=2):
        st.title("Memory", anchor=False)
        st.markdown(":gray[What Daybook keeps about you across conversations, sealed as they are.]")
    with st.container(gap=2):
        facts.draw_switch(is_on=is_on)
    with st.container(gap=2):
        recall.draw_switch(is_on=preferences.recalls_elsewhere)
    said = turns.draw_refusals(has_composer=False)
    facts.draw_adding()
    if kept:
        facts.draw_all(person, kept)
    else:
        facts.draw_none(is_on=is_on)
    forget_errors(said)
is_dialog_open = dialogs.open_asked()
sidebar.draw_rest(person)
if not is_dialog_open:  # which would be closed
    turns.await_news(ended)
