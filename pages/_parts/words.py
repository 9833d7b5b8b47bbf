"""Terms that are used in several places on screen; numbers, amounts and dates in the browser's locale and time zone.

Sentences are always in English.
"""

from collections.abc import Callable
from copy import copy
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st
from babel import Locale, UnknownLocaleError
from babel.dates import format_skeleton, format_time, get_datetime_format
from babel.numbers import NumberPattern, format_decimal, get_currency_symbol

from services.domain import Full, MemoryPolicy, Retrieval, Summary, Window
from services.domain.accounts import Limit, SignUps
from services.domain.model_failures import FailureDetails, ModelFailure
from services.errors import AppError, Cap, OverBudget

# words on buttons and in menus
ALL_CHATS = "All chats"
ADD, CANCEL, DISMISS, SAVE = "Add", "Cancel", "Dismiss", "Save"
ARCHIVE, UNARCHIVE, DELETE = "Archive", "Unarchive", "Delete"
EDIT, MOVE, REMOVE, RENAME, UNDO = "Edit", "Move to space", "Remove", "Rename", "Undo"
CLEAR_CONTEXT, RESTORE_CONTEXT = "Clear context", "Restore context"
CONNECT = "Connect a better model"
DELETE_MESSAGES, KEEP_BRANCH = "Delete messages", "Keep only this branch"
CONFIRM, CONFIRM_IDENTITY = "Confirm", "Confirm that it is you"
MORE, SHOW_MORE = "More", "Show more"
REGENERATE, REGENERATE_WITH = "Regenerate", "Regenerate with…"
VIEW_SUMMARY = "View summary"
# names of pages and dialogs, and texts in them
CHAT_NOTES, SPACE_NOTES = "Chat notes", "Space notes"
CONTEXT_USED, NEXT_REQUEST = "Context used for this reply", "Next request"
INSTRUCTIONS, CUSTOM_INSTRUCTIONS = "Instructions", "Custom instructions"
NO_INSTRUCTIONS = "No instructions"
CONTEXT, MEMORY = "Context", "Memory"
BACK_TO_SIGN_IN = "Back to sign in"
PASSKEY, USE_PASSKEY, ADD_PASSKEY = "Passkey", "Use your passkey", "Add a passkey"
RESET_PASSWORD, RESET_YOURS = "Reset password", "Reset your password"
ABOUT, PREFERENCES, SIGN_IN, SIGN_OUT = "About", "Preferences", "Sign in", "Sign out"
SUMMARY, USAGE, ADMIN, USERS, SETTINGS = "Summary", "Usage", "Admin", "Users", "Settings"
ACCOUNT, PASSWORD, NEW_PASSWORD, SEND_CODE = "Account", "Password", "New password", "Send code"
TWO_STEP, DEVICES = "Two-step verification", "Devices"
EMAIL, EXPORT, YOU = "Email", "Export", "You"
YOUR_DATA, DELETE_CHATS = "Your data", "Delete chats"
NEW_CHAT, NEW_SPACE, EDIT_SPACE = "New chat", "New space", "Edit space"
TEMPORARY_CHAT = "Temporary chat"
UNTITLED = "Untitled"
SEARCH_CHATS, SEARCH_MESSAGES = "Search chats", "Search in messages"
# a sentence, and the labels of numbers and input fields
CHANGED_ELSEWHERE = "This changed in another tab. Press again to replace the current version:"
INPUT_TOKENS, OUTPUT_TOKENS, MODEL, TODAY = "Input tokens", "Output tokens", "Model", "Today"
COST, MESSAGES, COST_TODAY, USER = "Cost", "Messages", "Cost today", "User"
COST_THIS_MONTH, MESSAGES_THIS_MONTH = "Cost this month", "Messages this month"
DAILY_LIMIT, MONTHLY_LIMIT, LAST_MESSAGE = "Daily limit", "Monthly limit", "Last message"
SHARED_LIMIT = "Shared monthly limit"
DEFAULT_CONTEXT, RECENT_MESSAGES = "Default context for new chats", "Number of recent messages"


NEWER = "Saved by a newer version of Daybook"


class PolicyText(NamedTuple):
    name: str
    caption: str  # says which messages are sent; without a full stop


POLICIES = {
    Full.name: PolicyText("Everything", "Sends the whole chat; tells you when it is full"),
    Window.name: PolicyText("Recent only", "Sends the last {least} to {most} messages"),
    Summary.name: PolicyText("Auto-summary", "Recent messages plus a summary of older ones"),
    Retrieval.name: PolicyText(
        "Smart recall", "Recent messages plus older ones related to your question"
    ),
}
_UNKNOWN_POLICY = PolicyText("Unknown setting", NEWER)

MODEL_FAILURES = {
    ModelFailure.UNREACHABLE: "no connection",
    ModelFailure.BUSY: "rate limit",
    ModelFailure.BROKEN: "provider error",
    ModelFailure.UNAUTHORIZED: "API key rejected",
    ModelFailure.REJECTED: "request rejected",
    ModelFailure.NO_CREDIT: "no credit left",
    ModelFailure.BUDGET: "gateway budget used up",
    ModelFailure.NO_MODEL: "unknown model",
    ModelFailure.PROMPT_FILTERED: "content filter (prompt)",
    ModelFailure.TOO_LONG: "chat too long",
    ModelFailure.REPLY_LIMIT: "reply limit too high",
    ModelFailure.NO_STREAM: "no streaming",
    ModelFailure.NO_SYSTEM: "no system role",
    ModelFailure.PARAMETER: "unknown parameter",
    ModelFailure.SILENT: "no answer in time",
    ModelFailure.DROPPED: "connection lost",
    ModelFailure.FILTERED: "content filter",
    ModelFailure.GARBLED: "unreadable response",
    ModelFailure.NO_ANSWER: "only thoughts, no reply",
    ModelFailure.EMPTY: "empty reply",
}
SIGN_UP_MODES = {
    SignUps.OPEN: "Open",
    SignUps.INVITED: "By invitation",
    SignUps.CLOSED: "Closed",
}
LIMIT_NAMES = {  # labels, keyed by the names of the fields of Limits
    "daily_cap_micro": DAILY_LIMIT,
    "monthly_cap_micro": MONTHLY_LIMIT,
    "daily_cap_tokens": "Tokens per day",
    "max_per_minute": "Messages per minute",
    "max_open": "Simultaneous replies",
}
LIMITS = {
    Cap.DAILY: DAILY_LIMIT,
    Cap.MONTHLY: MONTHLY_LIMIT,
    Cap.DAILY_TOKENS: "Daily token limit",
    Cap.DEPLOYMENT: SHARED_LIMIT,
}

MILLION = 1_000_000
_CENT = 10_000  # micro-dollars
_LEAST = 100  # micro-dollars; four decimals cannot show a smaller amount
_UNKNOWN = Locale("en", "GB")
_USD = "USD"


def policy_name(policy: MemoryPolicy) -> str:
    return POLICIES.get(policy.name, _UNKNOWN_POLICY).name


def policy_caption(policy: MemoryPolicy) -> str:
    caption = POLICIES.get(policy.name, _UNKNOWN_POLICY).caption
    least, most = policy.messages or 0, policy.most_messages or 0
    return caption.format(least=number(least), most=number(most))


def policy_line(policy: MemoryPolicy) -> str:
    """Return the name and the caption of *policy*."""
    caption = policy_caption(policy)
    return f"{policy_name(policy)}: {caption[0].lower()}{caption[1:]}"


def switch_to(policy: MemoryPolicy) -> str:
    """Return the label of a button that chooses *policy*."""
    return f"Switch to {policy_name(policy)}"


def number(value: int) -> str:
    """Format a number for the browser's locale: `1,200`, `1.200`, `1 200`."""
    return format_decimal(value, locale=_locale())


def dollars(micro: int) -> str:
    """Format an amount in micro-dollars as dollars: with two decimals, or with four if it is less than a dollar."""
    if 0 < micro < _LEAST:
        return f"under {dollars(_LEAST)}"
    digits = 2 if micro >= MILLION or micro == 0 else 4
    return _amount(micro, digits, digits)


def cents(micro: int) -> str:
    """Format an amount in micro-dollars as dollars with two decimals."""
    return f"under {_amount(_CENT, 2, 2)}" if 0 < micro < _CENT else _amount(micro, 2, 2)


def dollars_of(amount: float) -> str:
    """Format an amount in dollars, as `dollars` does. For table columns."""
    return dollars(round(amount * MILLION))


def price(micro: int) -> str:
    """Format a price or a limit in micro-dollars as dollars with two to four decimals, without needless zeros."""
    return f"under {price(_LEAST)}" if 0 < micro < _LEAST else _amount(micro, 2, 4)


def duration(seconds: int) -> str:
    """Format a duration: `12 s`, `2 min 5 s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def milliseconds(ms: int | None) -> str:
    """Format milliseconds with a suitable unit: `80 ms`, `1.2 s`, `none`."""
    if ms is None:
        return "none"
    return f"{ms} ms" if ms < 1000 else f"{format_decimal(round(ms / 1000, 1), locale=_locale())} s"


def seconds(ms: int | None) -> str:
    """Format milliseconds as seconds, for tables: `0.18 s`, `1.24 s`, `none`."""
    if ms is None:
        return "none"
    return f"{format_decimal(Decimal(ms) / 1000, '#,##0.00', locale=_locale())} s"


def size(size_bytes: int) -> str:
    """Format a size in powers of 1,000: `12 kB`, `3.4 MB`."""
    unit, name = next(
        (unit, name)
        for unit, name in ((10**9, "GB"), (10**6, "MB"), (1000, "kB"), (1, "bytes"))
        if size_bytes >= unit or unit == 1
    )
    return f"{format_decimal(round(size_bytes / unit, 1), locale=_locale())} {name}"


def count(value: int, noun: str) -> str:
    """Return a number with its noun: `1 message`, `2 messages`, `2 memories`."""
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number(value)} {noun if value == 1 else plural}"


def day(moment: datetime, now: datetime) -> str:
    """Return the heading for *moment* in a list that is grouped by day, in the browser's time zone."""
    zone = _zone()
    days = (now.astimezone(zone).date() - moment.astimezone(zone).date()).days
    if days <= 0:
        return TODAY
    if days == 1:
        return "Yesterday"
    return "Previous 7 days" if days <= 7 else "Older"


def added(at: datetime) -> str:
    """Return a phrase that says when a sign-in method was added."""
    return f"Added {moment(at, has_date=True)}"


def moment(at: datetime, now: datetime | None = None, *, has_date: bool = False) -> str:
    """Format the time in the browser's time zone. The date is added unless it is today; *has_date*: the date is always added."""
    zone, locale = _zone(), _locale()
    here, today = at.astimezone(zone), (now or datetime.now(zone)).astimezone(zone)
    time = format_time(here, "short", tzinfo=zone, locale=locale)
    if here.date() == today.date() and not has_date:
        return time
    skeleton = "MMMd" if here.year == today.year else "yMMMd"
    date = format_skeleton(skeleton, here, tzinfo=zone, locale=locale)
    both = cast(Callable[..., str], get_datetime_format)("medium", locale=locale)
    return both.replace("{1}", date).replace("{0}", time).replace("'", "")


def last_used(at: datetime | None) -> str:
    """Return a phrase that says when a sign-in method was last used."""
    return f"Last used {moment(at, has_date=True)}" if at else "Not used yet"


def date_of(at: date) -> str:
    """Format a date: `Nov 23`, with the year unless it is this year."""
    skeleton = "MMMd" if at.year == datetime.now(UTC).year else "yMMMd"
    return format_skeleton(skeleton, at, locale=_locale())


def date_field() -> str:
    """Return the format for a date field: the one of Streamlit's three formats that is most like the locale's format."""
    order = _locale().date_formats["short"].pattern.lower()
    if order.startswith("m"):
        return "MM/DD/YYYY"
    return "YYYY/MM/DD" if order.startswith("y") else "DD/MM/YYYY"


def span(first: date, last: date) -> str:
    """Return *first* and *last* as text, or only one date if they are equal."""
    dash = " \N{EN DASH} "
    return dash.join(dict.fromkeys((date_of(first), date_of(last))))


def in_markdown(date: str) -> str:
    """Escape a formatted date at the beginning of a Markdown text, where "19. Nov." would begin a list."""
    return date.replace(".", r"\.")


def sentence(error: AppError, now: datetime | None = None) -> str:
    """Return the sentence of *error* in Markdown; for OverBudget, the sentence includes the amounts and the time of the reset."""
    when = resets(error.cap, now) if isinstance(error, OverBudget) else ""
    if not isinstance(error, OverBudget) or not when:
        return error.public
    if not error.needed:
        return f"{error.public} {when}."
    is_tokens = error.cap is Cap.DAILY_TOKENS
    needed = number(error.needed) if is_tokens else _cents(error.needed, ROUND_CEILING)
    left = _left(error.cap, error.left)
    reason = error.public.removesuffix(".")
    return f"{reason}: {left} left, a short reply may need up to {needed}. {when}."


def failure_details(details: FailureDetails) -> str:
    """Return what the provider said of a failure, as plain text of up to four lines."""
    lines = {
        "Status": str(details.status or ""),
        "Type": details.kind,
        "Code": details.code,
        "The provider says": details.sentence,
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value)


def resets(cap: Cap, now: datetime | None = None) -> str:
    """Return a phrase such as `Resets at 02:00, your time`; an empty string for rate limits, which do not reset."""
    when = reset_time(cap, now)
    return f"Resets {when}, your time" if when else ""


def reset_time(cap: Cap, now: datetime | None = None) -> str:
    """Return the time of a reset, such as `at 02:00` or `on 1 Dec at 02:00`, in the browser's time zone; "" for rate limits."""
    resets_at = cap.resets_at(now or datetime.now(UTC))
    if resets_at is None:
        return ""
    zone, locale = _zone(), _locale()
    here = resets_at.astimezone(zone)
    when = f"at {format_time(here, 'short', tzinfo=zone, locale=locale)}"
    if cap not in (Cap.DAILY, Cap.DAILY_TOKENS):
        when = f"on {format_skeleton('MMMd', here, tzinfo=zone, locale=locale)} {when}"
    return when


def used_of(limit: Limit) -> str:
    """Return the used part of *limit* as Markdown: as `plain_used_of`."""
    return plain_used_of(limit).replace("$", r"\$")


def plain_used_of(limit: Limit) -> str:
    """Return the used part of *limit*: `$0.0154 of $1.00`, `1,200 of 50,000`, or `95 %` for the limit of all users."""
    if limit.cap is Cap.DEPLOYMENT:
        return f"{limit.share:.0%}".replace("%", " %")
    form = number if limit.cap is Cap.DAILY_TOKENS else price
    return f"{form(limit.used)} of {form(limit.most)}"


def left_of(limit: Limit) -> str:
    """Return the unused part of *limit* as Markdown: `$0.02` or `1,200 tokens`."""
    unit = " tokens" if limit.cap is Cap.DAILY_TOKENS else ""
    return f"{_left(limit.cap, limit.left)}{unit}"


def _left(cap: Cap, amount: int) -> str:
    return number(amount) if cap is Cap.DAILY_TOKENS else _cents(amount, ROUND_FLOOR)


def _cents(micro: int, rounding: str) -> str:
    """Format an amount in whole cents or, if it is less than a cent, with four decimals. The dollar sign is escaped,
    because Streamlit's Markdown uses dollar signs for formulas.
    """
    unit = _CENT if micro >= _CENT else _LEAST
    rounded = int((Decimal(micro) / unit).to_integral_value(rounding)) * unit
    return _amount(rounded, 2, 4).replace("$", r"\$")


def _amount(micro: int, least: int, most: int) -> str:
    """Format micro-dollars as dollars with *least* to *most* decimals."""
    locale = _locale()
    pattern = copy(cast(NumberPattern, locale.currency_formats["standard"]))
    pattern.frac_prec = least, most
    text = pattern.apply(Decimal(micro) / MILLION, locale, currency=_USD, currency_digits=False)
    # the currency symbol differs by locale (such as US$); the text contains no other dollar signs
    return text.replace(get_currency_symbol(_USD, locale), "$")


def _locale() -> Locale:
    return _parsed(st.context.locale or "")


@lru_cache(256)
def _parsed(tag: str) -> Locale:
    """Return the locale that *tag* names, or the nearest known locale: the browser may send any text."""
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
