"""Sentences about a chat's earlier messages: which are sent, which are not and why, and which button helps."""

import re
from dataclasses import dataclass
from itertools import pairwise

from pages._parts import words
from services.domain import MemoryPolicy, Role, Summary, Thread
from services.domain.context import ContextPlan

SUMMARIZE = "Summarize now"
_TOO_LONG = "because the last exchange alone does not fit the model's context"

_SAVED = re.compile(r" (Your message|The partial reply) is saved[^.]*\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """Numbers of a chat's earlier messages: sent in full, sent as a summary, or not sent with the next request."""

    recent: int = 0  # messages that are sent in full
    summarised: int = 0
    cleared: int = 0  # messages before the start of the context
    missing: int = 0  # messages that are not sent in any form
    unanswered: int = 0  # prompts without a reply, which no request includes
    # True: a message after the first of the `recent` ones is summarised, cleared or missing
    has_gap: bool = False

    @property
    def is_last_too_long(self) -> bool:
        """True if nothing is sent in full, and only the last prompt and reply, which are never summarized, are missing."""
        return self.recent == 0 and 0 < self.missing <= 2

    @property
    def unsent(self) -> int:
        return self.cleared + self.missing + self.unanswered

    @property
    def total(self) -> int:
        return self.recent + self.summarised + self.unsent


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryState:
    """The state of a chat's summary."""

    problem: str | None = None  # a sentence that says why the last summary failed
    is_verified: bool = True
    is_coming: bool = False


def count_earlier(thread: Thread, plan: ContextPlan) -> Earlier:
    """Count the earlier messages of the branch on screen, without the last prompt if its reply may still arrive."""
    branch = thread.branch()
    end = 2 if branch and branch[-1].is_thoughts_only else 1
    if branch[-end:] and branch[-end].role is Role.USER:
        branch = branch[:-end]
    answered = {
        half.id
        for prompt, reply in pairwise(branch)
        if (prompt.role, reply.role) == (Role.USER, Role.ASSISTANT) and not reply.is_thoughts_only
        for half in (prompt, reply)
    }
    recent = {*plan.verbatim_ids, *plan.earlier_recall_ids}
    forms = [
        "recent"
        if message.id in recent
        else "summarised"
        if message.id in plan.summarised_ids
        else "cleared"
        if message.seq <= thread.conversation.reset_seq
        else "missing"
        if message.id in answered
        else "unanswered"
        for message in branch
    ]
    after = set(forms[forms.index("recent") :]) if "recent" in forms else set[str]()
    counts = {form: forms.count(form) for form in set(forms)}
    return Earlier(**counts, has_gap=not after <= {"recent", "unanswered"})


def sent(earlier: Earlier) -> str:
    """Return the sentence about the messages that are sent in full."""
    if not earlier.recent:
        return "No earlier message is sent in full."
    if earlier.recent == earlier.total:
        return "All earlier messages are sent."
    verb = "message is" if earlier.recent == 1 else "messages are"
    if earlier.has_gap:
        return f"{words.number(earlier.recent)} earlier {verb} sent."
    return f"The last {words.number(earlier.recent)} {verb} sent."


def not_sent(policy: MemoryPolicy, earlier: Earlier, summary: SummaryState) -> tuple[str, ...]:
    """Return the sentences about messages that are summarized or not sent: how many, why, and which button helps."""
    said: list[str] = []
    if policy.kind.needs_summary:
        said += _summary(policy, earlier, summary)
    elif earlier.missing:
        said += _unsent(policy, earlier)
    if earlier.cleared:
        said += [
            f"{_bold(earlier.cleared)} not sent because you cleared the context.",
            f"Press “{words.RESTORE_CONTEXT}” to use {_them(earlier.cleared)} again.",
        ]
    if said and earlier.unanswered:
        unanswered = words.count(earlier.unanswered, "message")
        verb = "is" if earlier.unanswered == 1 else "are"
        said.append(f"{unanswered} without a reply {verb} not sent.")
    return tuple(said)


def chip(policy: MemoryPolicy, earlier: Earlier) -> str | None:
    """Return the label of the panel about unsent messages; None if all except unanswered prompts are sent in full."""
    lost = earlier.cleared + earlier.missing
    if policy.kind.needs_search and earlier.missing and not earlier.cleared:
        return f"{words.count(earlier.missing, 'earlier message')} sent if related"
    if earlier.summarised and lost:
        return f"{words.number(earlier.summarised)} summarized, {words.number(lost)} not sent"
    if earlier.summarised:
        return f"{words.count(earlier.summarised, 'earlier message')} summarized"
    return f"{words.count(lost, 'earlier message')} not sent" if lost else None


def of_summary(reason: str) -> str:
    """Return *reason* (why a summary failed) without the sentence about a saved message, which applies only to replies."""
    return _SAVED.sub("", reason)


def can_summarise(policy: MemoryPolicy, earlier: Earlier, summary: SummaryState) -> bool:
    """Return True if the button `SUMMARIZE` is useful: some messages await a summary, or the last summary failed."""
    is_awaited = earlier.missing > 0 and not earlier.is_last_too_long
    is_due = is_awaited or summary.problem is not None
    return policy.kind.needs_summary and is_due and not summary.is_coming


def _unsent(policy: MemoryPolicy, earlier: Earlier) -> list[str]:
    count = _bold(earlier.missing)
    if policy.kind.needs_search:
        return [f"{count} sent only if related to your question."]
    if policy.messages and earlier.recent >= policy.messages:
        caption = words.policy_caption(policy).removesuffix(" messages")
        why = f"because “{words.policy_name(policy)}” {caption[0].lower()}{caption[1:]}"
    elif not earlier.recent:
        why = _TOO_LONG
    else:
        why = "because the context was full and was cut to two thirds"
    return [
        f"{count} not sent {why}.",
        f"To send a summary of {_them(earlier.missing)}, choose “{words.policy_name(Summary())}”.",
    ]


def _summary(policy: MemoryPolicy, earlier: Earlier, summary: SummaryState) -> list[str]:
    said: list[str] = []
    both, them = earlier.summarised + earlier.missing, _them(earlier.missing)
    if earlier.summarised and earlier.missing and summary.problem:
        summarised, missing = words.number(earlier.summarised), words.number(earlier.missing)
        said.append(
            f"**{summarised} of these {words.number(both)} messages** are sent as a summary; "
            f"{missing} could not be summarized."
        )
    else:
        if earlier.summarised:
            said.append(f"{_bold(earlier.summarised)} sent as a summary.")
        if earlier.missing and summary.is_coming:
            said.append(f"{_bold(earlier.missing)} being summarized.")
        elif earlier.is_last_too_long and not summary.problem:
            said.append(f"{_bold(earlier.missing)} not sent {_TOO_LONG}.")
        elif earlier.missing:
            they = "it" if earlier.missing == 1 else "they"
            are = "could not be" if summary.problem else f"{_is(earlier.missing)} not yet"
            said.append(f"{_bold(earlier.missing)} not sent, because {they} {are} summarized.")
    if summary.problem and not summary.is_coming:
        said.append(f"The last summary failed. {summary.problem}")
    elif not summary.is_verified:
        said.append("The summary failed its integrity check and is not used.")
    if can_summarise(policy, earlier, summary):
        of = f" to send a summary of {them}" if earlier.missing else " to try again"
        said.append(f"Press “{SUMMARIZE}”{of}.")
    return said


def _count(count: int) -> str:
    return f"**{words.count(count, 'earlier message')}**"


def _bold(count: int) -> str:
    return f"{_count(count)} {_is(count)}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
