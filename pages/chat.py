"""The chat page: a conversation from its title to the composer, or a fresh page."""

from functools import partial

import streamlit as st

from pages._parts import (
    browser,
    budget,
    composer,
    conversation,
    facts,
    memory,
    messages,
    models,
    new_conversation,
    sidebar,
    spaces,
    temporary,
    turns,
    undo,
)
from pages._session import Refusal, callbacks, open_dialog, person_services, show_errors
from services.domain import MessageId

ended = callbacks().ended
person = person_services()
held = temporary.here()
services = held or person
# before anything is read: a turn that ends while the page is drawn may be drawn as still running
expected = turns.expected_news(person.chat, services.chat)
sidebar.draw_top()
# both are drawn in every state, at one place: the content of the first must go at once when a reply streams,
# and the component in the second would be called again with what it was given on the page before
welcome, drafts_place = st.empty(), st.container(key="drafts-place")
thread, turn, box, space_id, space, continued = None, None, None, None, None, None
said: list[Refusal] = []
begun = turns.begun(held)
deferred = turns.DeferredDrawing(is_later=begun is not None)

with show_errors():
    conversation_id = conversation.asked_for(held)
    if begun:
        thread, turn = begun
    elif conversation_id:
        thread, turn = services.chat.read(conversation_id)
    thread = conversation.read_branch(thread, turn) if thread else None
    space_id = spaces.chosen(person)
    space = person.chat.choices.space(space_id)
    new = new_conversation.choices(space_id)
    setup = services.chat.choices.setup(thread, new)
    plan = memory.plan_of(services.chat, thread, setup) if thread else None
    continued = turns.continued(thread, turn)
    if thread is None:
        conversation.draw_welcome(welcome, person, held, space)
    else:
        conversation.name_tab(person, held, thread)
        head = conversation.draw_title(thread)
        with st.container(gap="small", key="thread"):
            layout = conversation.lay_out(thread, plan)
            deferred(
                layout.top,
                partial(
                    conversation.draw_messages,
                    services,
                    thread,
                    plan,
                    layout,
                    has_last=bool(begun or continued),
                    is_settled=turn is None,
                ),
            )
            with layout.last:
                if begun:
                    st.html(messages.prompt(thread.messages[-1]))
                if turn:
                    box = messages.draw_coming(services, thread, continued)
                elif thread.messages:
                    messages.draw_end(services, thread)
                    undo.draw_mark(thread)
                    if not held:
                        facts.draw_noted(person.chat, thread)
                        facts.draw_offer(person, thread)
                    conversation.draw_start_below(thread, plan)
        deferred(head, partial(conversation.draw_menus, person, held, thread))
    models.draw_notices(thread, setup)
    place = held.id if held else conversation_id
    said = turns.draw_refusals(place)
    if thread and not setup.is_too_long:
        memory.draw_full(thread, plan, said)
    budget.draw_choices(person, services.chat, thread, said, new)

    near = st.bottom.container(key="near-limit")
    # at the top level Streamlit would have the page stick to its end: assets/page/place.js moves it
    typed = st.bottom.chat_input(
        "Message Daybook",
        key="composer",
        on_submit=turns.send,
        args=[thread, space_id, held, setup.offer.info.name],
    )
    turns.give_back_untaken(typed, place)
    deferred(
        drafts_place,
        partial(
            browser.keep_drafts,
            person.store.conversations.user_id,
            thread,
            given=next((refusal.prompt for refusal in said if refusal.prompt), None),
            run=ended,
            has_begun=bool(begun) or temporary.has_switched_off(),
            is_kept=held is None,
        ),
    )
    deferred(
        composer.place_tools(),
        partial(composer.draw_tools, services.chat, thread, setup, plan, turn, new),
    )
    if not said:
        is_free = setup.offer.info.is_free
        deferred(
            near,
            partial(budget.draw_near, person, services.chat, thread, plan, new, is_free=is_free),
        )


def draw_the_rest() -> None:
    browser.announce(*heard())  # before the button that stops it can be pressed
    deferred.catch_up()
    sidebar.draw_rest(
        person,
        thread.conversation if thread and not held else None,
        space,
        partial(messages.act, thread.conversation.id) if thread else None,
    )
    if thread:
        conversation.note_read(person, thread)
        if not (held or turn):
            person.chat.tasks.catch_up(thread)
    conversation.print_if_asked(thread)
    callbacks().forget(said)


def heard() -> tuple[str, MessageId | None]:
    """Return what a screen reader says about the reply, and after which message."""
    if turn:
        return "A reply is coming.", turn.prompt_id
    if thread and thread.messages and turns.has_ended(thread):
        return messages.ending(services, thread), thread.branch()[-1].id
    return "", None


is_dialog_open = open_dialog()
with show_errors():
    if turn and box and not is_dialog_open:
        turns.follow(turn, box, draw_the_rest, continued.body if continued else "")
    else:
        if turn and box:
            turns.glance(turn, box, continued.body if continued else "")
        draw_the_rest()
        if not is_dialog_open:  # which would be closed
            turns.await_news(ended, expected, person.chat, services.chat)
