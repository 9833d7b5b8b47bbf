"""The chat page: a conversation from its title to the composer, or a new chat."""

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
    welcome,
)
from pages._session import open_dialog, show_errors, user_services
from pages._tab import Refusal, tab
from services.domain import MessageId

user = user_services()
temporary_chat = temporary.here()
services = temporary_chat or user
# read before the page is drawn, so that the page is rerun if a turn ends meanwhile
expected = turns.expected_news(user.chat, services.chat)
sidebar.draw_top()
# both containers are created at the same position in every run: otherwise the first would keep the previous
# page's content while a reply streams, and the component in the second would get the previous page's arguments again
top, drafts_place = st.empty(), st.container(key="drafts-place")
thread, turn, box, space, continued, start = None, None, None, None, None, None
said: list[Refusal] = []
begun = turns.begun(temporary_chat)
deferred = turns.DeferredDrawing(is_later=begun is not None)

with show_errors(has_way_out=True):
    conversation_id, space_id = conversation.asked_for(temporary_chat), spaces.chosen(user)
    new = new_conversation.choices(space_id)
    if conversation_id:
        view = services.chat.view(conversation_id, turns.chosen_version(), begun=begun)
        thread, turn = view.thread, view.turn
        turns.check_found(view)
        if turn is not begun:  # the turn has ended meanwhile, and its reply is among the messages
            begun = None
    else:
        view = services.chat.new_view(new)
    setup = view.setup
    space = user.choices.space(space_id)
    continued = turns.continued(view)
    if thread is None:
        start = welcome.draw(top, user, temporary_chat, space)
    else:
        conversation.name_tab(user, temporary_chat, thread)
        head = conversation.draw_title(thread)
        with st.container(gap="small", key="thread"):
            layout = conversation.lay_out(view)
            has_last = bool(begun or continued)
            draw = conversation.draw_messages
            deferred(layout.top, partial(draw, services, view, layout, has_last=has_last))
            with layout.last:
                if begun:
                    st.html(messages.prompt(thread.messages[-1]))
                if turn:
                    box = messages.draw_coming(view, continued)
                elif thread.messages:
                    messages.draw_end(services, view)
                    undo.draw_mark(thread)
                    if not temporary_chat:
                        facts.draw_noted(user, view)
                        facts.draw_offer(user, thread)
                    conversation.draw_start_below(view)
        deferred(head, partial(conversation.draw_menus, user, temporary_chat, thread))
    models.draw_notices(services, view)
    place = temporary_chat.id if temporary_chat else conversation_id
    said = turns.draw_refusals(place)
    if thread and not setup.is_too_long:
        memory.draw_full(services, view, said)
    budget.draw_choices(user, view, said)

    near = st.bottom.container(key="near-limit")
    # in a container in `st.bottom`, because Streamlit would keep the page scrolled to its end if the composer were
    # elsewhere; assets/page/place.js does the scrolling
    typed = st.bottom.chat_input(
        "Message Daybook",
        key="composer",
        on_submit=turns.send,
        args=[thread, space_id, temporary_chat, setup.offer.info.name],
    )
    is_temporary = temporary_chat is not None
    turns.give_back_untaken(typed, place, is_new=thread is None, is_temporary=is_temporary)
    deferred(
        drafts_place,
        partial(
            browser.keep_drafts,
            user.conversations.user_id,
            thread,
            given=next((refusal.prompt for refusal in said if refusal.prompt), None),
            run=tab().callbacks.ended_before,
            has_begun=bool(begun) or temporary.has_switched_off(),
            is_kept=temporary_chat is None,
            begun_here=tab().begun_here,
        ),
    )
    deferred(composer.place_tools(), partial(composer.draw_tools, services, view, new))
    if not said:
        deferred(near, partial(budget.draw_near, user, view))


def draw_the_rest() -> None:
    browser.announce(*heard())  # announced before the user can press Stop
    deferred.catch_up()
    listed = sidebar.draw_rest(
        user,
        thread.conversation if thread and not temporary_chat else None,
        space,
        partial(conversation.act, thread, setup.offer.info.name) if thread else welcome.act,
    )
    if start:
        welcome.draw_start(start, user, space, listed)
    if thread and not temporary_chat:
        conversation.note_read(user, thread)
        if not turn:
            user.tasks.catch_up(thread)
    conversation.print_if_asked(thread)
    tab().callbacks.forget(said)


def heard() -> tuple[str, MessageId | None]:
    """Return the text that a screen reader announces about the reply, and the id of the message that the text follows."""
    if turn:
        return "A reply is coming.", turn.prompt_id
    if thread and thread.messages and turns.has_ended(thread):
        return messages.ending(view), thread.branch()[-1].id
    return "", None


is_dialog_open = open_dialog()
with show_errors(has_way_out=True):
    if turn and box and not is_dialog_open:
        turns.follow(turn, box, draw_the_rest, continued.body if continued else "")
    else:
        if turn and box:
            turns.glance(turn, box, continued.body if continued else "")
        draw_the_rest()
        if not is_dialog_open:  # a rerun would close the dialog
            turns.await_news(expected, user.chat, services.chat)
