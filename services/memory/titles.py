"""Titles that the model suggests: the request, and the validation of the answer.

A conversation's first title is the first words of its prompt. Once the conversation has a reply that is complete or cut
off, the model is asked for a title, in the background and at the user's cost. The first words stay the title if the call
fails, if the user's budget cannot pay for it, or if the answer is not a title. Each process asks only once per
conversation; after a restart, the next complete reply leads to another attempt.
"""

import re
from collections.abc import Sequence

from services.domain import Message, Role, Window, safe_text
from services.domain.context import ContextBudget, ContextPlan, History
from services.domain.limits import one_line
from services.memory.planner import plan_context
from services.memory.tokens import TokenCounter

INSTRUCTIONS = (
    "You give conversations their titles. Answer with nothing but a title of at most six words, "
    "in the language of the conversation: on one line, without quotation marks, markup or full stop."
)
_LETTERS = 60  # maximum characters of a title
# maximum characters of an answer that is shortened to a title; a longer answer is not a title
_LONGEST_LINE = 80
# maximum characters of the title's line with its markup; a longer line is no title
_LONGEST_ANSWER = 400
_REPLY_TOKENS = 24
# Maximum bytes of a prompt and of its reply that are sent to the model. No tokenizer needs more than a token
# per byte, so these limits also bound the amount to reserve; ordinary text takes a few hundred tokens.
_PROMPT_BYTES, _REPLY_BYTES = 800, 400


def plan_title(
    branch: Sequence[Message], context_tokens: int, counter: TokenCounter
) -> ContextPlan | None:
    """Return the plan of a request for a title of *branch*; None if *branch* has no prompt or no reply."""
    prompt = next((said for said in branch if said.role is Role.USER and said.body), None)
    reply = next((said for said in branch if said.is_answer and said.body), None)
    if prompt is None or reply is None:
        return None
    shown = (
        f"It begins:\n{_beginning(prompt.body, _PROMPT_BYTES)}\n\n"
        f"The reply:\n{_beginning(reply.body, _REPLY_BYTES)}\n\nIts title:"
    )
    history = History(instructions=INSTRUCTIONS, past=(), prompt=shown)
    return plan_context(Window(), history, ContextBudget(context_tokens, _REPLY_TOKENS), counter)


def first_words(prompt: str) -> str:
    """Return a provisional title: the first words of *prompt*, on one line of at most 60 characters."""
    return _shortened(one_line(prompt))


def clean_title(said: str) -> str | None:
    """Return the title in the model's answer *said*, on one line of at most 60 characters; None if it has no usable title.

    If in doubt, return None: the first words are a fair title, and a chat with an odd title is hard to find again.
    """
    lines = (" ".join(line.split()) for line in said.splitlines())
    line = next((line for line in lines if line), "")
    if len(line) > _LONGEST_ANSWER:
        return None
    while (bare := _bared(line)) != line:
        line = bare
    is_title = (
        len(line) <= _LONGEST_LINE
        and any(sign.isalnum() for sign in line)
        and all(sign.isprintable() or sign in safe_text.JOINERS for sign in line)
        and not _NO_TITLE.search(line)
        and not (line[0] in _QUOTES and line[-1] in _QUOTES)
    )
    return _shortened(line) if is_title else None


# quotation marks: straight, curved, angular, and those of other scripts
_QUOTES = "\"'`\u00b4\u00ab\u00bb\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u300c\u300d\u300e\u300f"
_LABEL = re.compile(
    r"\**(?:(?:the|its) )?(?:title|titel|titre|título) ?\**[:\uff1a]\** ?", re.IGNORECASE
)
_NO_TITLE = re.compile(
    r"[*`<>{}|\\\[\]]|__|~~|://"  # markup
    # a title is not several sentences, but it may contain "Node.js" or "St. Petersburg"
    r"|\w{3}[.!?] +\w|[\u3002\uff01\uff1f]\w"
    # beginnings of a refusal, or of a comment instead of a title
    r"|^(?:i.?m (?:sorry|unable)|i am (?:sorry|unable)|sorry|i can(?:no|.)t|as an ai|sure\b|certainly\b"
    r"|of course\b|here(?:.s| is| are)\b|untitled\b|no title\b|(?:the |its )?title\b|it begins\b"
    r"|the reply\b|(?:user|person|assistant|system|prompt|reply|answer) ?:)",
    re.IGNORECASE,
)


def _bared(line: str) -> str:
    """Remove one layer of the markup that models put around a title, such as quotation marks or a label."""
    line = line.strip().lstrip("#").lstrip()
    if label := _LABEL.match(line):
        return line[label.end() :]
    for mark in ("**", "__", "*", "_", "`"):
        if len(line) > 2 * len(mark) and line.startswith(mark) and line.endswith(mark):
            return line[len(mark) : -len(mark)].strip()
    if len(line) > 2 and line[0] in _QUOTES and line[-1] in _QUOTES:
        inner = line[1:-1]
        return line if line[0] in inner or line[-1] in inner else inner.strip()
    return line.rstrip(" .\u3002")


def _shortened(line: str) -> str:
    if len(line) <= _LETTERS:
        return line
    cut = line[: _LETTERS - 1]
    return cut[: cut.rfind(" ")].rstrip(" ,;:.-") + "…" if " " in cut[20:] else cut + "…"


def _beginning(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
