"""Messages on the page (prompts and replies), the way in which a reply ended, and the buttons below."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from html import escape
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import inspector, prompts, safe_md, thoughts, turns, undo, versions, words
from pages._parts.elements import icon_button, row
from pages._session import ask_for, attempt, reason
from pages._tab import tab
from services.bootstrap import ChatParts, ThreadView
from services.domain import (
    ConversationId,
    Message,
    Outcome,
    Role,
    TurnCost,
    TurnId,
    code_fences,
    total_cost,
)
from services.domain.model_failures import LONGEST_WAIT_SECONDS, ModelFailure, ModelUnavailable
from services.errors import AppError, NewerVersion, StoreUnavailable

Costs = Mapping[TurnId, TurnCost]

_UNVERIFIED = "This message failed its integrity check and is hidden. Contact your admin."

# on touch screens, this button shows the details that appear on hover elsewhere (assets/page/details.js)
_MORE = '<button class="db-act db-details" aria-expanded="false" aria-label="Details" data-icon="more_horiz"></button>'

_UNANSWERED = (
    '<details class="db-unanswered"><summary>Unanswered, not part of the chat</summary>'
    "No reply was received. Later messages are sent without this one.</details>"
)


class _Ending(NamedTuple):
    """The words and the icon that say how a reply ended that is not complete, or why there is none."""

    name: str  # on the badge of an earlier reply
    icon: str
    sentence: str


_AWAY = ":material/cloud_off:"
_EDITED = _Ending("Edited", ":material/edit:", "You edited this reply.")
_SAVED, _PART_SAVED = "Your message is saved", "The partial reply is saved"
_ENDINGS = {
    Outcome.CUT: _Ending(
        "Cut off at the length limit",
        ":material/content_cut:",
        "The reply was cut off at its length limit.",
    ),
    Outcome.STOPPED: _Ending(
        "Stopped", ":material/stop_circle:", f"You stopped this reply. {_PART_SAVED}."
    ),
    Outcome.FAILED: _Ending(
        "Incomplete",
        _AWAY,
        f"The model did not finish this reply. {_PART_SAVED}.",
    ),
    Outcome.EDITED: _EDITED,
    Outcome.INTERRUPTED: _Ending(
        "Interrupted",
        ":material/bolt:",
        f"This reply was interrupted. {_PART_SAVED}.",
    ),
}

_NEWER = _Ending(words.NEWER, ":material/update:", NewerVersion.public)
_NO_ANSWER = _Ending("No answer", _AWAY, "The model did not answer. Its reasoning is saved.")


def draw_reply(
    reply: Message, known: thoughts.Known, *, is_last: bool = False, is_plain: bool = False
) -> None:
    """Draw *reply* as safe Markdown, with its thoughts from *known*.

    *is_plain*: if the reply is only text, draw it without `st.chat_message`, which adds several DOM nodes.
    """
    # the ending of the last reply is not drawn here, because `draw_end` draws it below the reply
    badge = None if is_last and reply.outcome is not Outcome.EDITED else _ending_of(reply)
    is_more = badge or not _has_text(reply) or any(part.has_thoughts for part in reply.stored)
    with nullcontext() if is_plain and not is_more else st.chat_message(Role.ASSISTANT):
        thoughts.draw(reply, known)
        if not reply.is_verified:
            st.markdown(f":gray[:material/gpp_bad: {_UNVERIFIED}]")
        elif not reply.is_thoughts_only:
            safe_md.draw(code_fences.lengthened(reply.body))
        if badge:
            color = "gray" if reply.outcome is Outcome.EDITED else "orange"
            st.badge(badge.name, icon=badge.icon, color=color, help=_true_here(badge, reply))


def prompt(
    message: Message,
    others: Sequence[Message] = (),
    *,
    is_unanswered: bool = False,
    is_unseen: bool = False,
) -> str:
    """Return a prompt and its buttons as HTML.

    *others*: all versions of the message, *message* included; if empty, the message has no Edit and Delete buttons.
    *is_unanswered*: the conversation went on without a reply; *is_unseen*: the prompt is not sent to the model.
    """
    text = prompts.as_typed(message.body) if message.is_verified else f"<p>{_UNVERIFIED}</p>"
    edit = _edit(message) if others else ""
    delete = _act("delete", message, "Delete this and everything after", "delete") if others else ""
    return (
        f'<div class="db-message{" db-unseen" if is_unseen else ""}" role="group"'
        f' aria-label="Chat message from user">{text}{_UNANSWERED if is_unanswered else ""}</div>'
        f'<div class="db-acts db-ask">{_switch(message, others)}{_copy(message)}{edit}{delete}{_MORE}</div>'
    )


def below(
    reply: Message,
    others: Sequence[Message],
    costs: Costs,
    choices: Iterable[str],
    *,
    has_retry: bool = False,
) -> str:
    """Return the HTML below *reply*. *others*: as in `prompt`; *choices*: other ways to regenerate it; *has_retry*: the
    page has a button Retry for it."""
    edit = _edit(reply) if others else ""
    again = ""
    if others and not has_retry:
        again = _act("retry", reply, words.REGENERATE, "refresh") + _choice(reply, choices)
    seen = _act("seen", reply, words.CONTEXT_USED, "visibility") if reply.turn_id else ""
    # buttons that only some replies have come last, so that the others are always at the same position
    parts = _copy(reply), edit, again, seen, _switch(reply, others), _facts(reply, costs)
    return f'<div class="db-acts">{"".join(parts)}</div>'


def draw_coming(view: ThreadView, continued: Message | None) -> DeltaGenerator:
    """Draw the frame of a streaming reply and return the container for its text.

    *continued*: the earlier reply that the new one continues, if any.
    """
    with st.chat_message(Role.ASSISTANT):
        if continued:
            thoughts.draw(continued, view.thoughts([continued]))
        box = st.empty()
    st.space(32)
    return box


def draw_end(services: ChatParts, view: ThreadView) -> None:
    """Draw what follows the last message: a line that says how its reply ended, the buttons that help, and its icons."""
    thread, last = view.thread, view.thread.branch()[-1]
    others = thread.versions(last) if last.role is Role.ASSISTANT else ()
    choices = versions.choices(services)
    end = _NEWER if thread.is_newer else _end(view)
    tip = thread.tip if last.is_unfinished and not thread.is_newer else None
    # if there is a reply and a failure, a request for another version of the reply has failed
    has_retry = not thread.is_newer and (view.failure is not None or not last.is_answer)
    if end and end is not _EDITED:  # an edited reply has a badge
        with st.container(key="reply-failed" if view.failure else "reply-ended", gap="xsmall"):
            st.caption(f"{end.icon} {_true_here(end, last, view.failure)}")
            if isinstance(view.failure, ModelUnavailable) and view.failure.details:
                with st.expander("Details", key="failure-details", type="compact"):
                    st.text(words.failure_details(view.failure.details))
            if tip or has_retry:
                _draw_remedies(view, tip, choices, has_retry=has_retry)
    if last.role is Role.ASSISTANT:
        costs = view.costs([last])
        st.html(below(last, others, costs, choices, has_retry=has_retry))
        _draw_cut_prompt(view, last, costs)


def _draw_remedies(
    view: ThreadView, tip: Message | None, choices: Iterable[str], *, has_retry: bool
) -> None:
    """Draw Continue, if the last reply, whose last part is *tip*, ended early, and Retry.

    Both are disabled while the endpoint asks to wait.
    """
    conversation_id, model = view.thread.conversation.id, view.setup.offer.info.name
    last, wait = view.thread.branch()[-1], _wait_seconds(view.failure)
    with row("reply-buttons"):
        if tip:
            st.button(
                "Continue",
                icon=":material/play_arrow:",
                key="continue",
                disabled=wait > 0,
                on_click=attempt,
                args=[turns.continue_reply, conversation_id, tip.id, model],
            )
        if not has_retry:
            return
        st.button(
            "Retry",
            icon=":material/refresh:",
            key="retry-later" if wait else "retry",
            disabled=wait > 0,
            on_click=attempt,
            args=[turns.retry, conversation_id, last.id, model],
        )
        st.html(_choice(last, choices), width="content")
        if wait:
            # the browser counts down from this value (assets/style.css)
            st.html(
                f"<style>.st-key-retry-later {{ --waited: {wait - LONGEST_WAIT_SECONDS}s }}</style>"
            )
            _redraw_after(wait)


def _redraw_after(seconds: int) -> None:
    """Rerun the page after *seconds*, unless a dialog is open then, which would close; its end reruns the page."""
    is_drawn = False

    @st.fragment(run_every=seconds)
    def wake() -> None:
        nonlocal is_drawn
        if is_drawn and not tab().is_dialog_open:
            st.rerun()
        is_drawn = True

    wake()


def _draw_cut_prompt(view: ThreadView, reply: Message, costs: Costs) -> None:
    """Draw a warning if the endpoint's token count suggests that the start of the prompt was cut off."""
    cost = costs.get(reply.turn_id) if reply.turn_id else None
    with suppress(StoreUnavailable):
        receipt = view.receipt(reply) if cost else None
        if cost and receipt and (sentence := inspector.cut_prompt(receipt, cost.tokens)):
            st.caption(f":material/warning: {sentence}")


def _end(view: ThreadView) -> _Ending | None:
    """Return how the last reply ended, or why there is none; None if it is complete."""
    last = view.thread.branch()[-1]
    if view.failure:
        return _Ending("", _AWAY, reason(view.failure))
    if last.role is not Role.USER:
        return _ending_of(last)
    missing = view.thread.missing_reply
    match missing.outcome if missing and missing.prompt_id == last.id else None:
        case Outcome.STOPPED | Outcome.INTERRUPTED as outcome:
            return _ENDINGS[outcome]
        case Outcome.COMPLETE:
            return _Ending("", _AWAY, reason(ModelUnavailable(ModelFailure.EMPTY)))
        case _:
            return _Ending("", _AWAY, f"No reply was received. {_SAVED}.")


def _ending_of(message: Message) -> _Ending | None:
    if message.is_newer:
        return _NEWER
    is_stopped = message.outcome in (Outcome.STOPPED, Outcome.INTERRUPTED)
    if message.is_thoughts_only and not is_stopped:
        return _NO_ANSWER
    return _ENDINGS.get(message.outcome)


def _true_here(ending: _Ending, last: Message, failure: AppError | None = None) -> str:
    """Return the sentence of *ending*, true to what is saved: a part of the reply *last*, or only the prompt.

    A temporary chat is not saved but kept. If the endpoint asks to wait after *failure*, say how long.
    """
    kept = (_SAVED, _PART_SAVED) if last.is_unfinished else (_PART_SAVED, _SAVED)
    sentence = ending.sentence.replace(*kept)
    if wait := _wait_seconds(failure):
        sentence = sentence.replace("; try again.", f". Try again in {words.duration(wait)}.")
    return sentence.replace(" is saved", " is kept") if tab().temporary else sentence


def _wait_seconds(failure: AppError | None) -> int:
    return failure.wait_seconds if isinstance(failure, ModelUnavailable) else 0


def _switch(message: Message, others: Sequence[Message]) -> str:
    """Return a switch between versions: the number of *message* among *others*, and Previous and Next buttons."""
    if len(others) < 2:
        return ""
    here = [one.id for one in others].index(message.id)
    before, after = others[here - 1 : here], others[here + 1 : here + 2]
    return (
        f'<span class="db-versions" role="group" aria-label="Versions of this {_noun(message)}"'
        f' data-versions="{others[0].id}">'
        f"{_act('show', before[0] if before else None, 'Previous version', 'chevron_left')}"
        f"<small>{here + 1} / {len(others)}</small>"
        f"{_act('show', after[0] if after else None, 'Next version', 'chevron_right')}</span>"
    )


def _edit(message: Message) -> str:
    """Return the button that edits *message*."""
    return _act("edit", message, f"Edit {_noun(message)}", "edit") if _has_text(message) else ""


def _choice(message: Message, choices: Iterable[str]) -> str:
    """Return the button that opens a menu of other ways to regenerate *message* (assets/page/menu.js)."""
    options = escape("|".join(choices))
    about = f'data-message="{message.id}" data-options="{options}" aria-haspopup="menu"'
    return icon_button(words.REGENERATE_WITH, "expand_more", about)


def _act(name: str, message: Message | None, label: str, icon: str) -> str:
    """Return a button that `act` handles; it is disabled if *message* is None."""
    told = f'data-act="{name}" data-message="{message.id}"' if message else "disabled"
    return icon_button(label, icon, told)


def act(conversation_id: ConversationId, model: str, request: Mapping[str, str]) -> None:
    """Perform the action of a button below a message. The request comes from the browser, so it is checked.

    *model*: the model that the page showed.
    """
    match request:
        case {"act": name, "message": text} if message_id := turns.message_id(text):
            about = conversation_id, message_id
            match name:
                case "retry":
                    turns.retry(*about, model)
                case "edit":
                    versions.edit(message_id)
                case "show":
                    turns.show(message_id)
                case "find":
                    turns.open_at(message_id)
                case "choose":
                    versions.regenerate(*about, request.get("choice", ""), model)
                case "delete":
                    ask_for(undo.messages_dialog, *about)
                case "seen":
                    ask_for(inspector.seen_dialog, *about)
                case _:
                    pass
        case _:
            pass


def ending(view: ThreadView) -> str:
    """Return a sentence on how the last reply ended, without Markdown."""
    end = _end(view)
    last = view.thread.branch()[-1]
    if end is None:
        return "The reply is complete."
    return _true_here(end, last, view.failure).replace("`", "")


def _copy(message: Message) -> str:
    """Return a button that copies the source text of *message* (assets/page/copy.js).

    The text is in base64, because Streamlit's sanitizer removes attributes that contain `]>` or `-->`.
    """
    if not _has_text(message):
        return ""
    text = b64encode(message.body.encode()).decode()
    return icon_button(f"Copy {_noun(message)}", "content_copy", f'data-copy="{text}"')


def _has_text(message: Message) -> bool:
    return message.is_verified and not message.is_thoughts_only


def _noun(message: Message) -> str:
    return "message" if message.role is Role.USER else "reply"


def _facts(message: Message, costs: Costs) -> str:
    """Return the model, tokens, cost and time of *message* as HTML."""
    cost = total_cost(message, costs)
    moment = words.moment(message.created_at)
    if cost is None:
        return f"<small>{moment}</small>{_MORE}"
    tokens = cost.tokens
    read, written = words.number(tokens.prompt), words.number(tokens.reply)
    cached = f" ({words.number(tokens.cached)} of them cached)" if tokens.cached else ""
    spelt = f"{read} input tokens{cached}, {written} output tokens"
    spent = escape(cost.model), f"{read} + {written} tokens", words.dollars(cost.cost_micro)
    return f'<small title="{spelt}"><span class="db-spent">{" · ".join(spent)} · </span>{moment}</small>{_MORE}'
