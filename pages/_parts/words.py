"""Figures and days as people read them."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

_MILLION = 1_000_000
_LEAST = 100  # micro-dollars that four digits can say


def dollars(micro: int) -> str:
    """An amount in micro-dollars, exact where it is small."""
    if 0 < micro < _LEAST:
        return f"under {dollars(_LEAST)}"
    digits = 2 if micro >= _MILLION or micro == 0 else 4
    return f"${micro / _MILLION:,.{digits}f}"


def count(number: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def day(moment: datetime, now: datetime) -> str:
    """Under which heading *moment* belongs, in the reader's time zone."""
    zone = _zone()
    days = (now.astimezone(zone).date() - moment.astimezone(zone).date()).days
    if days <= 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    return "Previous 7 days" if days <= 7 else "Older"


def moment(at: datetime) -> str:
    """The time, and before today the date, in the reader's time zone."""
    zone = _zone()
    here = at.astimezone(zone)
    days = (datetime.now(zone).date() - here.date()).days
    time = f"{here:%H:%M}"
    return time if days <= 0 else f"{here.day} {here:%b}, {time}"


def _zone() -> ZoneInfo:
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
