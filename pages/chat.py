"""The chat page: one conversation, from its title to the composer; without one, a fresh page."""

import streamlit as st

from pages._parts import conversation, dialogs, memory, messages, models, sidebar, turns
from pages._session import person_services, show_errors
from services.chat import LiveTurn

person = person_services()
sidebar.draw_top()
welcome = st.empty()  # drawn in every state: what it showed must go at once when a reply streams
turn, box = None, None

with show_errors():
    conversation_id = conversation.asked_for()
    thread = turns.begun_thread(conversation_id)
    if conversation_id and not thread:
        thread = person.chat.open(conversation_id)
    plan = memory.plan_of(person.chat, thread) if thread else None
    if thread is None:
        conversation.draw_welcome(welcome)
    else:
        turn = person.chat.live(thread.conversation.id)
        conversation.draw_head(person, thread)
        with st.container(gap="small", key="thread"):
            conversation.draw_messages(thread, plan)
            if turn:
                box = messages.draw_coming()
            elif thread.messages:
                messages.draw_end(thread, person.chat.failure(thread.conversation.id))
    turns.draw_refusal()

    typed = st.chat_input(
        "Write to Daybook",
        key="composer",
        submit_mode="disable",
        on_submit=turns.send,
        args=[conversation_id, thread.conversation.rev if thread else None],
    )
    turns.give_back_untaken(typed)
    with (
        st.bottom,
        st.container(
            horizontal=True, vertical_alignment="center", gap="xxsmall", key="composer-tools"
        ),
    ):
        if thread:
            memory.draw_policy(thread)
            memory.draw_meter(plan, person.chat.info)
        else:
            st.caption(models.line(), width="stretch")
        st.space("stretch")
        if isinstance(turn, LiveTurn):  # another process's request cannot be ended from here
            st.button(
                "Stop",
                icon=":material/stop_circle:",
                type="tertiary",
                key="stop",
                shortcut="Escape",
                on_click=turn.stop,
            )

is_dialog_open = dialogs.open_asked()
if turn and box and not is_dialog_open:
    with show_errors():
        turns.follow(turn, box, meanwhile=lambda: sidebar.draw_rest(person))
else:
    if turn and box:
        turns.glance(turn, box)
    sidebar.draw_rest(person)
