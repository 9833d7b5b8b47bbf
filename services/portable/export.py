"""A conversation as JSON, to be brought back, and as Markdown, to be read.

The same thread gives the same JSON, whenever and wherever it is exported.
"""

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

_SPEAKERS = {Role.SYSTEM: "Instructions", Role.USER: "You", Role.ASSISTANT: "Assistant"}
_ENDINGS = {
    Outcome.CUT: "cut off at the length limit",
    Outcome.STOPPED: "stopped",
    Outcome.FAILED: "incomplete",
    Outcome.INTERRUPTED: "interrupted",
    Outcome.EDITED: "edited",
}

# whatever could end, hide or forge a part of the page that holds it, outside of whole code blocks
_CODE_BLOCK = re.compile(r"^(```|~~~)[^`~\n]*\n(?:(?![ \t]*(?:```|~~~)).*\n)*\1 *$", re.MULTILINE)
_MORE_THAN_PROSE = re.compile(
    r"""
      ^(?:[ \t>]|[*+-][ \t]|\d+[.)][ \t])*(?:\#|```|~~~|\[[^\]]*\]:)  # headings, fences, definitions
    | ^[ \t]*[=-]+[ \t]*$                                             # what makes the line above a heading
    | <                                                               # HTML
    | \$\$ | %% | :::                                                 # formulas, comments, containers
    | !\[                                                             # images, which load from elsewhere
    | [\r\v\f\x1c-\x1e\x85\u2028\u2029]                               # other ends of lines
    """,
    re.MULTILINE | re.VERBOSE,
)
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$!&%:=])")


def to_json(thread: Thread, thoughts: Mapping[MessageId, Thoughts]) -> str:
    """All of *thread*, every branch of it, with whatever an import needs to make it again."""
    conversation = thread.conversation
    document = {
        "format": FORMAT,
        "version": VERSION,
        "conversation": {
            "id": str(conversation.id),
            "title": conversation.title,
            "model": conversation.model,
            "instructions": thread.instructions,
            "instructions_verified": thread.are_instructions_verified,
            "policy": {"name": conversation.policy.name} | asdict(conversation.policy),
            "reset_seq": conversation.reset_seq,
            "start_seq": conversation.start_seq,
            "pinned_at": _moment(conversation.pinned_at) if conversation.pinned_at else None,
            "created_at": _moment(conversation.created_at),
            "updated_at": _moment(conversation.updated_at),
            "whole": thread.is_whole,
        },
        "messages": [
            {
                "id": str(message.id),
                "seq": message.seq,
                "parent_id": str(message.parent_id) if message.parent_id else None,
                "turn_id": str(message.turn_id) if message.turn_id else None,
                "role": message.role.value,
                "outcome": message.outcome.value,
                "created_at": _moment(message.created_at),
                "verified": message.is_verified,
                "body": message.body,
                "thoughts": _thoughts(thoughts[message.id]) if message.id in thoughts else None,
            }
            for message in thread.messages
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def to_markdown(
    thread: Thread,
    costs: Mapping[TurnId, TurnCost],
    thoughts: Mapping[MessageId, Thoughts],
    zone: tzinfo,
) -> str:
    """The branch of *thread* that the reader sees, with moments in *zone*, and the model, cost and thoughts of each
    reply.

    The headings of the page are ours, one a message, whatever the messages say: those of a reply are two levels
    down, and what could end, hide or forge a part of the page stands in a code block with a fence longer than any
    in it.
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


def _thoughts(thoughts: Thoughts) -> dict[str, str | int | bool]:
    return {
        "text": thoughts.text,
        "seconds": thoughts.seconds,
        "shortened": thoughts.is_shortened,
        "verified": thoughts.is_verified,
    }


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
    said = ", ".join(filter(None, notes))
    return f"## {' · '.join(parts)}" + (f" ({said})" if said else "")


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


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
