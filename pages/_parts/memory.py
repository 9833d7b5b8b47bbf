"""A conversation's context: its memory policy, the context meter, the messages that are not sent, and the summary."""

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from pages._parts import context_words, editing, inspector, new_conversation, turns, undo, words
from pages._parts.context_words import Earlier, SummaryState
from pages._parts.elements import key_showing, one_of, popover, quiet_button, row
from pages._parts.temporary import services_of
from pages._session import ask_for, attempt, reason, show_errors, tell
from pages._tab import Refusal
from services.bootstrap import ChatParts, Setup, ThreadView
from services.domain import (
    Conversation,
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    Role,
    RunningSummary,
    Summary,
    Thread,
    Usage,
)
from services.domain.context import ContextPlan, Forecast
from services.domain.limits import LONGEST_SUMMARY
from services.domain.models import LimitSource
from services.errors import ChatFull, NewerVersion

LARGEST_WINDOW = 1000  # messages
_QUIET_PERCENT = 50
_METER_ICONS = (10, 20, 40, 60, 80, 90)  # the percentages for which icons exist


def draw_policy(services: ChatParts, view: ThreadView) -> None:
    """Draw the menu that selects the memory policy, with Clear context or Restore context."""
    thread, now = view.thread, view.thread.conversation.policy
    conversation = None if view.is_new else thread.conversation
    label = words.policy_name(now)
    with popover(label, "history", "memory-policy").container(width=340):
        _draw_policies(services, conversation, now, f"policy-{_id(conversation)}")
        if now.messages is not None and now.is_known:
            _draw_size(conversation, now, now.messages)
        if not conversation:
            return
        # less than reset_seq if the newest messages were deleted after the context was cleared
        last_seq = thread.messages[-1].seq if thread.messages else 0
        if conversation.reset_seq and conversation.reset_seq >= last_seq:
            quiet_button(words.RESTORE_CONTEXT, "undo", "undo-start", _restore, thread)
        else:
            quiet_button(
                words.CLEAR_CONTEXT,
                "restart_alt",
                "start-anew",
                _clear,
                thread,
                tip="The model starts fresh from here. Your messages are kept.",
            )


def draw_unsent(services: ChatParts, view: ThreadView) -> None:
    """Draw a panel about the earlier messages: which are sent, which are not and why, and buttons that help."""
    if view.plan is None:
        return
    conversation, summary = view.thread.conversation, _summary_state(view)
    earlier = context_words.count_earlier(view.thread, view.plan)
    label = context_words.chip(conversation.policy, earlier)
    if label is None:
        return
    with popover(label, "ink_eraser", "unsent").container(width=340):
        said = context_words.not_sent(conversation.policy, earlier, summary)
        for sentence in (context_words.sent(earlier), *said):
            st.caption(sentence)
        _draw_remedies(services, view.thread, earlier, summary, "unsent")
        name = f"policy-of-unsent-{conversation.id}"
        _draw_policies(services, conversation, conversation.policy, name)


def draw_meter(view: ThreadView) -> None:
    """Draw the used share of the context: as a number or, below 50 %, only as an icon. A popover shows the parts of the
    next request and its maximum cost."""
    if view.thread.is_newer:  # no prompt is sent in a chat that a newer version of Daybook stored
        return
    room, plan, forecast = view.room, view.plan, view.forecast
    percent = min(100, round(100 * forecast.tokens / room)) if forecast else 100
    nearest = min(_METER_ICONS, key=lambda icon: abs(icon - percent))
    label = f"Context {percent} % full"
    is_quiet = percent < _QUIET_PERCENT
    with st.container(key="quiet-meter" if is_quiet else "meter", width="content"):
        panel = popover(label, f"clock_loader_{nearest}", "context-meter")
    with panel.container(width=340, gap="small", key="context-inspector"):
        st.markdown(f"**{words.NEXT_REQUEST}**")
        if plan is None or forecast is None:
            st.caption(
                "The next request does not fit. Choose another context setting, choose a model with a larger "
                "context window, or shorten the instructions."
            )
            return
        st.html(inspector.table(plan, forecast.tokens, room))
        st.caption(_leftovers(plan, forecast, view.setup))
        args = ask_for, inspector.next_dialog, view.thread.conversation.id
        quiet_button("View full context", "visibility", "look-at-next", *args)


def draw_banner(
    services: ChatParts, view: ThreadView, plan: ContextPlan, *, has_line: bool
) -> None:
    """Draw a banner that says how many earlier messages are not sent in full and why, with buttons that help.

    *has_line*: True if the page has a line at the start of the context; a link in the banner leads there.
    """
    thread, summary = view.thread, _summary_state(view)
    policy = thread.conversation.policy
    earlier = context_words.count_earlier(thread, plan)
    said = context_words.not_sent(policy, earlier, summary)
    if not said:
        return
    with row("truncation-banner", "xxsmall"):
        st.caption(f":material/ink_eraser: {' '.join(said)}", width="stretch")
        if has_line:
            link = '<a class="db-jump" href="#model-reads-from">Jump to context start</a>'
            st.html(link, width="content")
        _draw_remedies(services, thread, earlier, summary, "banner")


def draw_full(services: ChatParts, view: ThreadView, refusals: Sequence[Refusal]) -> None:
    """If the chat is full, draw a text that says so (unless one of *refusals* does), and the buttons that make room."""
    thread = view.thread
    is_full = view.plan is None and thread.conversation.policy.kind.sends_all
    is_refused = any(isinstance(refusal.error, ChatFull) for refusal in refusals)
    if not is_full and not is_refused:
        return
    with row("chat-full", "xxsmall"):
        if not is_refused:
            st.caption(f":material/warning: {ChatFull.public}", width="stretch")
        label = words.switch_to(Summary())
        quiet_button(label, "notes", "full-to-summary", _begin_summary, services, thread)
        quiet_button(words.CLEAR_CONTEXT, "restart_alt", "full-clear", _clear, thread)


def _summary_state(view: ThreadView) -> SummaryState:
    failure = view.summary_failure
    return SummaryState(
        problem=context_words.of_summary(reason(failure)) if failure else None,
        is_verified=view.thread.is_summary_verified,
        is_coming=view.is_summary_coming,
    )


def _draw_remedies(
    services: ChatParts, thread: Thread, earlier: Earlier, summary: SummaryState, name: str
) -> None:
    """Draw the buttons that apply to messages not sent in full: View summary, Summarize now, Restore context."""
    conversation = thread.conversation
    if earlier.summarised:
        args = ask_for, summary_dialog, conversation.id
        quiet_button(words.VIEW_SUMMARY, "notes", f"read-summary-{name}", *args)
    if context_words.can_summarise(conversation.policy, earlier, summary):
        label, summarise = context_words.SUMMARIZE, services.tasks.summarise_now
        quiet_button(label, "notes", f"summarize-{name}", summarise, thread)
    if conversation.reset_seq:
        quiet_button(words.RESTORE_CONTEXT, "undo", f"undo-reset-{name}", _restore, thread)


def draw_beginning() -> None:
    """Draw the line at the start of the context."""
    st.html('<div class="db-rule" role="separator" id="model-reads-from">Context starts here</div>')


def out_of_view(branch: Sequence[Message], plan: ContextPlan | None) -> set[MessageId]:
    """Return the ids of the messages in *branch* that are not sent to the model, except a prompt that awaits its reply."""
    if plan is None:
        return set()
    count = 2 if branch and branch[-1].is_thoughts_only else 1
    last = branch[-count:]
    asked = [message.id for message in last if last[0].role is Role.USER]
    shown = {*plan.verbatim_ids, *plan.earlier_recall_ids, *asked}
    return {message.id for message in branch} - shown


def _draw_policies(
    services: ChatParts, conversation: Conversation | None, now: MemoryPolicy, name: str
) -> None:
    policies = {words.policy_name(policy): policy for policy in (*services.choices.policies(), now)}
    chosen = words.policy_name(now)
    key = key_showing(name, chosen)
    st.radio(
        "Context in this chat",
        list(policies),
        list(policies).index(chosen),
        captions=[words.policy_caption(policy) for policy in policies.values()],
        key=key,
        on_change=lambda: attempt(
            lambda: choose(conversation, policies[one_of(policies, st.session_state[key])])
        ),
    )


def _draw_size(conversation: Conversation | None, policy: MemoryPolicy, messages: int) -> None:
    """Draw the field for the window's size, an even number of messages, because prompts are sent with their replies."""
    key = key_showing(f"window-{_id(conversation)}", messages)

    def resize() -> None:
        size = int(st.session_state[key])
        attempt(choose, conversation, replace(policy, messages=size + size % 2))

    label = words.RECENT_MESSAGES
    st.number_input(label, 2, LARGEST_WINDOW, messages, step=2, key=key, on_change=resize)


def _id(conversation: Conversation | None) -> str:
    """Return the part of a widget key that identifies *conversation*; None: a new conversation."""
    return str(conversation.id) if conversation else "new"


def choose(conversation: Conversation | None, policy: MemoryPolicy) -> None:
    """Store *policy* for *conversation*, or choose it for the new conversation. For use in callbacks."""
    if conversation is None:
        new_conversation.choose_policy(policy)
    else:
        services_of(conversation.id).conversations.set_policy(conversation.id, policy)


def _begin_summary(services: ChatParts, thread: Thread) -> None:
    """Choose the policy Summary in a full chat and start the summary, which else would start only after the next reply."""
    choose(thread.conversation, Summary())
    services.tasks.summarise_now(thread)


def _clear(thread: Thread) -> None:
    services_of(thread.conversation.id).conversations.start_anew(thread)


def _restore(thread: Thread) -> None:
    services_of(thread.conversation.id).conversations.take_back_reset(thread)


def _leftovers(plan: ContextPlan, forecast: Forecast, setup: Setup) -> str:
    said = [
        f"{inspector.how_counted(plan, forecast)} Your next message is added to this.",
        f"{words.count(plan.min_reply_tokens, 'token')} more are reserved for the reply.",
    ]
    if worst := setup.offer.info.cost_micro(Usage(plan.bound_tokens, plan.reply_tokens)):
        said.append(f"The next reply costs at most {words.dollars(worst)}.")
    if setup.offer.info.context_source is LimitSource.GUESS:
        window = words.count(setup.offer.info.context_tokens, "token")
        said.append(f"The model's context window is unknown; assuming {window}.")
    return " ".join(said)


# --- the summary -----------------------------------------------------------------------------------------


@st.dialog(words.SUMMARY, width="medium", on_dismiss="rerun")
@show_errors()
def summary_dialog(conversation_id: ConversationId) -> None:
    """Edit, regenerate or delete the summary."""
    services = services_of(conversation_id)
    thread = services.chat.view(conversation_id, turns.chosen_version()).thread
    if thread.summary is None:
        st.caption(_why_there_is_none(thread))
        return
    now, key = thread.summary, f"summary-{conversation_id}"
    seen = editing.seen_at_opening(key, now)
    st.caption(_covered(thread, seen))
    with st.form("summary", border=False):
        most = max(LONGEST_SUMMARY, len(seen.text))
        text = st.text_area(words.SUMMARY, seen.text, max_chars=most, height=320, key=key)
        is_saved = editing.is_submitted()
    with st.container(horizontal=True):
        is_asked_again = st.button(words.REGENERATE, icon=":material/refresh:", type="tertiary")
        is_gone = st.button("Delete summary", icon=":material/delete:", type="tertiary")

    def change() -> None:
        # the stored summary is replaced only if it is still the summary that the user saw
        thread_as_seen = replace(thread, summary=seen)
        if is_asked_again:
            if services.tasks.summarise_now(thread_as_seen, is_anew=True):
                undo.offer_summary(conversation_id, seen, "Deleted the old summary")
            tell("Regenerating the summary…")
            return
        wanted = "" if is_gone else text.strip()
        services.tasks.change_summary(thread_as_seen, wanted)
        if not wanted:
            undo.offer_summary(conversation_id, seen, "Deleted the summary")

    if is_saved or is_asked_again or is_gone:
        editing.save(change, lambda: now, lambda now: now.text)


def _covered(thread: Thread, summary: RunningSummary) -> str:
    covered = [one for one in thread.branch() if summary.from_seq <= one.seq <= summary.up_to_seq]
    span = ""
    if covered:
        ends = (words.moment(covered[at].created_at) for at in (0, -1))
        span = f" ({' to '.join(dict.fromkeys(ends))})"
    edited = " You edited it." if summary.is_edited else ""
    return (
        f"Summary of {words.count(len(covered), 'message')}{span}, updated {words.moment(summary.made_at)}."
        f"{edited} The originals are kept."
    )


def _why_there_is_none(thread: Thread) -> str:
    if thread.has_newer_parts:
        return NewerVersion.public
    if not thread.is_summary_verified:
        return "The summary failed its integrity check and is not used. A new one follows with the next replies."
    return "No summary yet: the whole chat still fits, or the summary is being made."
