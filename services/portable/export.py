"""Conversations as JSON, for other programs, and as Markdown, for reading (docs/format.md)."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from itertools import zip_longest

from pydantic import TypeAdapter, ValidationError

from services.domain import (
    Fact,
    Message,
    MessageId,
    Outcome,
    Preferences,
    Role,
    Space,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    code_fences,
    safe_text,
    total_cost,
)
from services.domain.json_texts import read_json
from services.domain.turns import OpenTurn
from services.portable import replies

FORMAT = "daybook/1"
# these field names are part of the format and must not change
_CONVERSATION_FIELDS = (
    "id",
    "title",
    "is_titled",
    "is_archived",
    "pinned_at",
    "created_at",
    "updated_at",
    "model",
    "space_id",
    "reset_seq",
    "start_seq",
    "facts_seq",
)
_THREAD_FIELDS = ("instructions", "are_instructions_verified", "is_summary_verified", "is_whole")
_MESSAGE_FIELDS = ("id", "seq", "parent_id", "turn_id", "role", "outcome", "created_at")

_RECEIPT = TypeAdapter(dict[str, object])
_SPEAKERS = {Role.USER: "You", Role.ASSISTANT: "Assistant"}
_NEWER = "saved by a newer version"
_ENDINGS = {
    Outcome.CUT: "cut off at the length limit",
    Outcome.STOPPED: "stopped",
    Outcome.FAILED: "incomplete",
    Outcome.INTERRUPTED: "interrupted",
    Outcome.EDITED: "edited",
}

# matches complete code blocks, which are harmless: only the text outside of them is searched for `_MORE_THAN_PROSE`
_CODE_BLOCK = re.compile(r"^(```|~~~)[^`~\n]*\n(?:(?![ \t]*(?:```|~~~)).*\n)*\1 *$", re.MULTILINE)
# matches text that may end, hide or imitate a part of the exported page
_MORE_THAN_PROSE = re.compile(
    r"""
      ^(?:[ \t>]|[*+-][ \t]|\d+[.)][ \t])*(?:
          \#|```|~~~|\[(?:[^\[\]\\]|\\[\s\S])*+\]:                    # headings, fences, definitions
        | [=-]+[ \t]*$                                                # underlines of headings
      )
    | <                                                               # HTML
    | \$\$ | %% | :::                                                 # formulas, comments, containers
    | !\[                                                             # images, which load from elsewhere
    | [\r\v\f\x1c-\x1e\x85\u2028\u2029]                               # other ends of lines
    """,
    re.MULTILINE | re.VERBOSE,
)
# matches characters that are markup within a line, in CommonMark or a common extension
_MARKUP = re.compile(
    r"""
      \\(?=[!-/:-@\[-`{-~])
    | [`~$] | (?<!\s)\*|\*(?!\s) | (?<![^\W_])_|_(?![^\W_])  # code, strikethrough, formulas, emphasis
    | <(?=[A-Za-z/!?]) | &(?=\#?[0-9A-Za-z]{1,32};)         # HTML, entities
    | \[ | !(?=\[)                                         # links, footnotes, images
    | (?<!\S)\#(?=\#*$)                                    # the end of a heading
    | %(?=%) | =(?==)                                      # comments, marks
    | :(?=[A-Za-z][\w+-]{0,40}:) | \{(?=[\#.{%:])           # emoji, attributes
    """,
    re.VERBOSE,
)
_IN_PAIRS = "`~$*_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationExport:
    """A conversation to export, with the stored costs, receipts and thoughts of its turns and messages."""

    thread: Thread
    costs: Mapping[TurnId, TurnCost] = field(default_factory=dict[TurnId, TurnCost])
    receipts: Mapping[TurnId, str] = field(default_factory=dict[TurnId, str], repr=False)  # JSON
    thoughts: Mapping[MessageId, Thoughts] = field(
        default_factory=dict[MessageId, Thoughts], repr=False
    )
    space: Space | None = None
    unfinished: OpenTurn | None = None


def to_json(exported: ConversationExport) -> str:
    """Return all branches of a conversation as lossless JSON; the same values always give the same text."""
    thread = exported.thread
    conversation, open_turn = thread.conversation, exported.unfinished
    return _json(
        {
            "format": FORMAT,
            "conversation": {name: getattr(conversation, name) for name in _CONVERSATION_FIELDS}
            | {name: getattr(thread, name) for name in _THREAD_FIELDS}
            | {
                "is_title_verified": conversation.is_verified,
                "policy": conversation.policy,
                "space_name": exported.space.name if exported.space else None,
                "summary": thread.summary,
            },
            "messages": [
                {name: getattr(message, name) for name in _MESSAGE_FIELDS}
                | {
                    "is_verified": message.is_verified,
                    "body": message.body,
                    "thoughts": exported.thoughts.get(message.id),
                }
                for message in thread.messages
            ],
            "turns": [
                _turn(turn_id, exported)
                for turn_id in dict.fromkeys(one.turn_id for one in thread.messages if one.turn_id)
            ],
            "unfinished": open_turn
            and {
                "turn_id": open_turn.id,
                "prompt_id": open_turn.prompt_id,
                "begun_at": open_turn.begun_at,
                "body": open_turn.partial,
                "thoughts": open_turn.thoughts,
            },
        }
    )


def documents_to_json(name: str, documents: Preferences | Sequence[Fact | Space]) -> str:
    """Return *documents* of one kind as JSON, under the key *name*."""
    return _json({"format": FORMAT, name: documents})


def _turn(turn_id: TurnId, exported: ConversationExport) -> dict[str, object]:
    cost, receipt = exported.costs.get(turn_id), None
    # a user's edit of a file in a plain store can break a receipt, which must not end the export
    with suppress(ValidationError):
        receipt = read_json(_RECEIPT, exported.receipts.get(turn_id, ""))
    usage = cost and {
        "input_tokens": cost.tokens.prompt,
        "cached_tokens": cost.tokens.cached,
        "output_tokens": cost.tokens.reply,
        "cost_micro": cost.cost_micro,
    }
    return {
        "id": turn_id,
        "model": cost.model if cost else None,
        "usage": usage,
        "receipt": receipt,
    }


def _json(document: object) -> str:
    return json.dumps(document, default=_encoded, ensure_ascii=False, indent=2) + "\n"


def to_markdown(exported: ConversationExport, zone: tzinfo) -> str:
    """Return the visible branch as Markdown, with times in *zone*, and with the model, cost and thoughts of each reply.

    The page has exactly one heading of level 2 per message. Headings inside a reply are lowered by two levels. Text that
    could end, hide or forge a part of the page is put in a code block whose fence is longer than any fence in the
    text.
    """
    thread, thoughts = exported.thread, exported.thoughts
    title = _escape(" ".join(thread.conversation.title.split()))
    parts = [f"# {title or 'Untitled chat'}"]
    if not thread.is_whole:
        parts.append("*Messages in this chat were changed or deleted outside Daybook.*")
    branch = thread.branch()
    named = Counter(label for one in branch for label in replies.footnote_labels(one.body))
    for number, (message, after) in enumerate(zip_longest(branch, branch[1:]), 1):
        cost = total_cost(message, exported.costs)
        is_reply = message.role is Role.ASSISTANT
        missing = _missing_reply(message, after, exported.unfinished)
        parts.append(_heading(message, cost if is_reply else None, missing, zone))
        known = (thoughts[part.id] for part in message.stored if part.id in thoughts)
        parts += [_folded(each) for each in known if each.is_verified]
        if message.body:
            body = code_fences.lengthened(message.body) if is_reply else message.body
            lowered = replies.lower(body, _own_labels(message, number, named)) if is_reply else None
            parts.append(_contained(body) if lowered is None else lowered)
    return "\n\n".join(parts) + "\n"


def _own_labels(message: Message, number: int, named: Mapping[str, int]) -> dict[str, str]:
    """Return new labels, ending with *number*, for those footnotes of *message* whose labels other messages use."""

    own: dict[str, str] = {}
    for label in (each for each in replies.footnote_labels(message.body) if named[each] > 1):
        own[label] = f"{label}-{number}"
        while own[label] in named:
            own[label] += f"-{number}"
    return own


def _folded(thoughts: Thoughts) -> str:
    shortened = ", shortened" if thoughts.is_shortened else ""
    summary = f"<summary>Thought for {thoughts.seconds} s{shortened}</summary>"
    return f"<details>{summary}\n\n{_fenced(thoughts.text, 'text')}\n\n</details>"


def _missing_reply(
    message: Message, after: Message | None, unfinished: OpenTurn | None
) -> str | None:
    """Return the note for a prompt that has no reply; None for other messages."""
    has_reply = after and after.role is Role.ASSISTANT and not after.is_thoughts_only
    if message.role is not Role.USER or has_reply:
        return None
    is_open = unfinished is not None and unfinished.prompt_id == message.id
    return "reply unfinished" if is_open else "unanswered"


def _heading(message: Message, cost: TurnCost | None, missing: str | None, zone: tzinfo) -> str:
    when = message.created_at.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
    parts = [f"{_SPEAKERS.get(message.role, 'Message')}, {when}"]
    if cost:
        dollars = re.sub(r"(\.\d\d\d*?)0+$", r"\1", f"{Decimal(cost.cost_micro) / 1_000_000:.6f}")
        parts.append(_escape(f"{cost.model} · ${dollars}"))
    notes = (
        _NEWER if message.is_newer else _ENDINGS.get(message.outcome),
        missing,
        None if message.is_verified else "failed its integrity check",
    )
    note = ", ".join(filter(None, notes))
    return f"## {' · '.join(parts)}" + (f" ({note})" if note else "")


def _escape(text: str) -> str:
    """Escape *text*, a single line, so that Markdown displays it unchanged, with backslashes only where needed."""
    kept = {sign for sign in _IN_PAIRS if text.count(sign) == 1}
    if "](" not in text and "[^" not in text:
        kept.add("[")
    return _MARKUP.sub(lambda one: one[0] if one[0] in kept else f"\\{one[0]}", text)


def _contained(body: str) -> str:
    if safe_text.is_readable(body) and not _MORE_THAN_PROSE.search(_CODE_BLOCK.sub("", body)):
        return body
    return _fenced(body, "markdown")


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _encoded(value: object) -> object:
    """Convert *value* for JSON: a dataclass to its fields, an id to text, a time to text in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
