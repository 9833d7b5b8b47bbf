"""Figures and days as people read them."""

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

_MILLION = 1_000_000


def dollars(micro: int) -> str:
    """An amount in micro-dollars, exact where it is small."""
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


def _zone() -> ZoneInfo:
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
