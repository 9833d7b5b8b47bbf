"""Facts about the user: those noted after the last prompt, the offer to note any, and the list on the memory page."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from uuid import uuid4

import streamlit as st

from pages._parts import dialogs, safe_md, undo, words
from pages._parts.elements import draw_field, quiet_button, right_row, row
from pages._session import CHAT, attempt, find_person, person_services, show_errors
from services.bootstrap import Chat, PersonServices
from services.domain import (
    Conversation,
    ConversationId,
    Fact,
    FactId,
    Outcome,
    Role,
    Space,
    SpaceId,
    Thread,
)
from services.domain.limits import LONGEST_FACT
from services.domain.memories import NotedFact
from services.errors import StoreUnavailable

MEMORY = "pages/memory.py"
_FIRST_REPLIES = range(2, 7)  # after which it is offered: later, a conversation has its course
_ROWS = 50  # at first, and as many more on demand
_NEW, _EDITING = "new-fact", "editing-memory"

Titles = Mapping[ConversationId, Conversation]
Names = Mapping[SpaceId, Space]


# --- below the last reply ---------------------------------------------------------------------------


def draw_noted(chat: Chat, thread: Thread) -> None:
    """Draw the facts noted after the last prompt, each with Undo."""
    asked = next((said for said in thread.branch()[::-1] if said.role is Role.USER), None)
    noted = tuple(
        one
        for one in chat.memories.noted(thread.conversation.id)
        if asked and one.fact.source_id == asked.id
    )
    if not noted:
        return
    with st.container(key="noted", gap=None):
        for one in noted:
            with row(f"noted-{one.fact.id}", "xxsmall"):
                st.html(f'<p role="status">{_announced(chat, one)}</p>', width="stretch")
                key, here = f"take-back-{one.fact.id}", thread.conversation.id
                quiet_button(words.UNDO, None, key, _take_back, here, one)
                if one is noted[-1]:
                    st.page_link(MEMORY, label=words.MEMORY)
                    dismiss = chat.background.dismiss
                    quiet_button(words.DISMISS, "close", "dismiss-noted", dismiss, here, noted)


def draw_offer(person: PersonServices, thread: Thread) -> None:
    """Ask in one conversation, until it is answered, whether facts shall be noted."""
    with suppress(StoreUnavailable):
        known = person.store.profile.preferences()
        replies = [said for said in thread.branch() if said.role is Role.ASSISTANT]
        if known.keeps_facts is not None or not known.is_verified:
            return
        if len(replies) not in _FIRST_REPLIES or replies[-1].outcome is not Outcome.COMPLETE:
            return
        conversation_id = thread.conversation.id
        if st.session_state.setdefault("offered-in", conversation_id) != conversation_id:
            return
        with row("facts-offer", "xxsmall"):
            st.html(
                "<p>Let Daybook remember things about you between chats? "
                "You can edit or delete them any time.</p>",
                width="stretch",
            )
            quiet_button("Turn on", None, "keep-facts-yes", _choose, True)
            quiet_button("Not now", None, "keep-facts-no", _choose, False)


def _announced(chat: Chat, one: NotedFact) -> str:
    """Return a fact, the one that it replaced, and its scope, as HTML."""
    fact, space = one.fact, chat.space(one.fact.space_id)
    where = f"“{space.name}”" if space and space.name else "this space"
    holds = "in this chat" if fact.conversation_id else f"in {where}" if fact.space_id else ""
    before = f" <s>{escape(one.replaced.text)}</s>" if one.replaced else ""
    used = f"Used only {escape(holds)}" if holds else "Used in all chats"
    return f"Memory updated: {escape(fact.text)}{before} <small>{used}</small>"


def _take_back(conversation_id: ConversationId, one: NotedFact) -> None:
    find_person().chat.memories.undo_noted(conversation_id, one)


def _choose(is_wanted: bool) -> None:
    find_person().store.profile.change(lambda now: replace(now, keeps_facts=is_wanted))
    if is_wanted:
        st.toast(f"Memory is on. You can see and edit it under {words.MEMORY}.")


# --- all of them ------------------------------------------------------------------------------------


def draw_adding() -> None:
    """Draw the field that adds a fact."""
    with (
        st.form("add-fact", border=False),
        st.container(horizontal=True, vertical_alignment="bottom", wrap=False),
    ):
        st.text_input(
            "Add a memory",
            key=_NEW,
            max_chars=LONGEST_FACT,
            placeholder="I take my coffee black",
        )
        st.form_submit_button(words.ADD, on_click=attempt, args=[_add])


def draw_all(person: PersonServices, kept: Sequence[Fact]) -> None:
    """Draw the facts, the newest first, and a button that deletes all."""
    count = int(st.session_state.get("facts-drawn", _ROWS))
    drawn = kept[::-1][:count]
    titles, names = _titles(person, drawn), _names(person, drawn)
    with st.container(key="facts", gap=None):
        for fact in drawn:
            _draw_row(fact, titles, names)
    if len(kept) > count:
        quiet_button(words.SHOW_MORE, "expand_more", "older-facts", _draw_more, count)
    icon = ":material/delete:"
    if st.button("Delete all memories", icon=icon, type="tertiary", key="danger-ask"):
        _delete_all_dialog(len(kept))


def draw_none(*, is_on: bool) -> None:
    """Draw what stands in the place of an empty list."""
    with st.container(key="no-facts", horizontal_alignment="center", gap="xsmall"):
        st.space(48)
        st.header("No memories yet", anchor=False, text_alignment="center")
        st.markdown(
            ":gray[What you say about yourself will appear here. You can also add a memory above.]"
            if is_on
            else ":gray[Turn it on above, and what you say about yourself will appear here.]",
            text_alignment="center",
        )


def _draw_row(fact: Fact, titles: Titles, names: Names) -> None:
    seen: Fact | None = st.session_state.get(_EDITING)
    with row(f"fact-{fact.id}", 2, wrap=False):
        if seen and seen.id == fact.id:
            draw_field("memory", fact.text, LONGEST_FACT, f"words-of-{fact.id}", _save, fact)
            if fact != seen:
                st.caption(f"Current version: {safe_md.label(fact.text, LONGEST_FACT)}")
            return
        with st.container(gap=None, width="stretch"):
            st.markdown(safe_md.label(fact.text, LONGEST_FACT))
            with row(gap="xxsmall"):
                _draw_source(fact, titles, names)
        name = safe_md.label(fact.text, 40)
        quiet_button(f"{words.EDIT}: {name}", "edit", f"edit-fact-{fact.id}", _edit, fact)
        quiet_button(
            f"{words.DELETE}: {name}", "delete", f"delete-fact-{fact.id}", undo.forget, fact
        )


def _draw_source(fact: Fact, titles: Titles, names: Names) -> None:
    """Draw the date, the scope unless it is everywhere, and the source of *fact*."""
    said = [words.moment(fact.since)]
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
        st.page_link(CHAT, label=dialogs.title(linked), query_params={"c": str(linked.id)})


@st.dialog("Delete all memories?")
def _delete_all_dialog(count: int) -> None:
    st.markdown(
        f"Delete {words.count(count, 'memory')}? The model will no longer see "
        f"{'it' if count == 1 else 'them'}. This cannot be undone."
    )
    with right_row():
        if st.button("Delete all", type="primary", key="danger-delete-all"):
            with show_errors():
                person_services().store.facts.forget_all()
                st.rerun()


def _titles(person: PersonServices, facts: Iterable[Fact]) -> Titles:
    """Return the existing conversations that *facts* belong to or came from; none while they cannot be read."""
    asked = {fact.conversation_id or fact.source_conversation_id for fact in facts}
    with suppress(StoreUnavailable):
        found = person.store.conversations.some(each for each in asked if each)
        return {each.id: each for each in found}
    return {}


def _names(person: PersonServices, facts: Iterable[Fact]) -> Names:
    if any(fact.space_id for fact in facts):
        with suppress(StoreUnavailable):
            return {space.id: space for space in person.store.spaces.all()}
    return {}


def _add() -> None:
    text = str(st.session_state[_NEW])
    find_person().store.facts.keep(Fact(id=FactId(uuid4()), text=text, since=datetime.now(UTC)))
    st.session_state[_NEW] = ""


def _edit(fact: Fact) -> None:
    st.session_state[_EDITING] = fact


def _save(fact: Fact, text: str) -> None:
    changed = fact.rewritten(text, datetime.now(UTC))
    find_person().store.facts.keep(changed, replaces=fact)
    del st.session_state[_EDITING]


def _draw_more(count: int) -> None:
    st.session_state["facts-drawn"] = count + _ROWS
