"""The fields of a user's limits, in a form: of one user, of several, or of users to come."""

from dataclasses import astuple

import streamlit as st

from pages._parts import words
from pages._parts.elements import row
from services.domain.accounts import NO_CAP, LimitChanges, Limits
from services.errors import Cap

_DOLLARS, _TOKENS, _TURNS, _OPEN = 1e6, 10**12, 10**6, 1000  # at most


def draw(form: str, stored: Limits | None) -> None:
    """Draw the fields of *form*, filled with the *stored* limits; None: all are empty, which changes nothing."""
    fields = {
        "day": (f"{words.DAILY_LIMIT} ($)", _DOLLARS, stored and stored.daily_cap_micro),
        "month": (f"{words.MONTHLY_LIMIT} ($)", _DOLLARS, stored and stored.monthly_cap_micro),
        "tokens": (words.TOKENS_A_DAY, _TOKENS, stored and stored.daily_cap_tokens),
        "pace": (words.MESSAGES_A_MINUTE, _TURNS, stored and stored.max_per_minute),
        "open": (words.REPLIES_AT_ONCE, _OPEN, stored and stored.max_open),
    }
    with row(gap="small"):
        for name, (label, most, value) in fields.items():
            key = _key(form, name, stored)
            is_amount = isinstance(most, float)
            # not as its value: a field that has one cannot be emptied
            first = value / words.MILLION if is_amount and value is not None else value
            st.session_state.setdefault(key, first)
            none = type(most)(0)
            hint = "No limit" if stored else "Unchanged"
            st.number_input(label, none, most, None, placeholder=hint, key=key, width=170)
    day, month = words.resets(Cap.DAILY), words.resets(Cap.MONTHLY)
    st.caption(f"{words.DAILY_LIMIT}: {day}. {words.MONTHLY_LIMIT}: {month}.")


def entered(form: str, stored: Limits | None) -> LimitChanges:
    """The entries that differ from the *stored* limits. Emptied tokens are no limit; else an emptied field changes nothing."""

    def whole(name: str, unit: int = 1) -> int | None:
        value: float | None = st.session_state[_key(form, name, stored)]
        return None if value is None else round(value * unit)

    def changed(value: int | None, before: int | None) -> int | None:
        return None if value == before else value

    tokens, tokens_before = whole("tokens"), stored and stored.daily_cap_tokens
    is_lifted = tokens is None and tokens_before is not None
    return LimitChanges(
        daily_cap_micro=changed(whole("day", words.MILLION), stored and stored.daily_cap_micro),
        monthly_cap_micro=changed(
            whole("month", words.MILLION), stored and stored.monthly_cap_micro
        ),
        daily_cap_tokens=NO_CAP if is_lifted else changed(tokens, tokens_before),
        max_open=changed(whole("open"), stored and stored.max_open),
        max_per_minute=changed(whole("pace"), stored and stored.max_per_minute),
    )


def _key(form: str, name: str, stored: Limits | None) -> str:
    """The key of a field; another once the stored limits are others, which the field then shows."""
    return f"{form}-{name}-{stored and hash(astuple(stored)[:5])}"
