"""The dialog for the running summary of a conversation: read, edited, regenerated, deleted."""

from dataclasses import replace

import streamlit as st

from pages._parts import undo, words
from pages._parts.elements import draw_changed_elsewhere, right_row
from pages._parts.temporary import services_of
from pages._session import show_errors
from services.domain import ConversationId, RunningSummary, Thread
from services.errors import Stale


@st.dialog(words.SUMMARY, width="medium", on_dismiss="rerun")
def dialog(conversation_id: ConversationId) -> None:
    """Edit, regenerate or delete the summary."""
    with show_errors():
        services = services_of(conversation_id)
        thread = services.store.conversations.thread(conversation_id)
        if thread.summary is None:
            st.caption(_why_there_is_none(thread))
            return
        key = f"summary-{conversation_id}"
        if key not in st.session_state:
            st.session_state.seen_summary = thread.summary
        seen: RunningSummary = st.session_state.seen_summary
        st.caption(_covers(thread, seen))
        with st.form("summary", border=False):
            text = st.text_area(words.SUMMARY, seen.text, height=320, key=key)
            with right_row():
                is_saved = st.form_submit_button(words.SAVE, type="primary")
        with st.container(horizontal=True):
            is_asked_again = st.button(words.REGENERATE, icon=":material/refresh:", type="tertiary")
            is_gone = st.button("Delete summary", icon=":material/close:", type="tertiary")
        thread_as_seen = replace(thread, summary=seen)  # only that is replaced
        try:
            if is_saved or is_gone:
                services.chat.memories.change_summary(thread_as_seen, "" if is_gone else text)
                if is_gone:
                    undo.offer_summary(conversation_id, seen)
                st.rerun()
            if is_asked_again:
                services.chat.memories.rebuild_summary(thread_as_seen)
                st.session_state.news = "Regenerating the summary…"
                st.rerun()
        except Stale:
            st.session_state.seen_summary = thread.summary
            draw_changed_elsewhere(thread.summary.text)


def _covers(thread: Thread, summary: RunningSummary) -> str:
    covered = [one for one in thread.branch() if summary.from_seq <= one.seq <= summary.up_to_seq]
    span = ""
    if covered:
        first, last = words.moment(covered[0].created_at), words.moment(covered[-1].created_at)
        span = f" ({first} to {last})"
    edited = " You edited it." if summary.is_edited else ""
    return (
        f"Summary of {words.count(len(covered), 'message')}{span}, updated {words.moment(summary.made_at)}."
        f"{edited} The originals are kept."
    )


def _why_there_is_none(thread: Thread) -> str:
    if not thread.is_summary_verified:
        return "The summary failed its integrity check and is not used. A new one follows with the next replies."
    return "No summary yet: the whole chat still fits, or the summary is being made."
