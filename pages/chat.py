"""The chat page: one conversation, from its title to the composer; without one, a fresh page."""

from functools import partial

import streamlit as st

from pages._parts import browser, composer, conversation, dialogs, memory, messages, sidebar, turns
from pages._session import forget_error, person_services, show_errors

person = person_services()
sidebar.draw_top()
welcome = st.empty()  # drawn in every state: what it showed must go at once when a reply streams
thread, turn, box, refusal = None, None, None, None
begun = turns.begun_thread()
soon = turns.Soon(is_later=begun is not None)

with show_errors():
    conversation_id = conversation.asked_for()
    thread = begun or (person.chat.open(conversation_id) if conversation_id else None)
    plan = memory.plan_of(person.chat, thread) if thread else None
    if thread is None:
        conversation.draw_welcome(welcome)
    else:
        turn = person.chat.live(thread.conversation.id)
        soon(conversation.draw_title(thread), partial(conversation.draw_menus, person, thread))
        with st.container(gap="small", key="thread"):
            past = st.container(gap="small", key="past")
            soon(
                past,
                partial(conversation.draw_messages, person, thread, plan, has_last=bool(begun)),
            )
            if begun:
                messages.draw(begun.messages[-1], {})
            if turn:
                box = messages.draw_coming()
            elif thread.messages:
                messages.draw_end(person, thread)
    refusal = turns.draw_refusal()

    typed = st.chat_input(
        "Write to Daybook",
        key="composer",
        submit_mode="disable",
        on_submit=turns.send,
        args=[conversation_id, thread.conversation.rev if thread else None],
    )
    turns.give_back_untaken(typed)
    soon(composer.place_tools(), partial(composer.draw_tools, person.chat.info, thread, plan, turn))


def draw_the_rest() -> None:
    soon.catch_up()
    browser.keep_drafts(
        person.conversations.user_id,
        thread.conversation if thread else None,
        has_begun=begun is not None,
    )
    sidebar.draw_rest(person, thread.conversation if thread else None)
    forget_error(refusal)


is_dialog_open = dialogs.open_asked()
if turn and box and not is_dialog_open:
    with show_errors():
        turns.follow(turn, box, meanwhile=draw_the_rest)
else:
    if turn and box:
        turns.glance(turn, box)
    draw_the_rest()
    if thread and not is_dialog_open:  # which would be closed
        turns.await_title(person.chat, thread.conversation.id)
