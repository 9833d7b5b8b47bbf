"""Facts about the user: new ones below a reply, the request for consent to store facts, and the list on the memory page."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from html import escape

import streamlit as st

from pages._parts import conversation_menu, editing, safe_md, spaces, words
from pages._parts.elements import quiet_button, row
from pages._parts.fact_list import FactList
from pages._session import (
    CHAT,
    ask_for,
    find_user,
    run_to_end,
    show_errors,
    tell,
    user_services,
)
from pages._tab import tab
from services.bootstrap import ThreadView, UserServices
from services.domain import (
    Conversation,
    ConversationId,
    Fact,
    MessageId,
    Outcome,
    Role,
    Space,
    SpaceId,
    Thread,
)
from services.errors import StoreUnavailable

MEMORY = "pages/memory.py"
COST = "This adds about one request for every five messages."
MEMORIES = FactList("memory", "I take my coffee black")
_FIRST_REPLIES = range(2, 7)  # the offer is shown while a conversation has this many replies
_ROWS = 50  # the list shows this many rows at first, and adds as many on demand


# --- below the last reply ---------------------------------------------------------------------------


def draw_noted(user: UserServices, view: ThreadView) -> None:
    """Draw the most recently noted facts, each with Undo, until the user sends another prompt."""
    noted, asked = view.noted, view.last_prompt
    if not noted or not asked:
        return
    here = view.thread.conversation.id
    scopes = [_scope(user, new.fact) for new in noted]
    shared = f" <small>{scopes[0]}</small>" if len(set(scopes)) == 1 else ""
    has_head = len(noted) > 1
    with st.container(key="noted", gap=None):
        if has_head:
            with row("noted-all", "xxsmall"):
                _draw_status(f"Memory updated: {words.count(len(noted), 'memory')}{shared}")
                _draw_leave(user, here, asked.id)
        for one, scope in zip(noted, scopes, strict=True):
            with row(f"noted-{one.fact.id}", "xxsmall"):
                before = f" <s>{escape(one.replaced.text)}</s>" if one.replaced else ""
                said = f"{escape(one.fact.text)}{before}"
                if has_head:
                    _draw_status(said if shared else f"{said} <small>{scope}</small>")
                else:
                    _draw_status(f"Memory updated: {said}{shared}")
                key = f"take-back-{one.fact.id}"
                quiet_button(words.UNDO, None, key, user.tasks.undo_noted, here, one)
                if not has_head:
                    _draw_leave(user, here, asked.id)


def _draw_status(html: str) -> None:
    st.html(f'<p role="status">{html}</p>', width="stretch")


def _draw_leave(user: UserServices, here: ConversationId, asked_id: MessageId) -> None:
    """Draw a link to the memories, and the button that hides the new ones."""
    st.page_link(MEMORY, label=words.MEMORY)
    quiet_button(words.DISMISS, "close", "dismiss-noted", user.tasks.dismiss_noted, here, asked_id)


def draw_offer(user: UserServices, thread: Thread) -> None:
    """Ask the user for consent to store facts, until there is an answer; a tab asks in only one conversation."""
    with suppress(StoreUnavailable):
        known = user.profile.preferences()
        replies = [said for said in thread.branch() if said.role is Role.ASSISTANT]
        if known.keeps_facts is not None or known.is_newer or not known.is_verified:
            return
        if len(replies) not in _FIRST_REPLIES or replies[-1].outcome is not Outcome.COMPLETE:
            return
        conversation_id = thread.conversation.id
        tab().offered_in = tab().offered_in or conversation_id
        if tab().offered_in != conversation_id:
            return
        with row("facts-offer", "xxsmall"):
            question = "Let Daybook remember things about you between chats?"
            about = f"{question} You can edit or delete them any time. {COST}"
            st.html(f"<p>{about}</p>", width="stretch")
            quiet_button("Turn on", None, "keep-facts-yes", _choose, True)
            quiet_button("Not now", None, "keep-facts-no", _choose, False)


def _scope(user: UserServices, fact: Fact) -> str:
    """Return a phrase, as HTML, that says in which chats *fact* is used."""
    space = user.choices.space(fact.space_id)
    where = f"“{space.name}”" if space and space.name else "this space"
    holds = "in this chat" if fact.conversation_id else f"in {where}" if fact.space_id else ""
    return f"Used only {escape(holds)}" if holds else "Used in all chats"


def _choose(is_wanted: bool) -> None:
    find_user().profile.change(lambda now: now.with_memory(is_wanted, datetime.now(UTC)))
    if is_wanted:
        tell(f"Memory is on. You can see and edit it under {words.MEMORY}.")


def note_left(user: UserServices, conversation: Conversation | None) -> None:
    """If this tab now shows another *conversation* or page, start extracting facts from the chat that it showed before."""
    here = conversation.id if conversation else None
    before, tab().noting_in = tab().noting_in, here
    if before != here:
        user.tasks.note_facts(before)


# --- all facts --------------------------------------------------------------------------------------


def draw_all(user: UserServices, kept: Sequence[Fact]) -> None:
    """Draw the facts, newest first, and a button that deletes them all."""
    count = tab().facts_drawn or _ROWS
    drawn = kept[::-1][:count]
    names = {space.id: space for space in spaces.every(user)}
    draw_source = partial(_draw_source, titles=_titles(user, drawn), names=names)
    with st.container(key="facts", gap=None):
        for fact in drawn:
            MEMORIES.draw_row(fact, draw_source)
    if len(kept) > count:
        quiet_button(words.SHOW_MORE, "expand_more", "older-facts", _draw_more, count)
    quiet_button("Delete all memories", "delete", "danger-ask", ask_for, delete_all_dialog)


def draw_none(*, is_on: bool) -> None:
    """Draw the text that the page shows instead of an empty list."""
    with st.container(key="no-facts", horizontal_alignment="center", gap="xsmall"):
        st.space(48)
        st.header("No memories yet", anchor=False, text_alignment="center")
        how = "Turn memory on above, and what Daybook learns about you appears here."
        if is_on:
            how = "What Daybook learns about you appears here. You can also add a memory above."
        st.markdown(f":gray[{how}]", text_alignment="center")


def _draw_source(
    fact: Fact, titles: dict[ConversationId, Conversation], names: dict[SpaceId, Space]
) -> None:
    """Draw the date of *fact*, its scope (unless it applies everywhere) and its source."""
    said = [words.in_markdown(words.moment(fact.since))]
    if space := names.get(fact.space_id) if fact.space_id else None:
        said.append(f"only in {safe_md.label(space.name)}")
    linked_id = fact.conversation_id or fact.source_conversation_id
    linked = titles.get(linked_id) if linked_id else None
    if not fact.source_conversation_id:
        said.append("added by you")
    if fact.conversation_id:
        said.append("only in" if linked else "only in its chat")
    elif fact.source_conversation_id:
        said.append("from" if linked else "from a deleted chat")
    st.caption(" · ".join(said), width="content")
    if linked:
        st.page_link(
            CHAT, label=conversation_menu.title(linked), query_params={"c": str(linked.id)}
        )


@st.dialog("Delete all memories?", on_dismiss="rerun")
@show_errors()
def delete_all_dialog() -> None:
    """Delete all facts after a confirmation that shows how many there are now."""
    kept = user_services().facts.facts()
    if not kept:
        st.markdown("There are no memories.")
        return
    notes = sum(1 for fact in kept if fact.conversation_id or fact.space_id)
    memories = len(kept) - notes
    counts = (memories, "memory"), (notes, "chat or space note")
    named = " and ".join(words.count(count, noun) for count, noun in counts if count)
    st.markdown(
        f"Delete {named}? The model will no longer see {'it' if len(kept) == 1 else 'them'}. "
        "This cannot be undone."
    )
    # the key contains the counts, so a press is ignored if the counts have changed since the page was drawn
    if editing.is_confirmed("Delete all", f"delete-all-{memories}-{notes}"):
        with run_to_end():
            user_services().facts.forget_all()
        st.rerun()


def _titles(user: UserServices, facts: Iterable[Fact]) -> dict[ConversationId, Conversation]:
    """Return the existing conversations that *facts* belong to or came from, by id; {} while they cannot be read."""
    asked = {fact.conversation_id or fact.source_conversation_id for fact in facts}
    with suppress(StoreUnavailable):
        found = user.conversations.some(each for each in asked if each)
        return {each.id: each for each in found}
    return {}


def _draw_more(count: int) -> None:
    tab().facts_drawn = count + _ROWS
