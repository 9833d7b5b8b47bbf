"""The context of a conversation: its memory policy, the meter, and the messages that are not sent."""

from collections.abc import Sequence

import streamlit as st

from pages._parts import inspector, new_conversation, summary, words
from pages._parts.elements import popover, quiet_button, row
from pages._parts.temporary import services_of
from pages._session import Refusal, ask_for, attempt
from services.bootstrap import Chat, Setup
from services.domain import (
    Conversation,
    ConversationId,
    Full,
    MemoryPolicy,
    Message,
    MessageId,
    Purpose,
    Retrieval,
    Role,
    Summary,
    Thread,
    Usage,
    Window,
)
from services.domain.context import ContextPlan, Forecast
from services.domain.models import LimitSource
from services.errors import AppError, ChatFull, InstructionsTooLong, PromptTooLong

LARGEST_WINDOW = 1000  # messages
_QUIET_PERCENT = 50
_METER_ICONS = (10, 20, 40, 60, 80, 90)  # per cent; there are no others


def plan_of(chat: Chat, thread: Thread, setup: Setup) -> ContextPlan | None:
    """Return the plan of the next turn, or None if it does not fit."""
    try:
        return chat.planning.view(thread, setup)
    except (PromptTooLong, InstructionsTooLong):
        return None


def draw_policy(chat: Chat, thread: Thread | None, first: MemoryPolicy) -> None:
    """Draw the choice of the memory policy, and Clear context; *first*: the policy of a conversation that begins."""
    conversation = thread.conversation if thread else None
    now = conversation.policy if conversation else first
    label = words.policy_name(now)
    with popover(label, "history", "memory-policy").container(width=340):
        _draw_policies(chat, conversation, now, f"policy-{_id(conversation)}")
        if isinstance(now, Window):
            _draw_size(conversation, now)
        if not thread or not conversation:
            return
        # below the start of the context where the newest messages were deleted
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
                tip="The model starts fresh from here. Your messages stay.",
            )


def draw_unsent(chat: Chat, thread: Thread, plan: ContextPlan | None) -> None:
    """Draw the number of earlier messages that are not sent as they are; in the popover why, the summary, the policy."""
    unseen = len(out_of_view(thread.branch(), plan))
    if plan is None or not unseen:
        return
    here = thread.conversation.id
    label = f"{words.count(unseen, 'earlier message')} {_short_fate(thread, plan, unseen)}"
    with popover(label, "ink_eraser", "unsent").container(width=340):
        st.caption(
            _explanation(thread, plan, unseen, chat.background.failure(Purpose.SUMMARY, here))
        )
        _draw_view_summary(plan, here, "read-unsent-summary")
        conversation = thread.conversation
        _draw_policies(chat, conversation, conversation.policy, f"policy-of-unsent-{here}")


def draw_meter(chat: Chat, thread: Thread, setup: Setup, plan: ContextPlan | None) -> None:
    """Draw how full the context is, below a half as an icon alone; in the popover the parts of the next request and
    its highest cost."""
    room = setup.budget.prompt_tokens
    forecast = chat.planning.forecast(thread, setup, plan) if plan else None
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
                "The next request does not fit. Choose another memory setting, choose a model with a larger "
                "context window, or shorten the instructions."
            )
            return
        st.html(inspector.table(plan, forecast.tokens, room))
        st.caption(_leftovers(plan, forecast, setup))
        args = ask_for, inspector.next_dialog, thread.conversation.id
        quiet_button("View full context", "visibility", "look-at-next", *args)


def draw_banner(chat: Chat, thread: Thread, plan: ContextPlan, *, has_line: bool) -> None:
    """Draw the number of earlier messages that are not sent as they are, why, and the summary.

    *has_line*: the line at the start of the context is drawn below.
    """
    unseen = len(out_of_view(thread.branch(), plan))
    failure = chat.background.failure(Purpose.SUMMARY, thread.conversation.id)
    if not unseen and not failure:
        return
    with row("truncation-banner", "xxsmall"):
        st.caption(
            f":material/ink_eraser: {_explanation(thread, plan, unseen, failure)}",
            width="stretch",
        )
        if has_line:
            st.html(
                '<a class="db-jump" href="#model-reads-from">Jump to context start</a>',
                width="content",
            )
        _draw_view_summary(plan, thread.conversation.id, "read-summary")
        if thread.conversation.reset_seq:
            quiet_button(words.RESTORE_CONTEXT, "undo", "undo-reset", _restore, thread)


def draw_full(thread: Thread, plan: ContextPlan | None, refusals: Sequence[Refusal]) -> None:
    """Draw that the chat is full, unless one of *refusals* did, and the actions that make room."""
    is_full = plan is None and isinstance(thread.conversation.policy, Full)
    is_refused = any(isinstance(refusal.error, ChatFull) for refusal in refusals)
    if not is_full and not is_refused:
        return
    with row("chat-full", "xxsmall"):
        if not is_refused:
            st.caption(f":material/warning: {ChatFull.public}", width="stretch")
        label, to_summary = words.switch_to(Summary()), (thread.conversation, Summary())
        quiet_button(label, "notes", "full-to-summary", choose, *to_summary)
        quiet_button(words.CLEAR_CONTEXT, "restart_alt", "full-clear", _clear, thread)


def _draw_view_summary(plan: ContextPlan, conversation_id: ConversationId, key: str) -> None:
    if plan.summarised_ids:
        args = ask_for, summary.dialog, conversation_id
        quiet_button(words.VIEW_SUMMARY, "notes", key, *args)


def _explanation(thread: Thread, plan: ContextPlan, unseen: int, failure: AppError | None) -> str:
    """Return the number of *unseen* messages, in what form they are sent, and problems of the summary."""
    said: list[str] = []
    if unseen:
        said.append(f"**{words.count(unseen, 'earlier message')}** {_fate(thread, plan, unseen)}")
    if failure:
        said.append(
            f"No summary yet. {words.sentence(failure)} The latest messages are sent as they are."
        )
    elif not thread.is_summary_verified:
        said.append("The summary failed its integrity check and is not used.")
    return " ".join(said)


def _fate(thread: Thread, plan: ContextPlan, unseen: int) -> str:
    summarised = len(plan.summarised_ids)
    verb = "is" if unseen == 1 else "are"
    match thread.conversation.policy:
        case Summary() if summarised >= unseen:
            return f"{verb} sent as a summary."
        case Summary() if summarised:
            return (
                f"no longer fit: a summary of {words.number(summarised)} is sent, the rest is not."
            )
        case Retrieval():
            return f"{verb} sent only if related to your question."
        case _:
            return f"{verb} no longer sent to the model."


def _short_fate(thread: Thread, plan: ContextPlan, unseen: int) -> str:
    if isinstance(thread.conversation.policy, Retrieval):
        return "sent if related"
    return "summarized" if len(plan.summarised_ids) >= unseen else "not sent"


def draw_beginning() -> None:
    """Draw the line at the start of the context."""
    st.html('<div class="db-rule" role="separator" id="model-reads-from">Context starts here</div>')


def out_of_view(branch: Sequence[Message], plan: ContextPlan | None) -> set[MessageId]:
    """Return the messages of *branch* that are not sent; never a prompt whose reply may still come."""
    if plan is None:
        return set()
    count = 2 if branch and branch[-1].is_thoughts_only else 1
    last = branch[-count:]
    asked = [message.id for message in last if last[0].role is Role.USER]
    return {message.id for message in branch} - {
        *plan.verbatim_ids,
        *plan.earlier_recall_ids,
        *asked,
    }


def _draw_policies(
    chat: Chat, conversation: Conversation | None, now: MemoryPolicy, key: str
) -> None:
    policies = {words.policy_name(policy): policy for policy in (*chat.policies(), now)}
    st.session_state[key] = words.policy_name(now)  # another tab may have chosen it
    st.radio(
        "Memory in this chat",
        list(policies),
        captions=[words.policy_caption(policy) for policy in policies.values()],
        key=key,
        on_change=lambda: attempt(choose, conversation, policies[st.session_state[key]]),
    )


def _draw_size(conversation: Conversation | None, policy: Window) -> None:
    """Draw the number of messages of the window: even, because a prompt goes with its reply."""
    key = f"window-{_id(conversation)}"
    st.session_state[key] = policy.messages
    st.number_input(
        words.RECENT_MESSAGES,
        min_value=2,
        max_value=LARGEST_WINDOW,
        step=2,
        key=key,
        on_change=attempt,
        args=[_resize, conversation, key],
    )


def _resize(conversation: Conversation | None, key: str) -> None:
    size = int(st.session_state[key])
    choose(conversation, Window(size + size % 2))


def _id(conversation: Conversation | None) -> str:
    """Return the part of widget keys that names *conversation*, or one that begins."""
    return str(conversation.id) if conversation else "new"


def choose(conversation: Conversation | None, policy: MemoryPolicy) -> None:
    """Store *policy* for *conversation*, or choose it for the one that begins. For callbacks."""
    if conversation is None:
        new_conversation.choose_policy(policy)
    else:
        services_of(conversation.id).store.conversations.set_policy(conversation.id, policy)


def _clear(thread: Thread) -> None:
    services_of(thread.conversation.id).store.conversations.start_anew(thread)


def _restore(thread: Thread) -> None:
    services_of(thread.conversation.id).store.conversations.take_back_reset(thread)


def _leftovers(plan: ContextPlan, forecast: Forecast, setup: Setup) -> str:
    left_out = (
        f"{words.count(len(plan.omitted_ids), 'older message')} not sent. "
        if plan.omitted_ids
        else ""
    )
    worst = setup.info.cost_micro(Usage(plan.bound_tokens, plan.reply_tokens))
    price = f" The next reply costs at most {words.dollars(worst)}." if worst else ""
    counted = inspector.how_counted(plan, forecast)
    guess = ""
    if setup.info.context_source is LimitSource.GUESS:
        window = words.count(setup.info.context_tokens, "token")
        guess = f" The model's context window is unknown; assuming {window}."
    reserved = setup.context_tokens - setup.budget.prompt_tokens
    return (
        f"{left_out}{counted} Your next message is added to this. "
        f"{words.count(reserved, 'token')} more are reserved for the reply.{price}{guess}"
    )
