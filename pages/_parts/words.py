"""Terms that stand on screen in more than one place, and figures and moments by the browser's locale and time zone.

Sentences are English; what is counted, paid and dated in them is the reader's own.
"""

from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import assert_never, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st
from babel import Locale, UnknownLocaleError
from babel.dates import format_skeleton, format_time, get_datetime_format
from babel.numbers import NumberPattern, format_decimal, get_currency_symbol

from services.domain import Full, MemoryPolicy, Retrieval, Summary, Window
from services.errors import AppError, Cap, OverBudget

# buttons and menus
ADD, CANCEL, DISMISS, SAVE = "Add", "Cancel", "Dismiss", "Save"
ARCHIVE, UNARCHIVE, DELETE, EDIT, MOVE, UNDO = (
    "Archive",
    "Unarchive",
    "Delete",
    "Edit",
    "Move to space",
    "Undo",
)
CLEAR_CONTEXT, RESTORE_CONTEXT = "Clear context", "Restore context"
CONNECT = "Connect a better model"
DELETE_MESSAGES, KEEP_BRANCH = "Delete messages", "Keep only this branch"
MORE, SHOW_MORE = "More", "Show more"
REGENERATE, REGENERATE_WITH = "Regenerate", "Regenerate with…"
VIEW_SUMMARY = "View summary"
# pages, dialogs and what is in them
CHAT_NOTES, SPACE_NOTES = "Chat notes", "Space notes"
CONTEXT_USED, NEXT_REQUEST = "Context used for this reply", "Next request"
INSTRUCTIONS, CUSTOM_INSTRUCTIONS, NO_INSTRUCTIONS = (
    "Instructions",
    "Custom instructions",
    "No instructions",
)
MEMORY, PREFERENCES, SIGN_IN, SUMMARY, USERS = (
    "Memory",
    "Preferences",
    "Sign in",
    "Summary",
    "Users",
)
NEW_CHAT, NEW_SPACE, EDIT_SPACE = "New chat", "New space", "Edit space"
TEMPORARY_CHAT = "Temporary chat"
UNTITLED = "Untitled"
# sentences and fields
CHANGED_ELSEWHERE = "This changed in another tab. Press again to replace the current version:"
DEFAULT_MEMORY, RECENT_MESSAGES = "Default memory for new chats", "Number of recent messages"
# memory policies
POLICY_NAMES = {
    "full": "Everything",
    "window": "Recent only",
    "summary": "Auto-summary",
    "retrieval": "Smart recall",
}

_MILLION = 1_000_000
_LEAST = 100  # micro-dollars that four digits can say
_UNKNOWN = Locale("en", "GB")
_USD = "USD"


def policy_name(policy: MemoryPolicy) -> str:
    """Return the name of *policy*."""
    return POLICY_NAMES[policy.name]


def policy_caption(policy: MemoryPolicy) -> str:
    """Return what *policy* sends to the model, in one sentence without a full stop."""
    match policy:
        case Full():
            return "Sends the whole chat; tells you when it is full"
        case Window(messages):
            return f"Sends the last {number(messages)} messages"
        case Summary():
            return "Recent messages plus a summary of older ones"
        case Retrieval():
            return "Recent messages plus older ones related to your question"
        case _:
            assert_never(policy)


def policy_line(policy: MemoryPolicy) -> str:
    """Return the name of *policy* with its caption."""
    caption = policy_caption(policy)
    return f"{policy_name(policy)}: {caption[0].lower()}{caption[1:]}"


def switch_to(policy: MemoryPolicy) -> str:
    """Return the label of a button that chooses *policy*."""
    return f"Switch to {policy_name(policy)}"


def number(value: int) -> str:
    """`1,200`, `1.200`, `1 200`."""
    return format_decimal(value, locale=_locale())


def dollars(micro: int) -> str:
    """An amount in micro-dollars, exact where it is small."""
    if 0 < micro < _LEAST:
        return f"under {dollars(_LEAST)}"
    digits = 2 if micro >= _MILLION or micro == 0 else 4
    return _amount(micro, digits, digits)


def price(micro: int) -> str:
    """What something costs in micro-dollars, without the zeros that say nothing."""
    return _amount(micro, 2, 4)


def duration(seconds: int) -> str:
    """`12 s`, `2 min 5 s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(value: int, noun: str) -> str:
    """`1 message`, `2 messages`, `2 memories`."""
    if value == 1:
        return f"{number(value)} {noun}"
    return (
        f"{number(value)} {noun.removesuffix('y')}ies"
        if noun.endswith("y")
        else f"{number(value)} {noun}s"
    )


def day(moment: datetime, now: datetime) -> str:
    """Under which heading *moment* belongs, in the reader's time zone."""
    zone = _zone()
    days = (now.astimezone(zone).date() - moment.astimezone(zone).date()).days
    if days <= 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    return "Previous 7 days" if days <= 7 else "Older"


def moment(at: datetime, now: datetime | None = None) -> str:
    """The time, and before today the date, in the reader's time zone."""
    zone, locale = _zone(), _locale()
    here, today = at.astimezone(zone), (now or datetime.now(zone)).astimezone(zone)
    time = format_time(here, "short", tzinfo=zone, locale=locale)
    if here.date() >= today.date():
        return time
    skeleton = "MMMd" if here.year == today.year else "yMMMd"
    date = format_skeleton(skeleton, here, tzinfo=zone, locale=locale)
    both = cast(Callable[..., str], get_datetime_format)("medium", locale=locale)
    return both.replace("{1}", date).replace("{0}", time).replace("'", "")


def sentence(error: AppError, now: datetime | None = None) -> str:
    """The sentence of *error* in Markdown, with figures and the time of reset where it is about the budget."""
    resets_at = error.resets_at(now or datetime.now(UTC)) if isinstance(error, OverBudget) else None
    if not isinstance(error, OverBudget) or resets_at is None or not error.needed_micro:
        return error.public
    zone, locale = _zone(), _locale()
    here = resets_at.astimezone(zone)
    when = f"at {format_time(here, 'short', tzinfo=zone, locale=locale)}"
    if error.cap is not Cap.DAILY:
        when = f"on {format_skeleton('MMMd', here, tzinfo=zone, locale=locale)} {when}"
    return (
        f"{error.public.removesuffix('.')}: a short reply could cost {_figure(error.needed_micro)}, "
        f"{_figure(error.left_micro)} is left. Resets {when} (your time)."
    )


def _figure(micro: int) -> str:
    """A short amount; two unescaped dollar signs would be a formula."""
    return (price(micro) if micro >= _LEAST else dollars(micro)).replace("$", r"\$")


def _amount(micro: int, least: int, most: int) -> str:
    """Dollars with so many digits behind the point."""
    locale = _locale()
    pattern = copy(cast(NumberPattern, locale.currency_formats["standard"]))
    pattern.frac_prec = least, most
    text = pattern.apply(Decimal(micro) / _MILLION, locale, currency=_USD, currency_digits=False)
    return text.replace(get_currency_symbol(_USD, locale), "$")  # there are no others here


def _locale() -> Locale:
    return _parsed(st.context.locale or "")


@lru_cache(256)
def _parsed(tag: str) -> Locale:
    """The locale that *tag* names, or the nearest that is known: a browser may send anything."""
    parts = tag.split("-u-")[0].replace("_", "-").split("-")
    while parts[0]:
        try:
            return Locale.parse("-".join(parts), sep="-")
        except (ValueError, UnknownLocaleError):
            parts = parts[:-1] or [""]
    return _UNKNOWN


def _zone() -> ZoneInfo:
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
