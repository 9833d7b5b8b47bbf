"""The context that was sent for a reply or will be sent next: each part of the prompt with its tokens."""

from collections.abc import Iterable
from dataclasses import replace
from html import escape

import streamlit as st

from pages._parts import turns, words
from pages._parts.elements import draw_plain_text
from pages._parts.temporary import services_of
from pages._session import show_errors
from services.bootstrap import ThreadView
from services.domain import ConversationId, Message, MessageId, Role, Usage
from services.domain.context import ContextPlan, Forecast, PartKind, ReceiptEntry, SentContext
from services.domain.policies import policy_named
from services.errors import InstructionsTooLong, PromptTooLong

_ESTIMATED = "Token counts are estimates and tend to be high."
_MERGED = "This model takes no system instructions: they are sent in front of the first message."
_EXCERPT = 120  # characters
_SPEAKERS = {Role.USER: words.YOU, Role.ASSISTANT: "Assistant", Role.SYSTEM: "System"}


@st.dialog(words.NEXT_REQUEST, width="medium", on_dismiss="rerun")
@show_errors()
def next_dialog(conversation_id: ConversationId) -> None:
    """Draw the context of the next turn, without the prompt that the user has not sent yet."""
    chosen = turns.chosen_version()
    view = services_of(conversation_id).chat.view(conversation_id, chosen, is_cached=True)
    try:
        receipt = view.next_receipt
    except (PromptTooLong, InstructionsTooLong) as error:
        st.caption(error.public)
        return
    if forecast := view.forecast:
        st.html(table(receipt, forecast.tokens, view.room))
        _draw(view, receipt, forecast.tokens, how_counted(receipt, forecast))


@st.dialog(words.CONTEXT_USED, width="medium", on_dismiss="rerun")
@show_errors()
def seen_dialog(conversation_id: ConversationId, reply_id: MessageId) -> None:
    """Draw the context that was sent for a reply, from its receipt."""
    view = services_of(conversation_id).chat.view(conversation_id, reply_id, is_cached=True)
    reply = next((message for message in view.thread.messages if message.id == reply_id), None)
    if reply is None:
        st.caption("This reply was deleted.")
        return
    receipt = view.receipt(reply)
    if receipt is None:
        st.caption("No context was recorded for this reply.")
        return
    cost = view.costs([reply]).get(reply.turn_id) if reply.turn_id else None
    tokens = (cost and cost.tokens.prompt) or receipt.prompt_tokens
    st.html(table(receipt, tokens))
    _draw(view, receipt, tokens, _counted(receipt, cost.tokens) if cost else _ESTIMATED)


def table(sent: ContextPlan | SentContext, tokens: int, room: int | None = None) -> str:
    """Return a bar and a table of the parts of the context as HTML; *tokens*: the total in tokens; *room*: the context budget.

    The app counts the parts itself, and scales its counts so that their sum is *tokens*.
    """
    *texts, (overhead, _, colour) = (
        (name, _scaled(counted, sent, tokens), colour) for name, counted, colour in _parts(sent)
    )
    # what rounding left over belongs to the last part
    parts = (*texts, (overhead, tokens - sum(counted for _, counted, _ in texts), colour))
    whole = max(room or tokens, tokens, 1)
    bar = "".join(
        f'<i style="background:var(--{colour});width:{100 * counted / whole:.1f}%"></i>'
        for _, counted, colour in parts
        if counted
    )
    rows = "".join(
        f'<tr><td><i style="background:var(--{colour})"></i>{escape(name)}</td><td>{words.number(counted)}</td></tr>'
        for name, counted, colour in parts
        if counted
    )
    total = words.number(tokens) + (f" of {words.number(room)}" if room else "")
    return (
        f'<div class="db-bar" role="img" aria-label="{total} tokens">{bar}</div>'
        f'<table class="db-parts">{rows}<tr class="sum"><td>Total tokens</td><td>{total}</td></tr></table>'
    )


def _scaled(counted: int, sent: ContextPlan | SentContext, tokens: int) -> int:
    """Return the likely tokens of a part of *sent* for which the app counted *counted*, if the whole has *tokens*."""
    return counted * tokens // max(1, sent.prompt_tokens)


def how_counted(sent: ContextPlan | SentContext, forecast: Forecast) -> str:
    """Return a sentence that says how the tokens of *sent* were counted or estimated."""
    if not forecast.is_anchored and forecast.tokens == sent.prompt_tokens:
        return _ESTIMATED
    source = "the last request" if forecast.is_anchored else "earlier requests"
    return f"About {words.count(forecast.tokens, 'token')}, estimated from {source}."


def cut_prompt(receipt: SentContext, tokens: Usage) -> str:
    """Return a warning if the endpoint's count suggests that the prompt's start was cut off, else an empty string."""
    if not receipt.is_truncated(tokens.prompt):
        return ""
    return (
        f"The provider counted only {words.number(tokens.prompt)} of about {words.number(receipt.prompt_tokens)} "
        "tokens: it may have cut off the start. Raise its context length."
    )


def _parts(sent: ContextPlan | SentContext) -> tuple[tuple[str, int, str], ...]:
    """Return the name, token count and colour of each part of the context, in the order in which they are sent."""
    if isinstance(sent, SentContext):
        tokens, kept, recalled = sent.tokens, len(sent.verbatim), len(sent.recalls)
        facts, summarised = len(sent.facts), sent.summarised_count
    else:
        tokens, kept = sent.tokens_by_kind(), len(sent.verbatim_ids)
        recalled = len(sent.recalls) + len(sent.earlier_recall_ids)
        facts, summarised = len(sent.fact_ids), len(sent.summarised_ids)
    return (
        (words.INSTRUCTIONS, tokens[PartKind.INSTRUCTIONS], "c6"),
        (words.count(facts, "memory"), tokens[PartKind.FACTS], "c3"),
        (f"Summary of {words.count(summarised, 'message')}", tokens[PartKind.SUMMARY], "c2"),
        (words.count(kept, "recent message"), tokens[PartKind.VERBATIM], "c1"),
        (words.count(recalled, "related older message"), tokens[PartKind.RECALLED], "c3"),
        ("Your message", tokens[PartKind.PROMPT], "c1"),
        ("Formatting", tokens[PartKind.FRAME], "c4"),
    )


def _draw(view: ThreadView, receipt: SentContext, tokens: int, counted: str) -> None:
    """Draw the texts of the context, which has *tokens*. *counted*: a sentence that says how the tokens were counted."""
    thread, far = view.thread, view.recalled(receipt)
    st.caption(f"Context: {words.policy_name(policy_named(receipt.policy))}. {counted}")
    by_seq = {message.seq: message for message in thread.messages}
    by_id = {message.id: message for message in (*thread.messages, *thread.branch())}
    by_id |= {message_id: message for message_id, (_, message) in far.items()}
    instructions, facts, summary, kept, recalled, *_ = (name for name, *_ in _parts(receipt))
    if receipt.instructions:
        with st.expander(instructions):
            offer = view.setup.offer
            # what another model took is not known any more
            if receipt.model == offer.info.name and offer.client.merges_instructions:
                st.caption(_MERGED)
            draw_plain_text(receipt.instructions)
    if receipt.facts:
        st.expander(facts).html(_rows((text, "", "") for _, text in receipt.facts))
    if receipt.summary:
        with st.expander(summary):
            draw_plain_text(receipt.summary.text)
    if receipt.verbatim:
        rows = (
            (_excerpt(by_seq.get(seq)), words.number(_scaled(own, receipt, tokens)), "")
            for seq, own in receipt.verbatim
        )
        st.expander(kept).html(_rows(rows))
    if receipt.recalls:
        rows = (
            _recalled(
                note,
                by_id.get(note.message_id),
                _scaled(note.tokens, receipt, tokens),
                is_far=note.message_id in far,
            )
            for note in receipt.recalls
        )
        st.expander(recalled).html(_rows(rows))
    if receipt.omitted_count:
        verb = "was" if receipt.omitted_count == 1 else "were"
        st.caption(f"{words.count(receipt.omitted_count, 'earlier message')} {verb} not sent.")


def _counted(receipt: SentContext, tokens: Usage) -> str:
    cached = f", {words.number(tokens.cached)} of them cached" if tokens.cached else ""
    counted = f"Counted by the provider: {words.count(tokens.prompt, 'input token')}{cached}."
    return f"{counted} The parts are estimates. {cut_prompt(receipt, tokens)}"


def _recalled(
    note: ReceiptEntry, message: Message | None, tokens: int, *, is_far: bool
) -> tuple[str, str, str]:
    """Return a recalled message, why it was recalled, and (if only an extract was sent) its full text as HTML."""
    day = f"{words.moment(message.created_at)}, " if message else ""
    where = "from another chat, " if is_far else ""
    extract, whole = "", ""
    if note.extract and message:
        extract = "extract, "
        begin, end = note.extract
        body, sent = message.body, message.body[begin:end]
        text = f"{escape(body[:begin])}<mark>{escape(sent)}</mark>{escape(body[end:])}"
        whole = f"<details><summary>Show message</summary><p>{text}</p></details>"
        message = replace(message, body=sent)
    found = f"matched “{', '.join(note.matched)}”" if note.matched else "next to a match"
    when = " for an earlier question" if note.recalled_for else ""
    aside = f"{day}{where}{extract}{found}{when}, {words.count(tokens, 'token')}"
    return _excerpt(message), aside, whole


def _excerpt(message: Message | None) -> str:
    if message is None:
        return "Deleted message"
    text = " ".join(message.body.split())
    shown = text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"
    return f"{_SPEAKERS.get(message.role, words.NEWER)}: {shown}"


def _rows(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return an HTML table of the first two values of each row, escaped; the third is HTML shown below both."""
    cells = "".join(
        f"<tr><td>{escape(text)}</td><td>{escape(aside)}</td></tr>"
        + (f'<tr><td colspan="2">{below}</td></tr>' if below else "")
        for text, aside, below in rows
    )
    return f'<table class="db-parts db-seen">{cells}</table>'
