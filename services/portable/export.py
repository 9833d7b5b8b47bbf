"""A conversation as JSON, for an import, and as Markdown, for readers."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from services.domain import (
    Message,
    MessageId,
    Outcome,
    Role,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    total_cost,
)
from services.portable import replies

FORMAT = "daybook-conversation"
VERSION = 1
# the format: these fields keep their names
_CONVERSATION_FIELDS = ("id", "reset_seq", "start_seq", "pinned_at", "created_at", "updated_at")
_MESSAGE_FIELDS = ("id", "seq", "parent_id", "turn_id", "role", "outcome", "created_at")

_SPEAKERS = {Role.SYSTEM: "Instructions", Role.USER: "You", Role.ASSISTANT: "Assistant"}
_ENDINGS = {
    Outcome.CUT: "cut off at the length limit",
    Outcome.STOPPED: "stopped",
    Outcome.FAILED: "incomplete",
    Outcome.INTERRUPTED: "interrupted",
    Outcome.EDITED: "edited",
}

# text outside of complete code blocks that could end, hide or forge a part of the page
_CODE_BLOCK = re.compile(r"^(```|~~~)[^`~\n]*\n(?:(?![ \t]*(?:```|~~~)).*\n)*\1 *$", re.MULTILINE)
_MORE_THAN_PROSE = re.compile(
    r"""
      ^(?:[ \t>]|[*+-][ \t]|\d+[.)][ \t])*(?:\#|```|~~~|\[[^\]]*\]:)  # headings, fences, definitions
    | ^[ \t]*[=-]+[ \t]*$                                             # underlines of headings
    | <                                                               # HTML
    | \$\$ | %% | :::                                                 # formulas, comments, containers
    | !\[                                                             # images, which load from elsewhere
    | [\r\v\f\x1c-\x1e\x85\u2028\u2029]                               # other ends of lines
    """,
    re.MULTILINE | re.VERBOSE,
)
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$!&%:=])")


def to_json(thread: Thread, thoughts: Mapping[MessageId, Thoughts]) -> str:
    """All branches of *thread* in a lossless format; the same thread always gives the same text."""
    conversation = thread.conversation
    document = {
        "format": FORMAT,
        "version": VERSION,
        "conversation": {name: getattr(conversation, name) for name in _CONVERSATION_FIELDS}
        | {
            "title": conversation.title,
            "model": conversation.model,
            "policy": asdict(conversation.policy),
            "instructions": thread.instructions,
            "are_instructions_verified": thread.are_instructions_verified,
            "is_whole": thread.is_whole,
        },
        "messages": [
            {name: getattr(message, name) for name in _MESSAGE_FIELDS}
            | {
                "is_verified": message.is_verified,
                "body": message.body,
                "thoughts": asdict(thoughts[message.id]) if message.id in thoughts else None,
            }
            for message in thread.messages
        ],
    }
    return json.dumps(document, default=_encoded, ensure_ascii=False, indent=2) + "\n"


def to_markdown(
    thread: Thread,
    costs: Mapping[TurnId, TurnCost],
    thoughts: Mapping[MessageId, Thoughts],
    zone: tzinfo,
) -> str:
    """The visible branch of *thread*, with times in *zone*, and the model, cost and thoughts of each reply.

    The page has exactly one heading of level 2 for each message. Headings of a reply are lowered by two levels;
    text that could end, hide or forge a part of the page is put in a code block whose fence is longer than any
    inside.
    """
    title = _escape(" ".join(thread.conversation.title.split()))
    parts = [f"# {title or 'Untitled chat'}"]
    if not thread.is_whole:
        parts.append("*Messages in this chat were changed or deleted outside Daybook.*")
    for message in thread.branch():
        cost = total_cost(message, costs)
        is_reply = message.role is Role.ASSISTANT
        parts.append(_heading(message, cost if is_reply else None, zone))
        known = (thoughts[part.id] for part in message.stored if part.id in thoughts)
        parts += [_folded(each) for each in known if each.is_verified]
        if message.body:
            lowered = replies.lower(message.body) if is_reply else None
            parts.append(_contained(message.body) if lowered is None else lowered)
    return "\n\n".join(parts) + "\n"


def _folded(thoughts: Thoughts) -> str:
    shortened = ", shortened" if thoughts.is_shortened else ""
    summary = f"<summary>Thought for {thoughts.seconds} s{shortened}</summary>"
    return f"<details>{summary}\n\n{_fenced(thoughts.text, 'text')}\n\n</details>"


def _heading(message: Message, cost: TurnCost | None, zone: tzinfo) -> str:
    when = message.created_at.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
    parts = [f"{_SPEAKERS[message.role]}, {when}"]
    if cost:
        dollars = re.sub(r"(\.\d\d\d*?)0+$", r"\1", f"{Decimal(cost.cost_micro) / 1_000_000:.6f}")
        parts += [_escape(cost.model), _escape(f"${dollars}")]
    notes = (
        _ENDINGS.get(message.outcome),
        None if message.is_verified else "failed its integrity check",
    )
    note = ", ".join(filter(None, notes))
    return f"## {' · '.join(parts)}" + (f" ({note})" if note else "")


def _escape(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)


def _contained(body: str) -> str:
    if not _MORE_THAN_PROSE.search(_CODE_BLOCK.sub("", body)):
        return body
    return _fenced(body, "markdown")


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _encoded(value: object) -> str:
    """The text of an id, or of a moment in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value)
