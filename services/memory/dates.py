"""Dates in a question: "8 May 2023", "the last two weeks of August 2023", "3 to 9 June"."""

import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import date

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_NUMBERS = (
    r"\d{1,2}(?:st|nd|rd|th)?(?:\s*(?:-|\u2013|to|and|until)\s*\d{1,2}(?:st|nd|rd|th)?)?(?!\d)"
)
_NAMED = re.compile(
    r"(?:\b(?P<side>first|last)\s+(?:(?P<count>\w+)\s+)?(?P<unit>day|week)s?\s+(?:of|in)\s+"
    r"|\b(?P<third>early|mid|late|beginning|middle|end)[\s-]+(?:(?:of|in)\s+)?"
    rf"|\b(?P<before>{_NUMBERS})\s+(?:of\s+)?)?"
    rf"\b(?P<month>{'|'.join(MONTHS)}|(?:{'|'.join(name[:3] for name in MONTHS)})(?=\.?\s\d))\b\.?"
    rf"(?:\s+(?:the\s+)?(?P<after>{_NUMBERS}))?(?:,?\s+(?:of\s+)?(?P<year>(?:19|20)\d\d))?"
)
_NUMERIC = re.compile(r"\b(?:(\d{4})-(\d\d)(?:-(\d\d))?|(\d\d?)\.(\d\d?)\.(\d{4}))\b")
_COUNTS = {"one": 1, "two": 2, "three": 3, "four": 4}
_THIRDS = {"early": 1, "beginning": 1, "mid": 11, "middle": 11, "late": 21, "end": 21}


def named_days(text: str, years: range) -> Iterator[tuple[date, date]]:
    """Yield the first and last day of each date range in *text*; a date without a year applies to all *years*."""
    for match in _NAMED.finditer(text):
        month = [name[:3] for name in MONTHS].index(match["month"][:3]) + 1
        for year in [int(match["year"])] if match["year"] else years:
            length = monthrange(year, month)[1]
            yield from _days(year, month, *_in_month(match, length))
    for match in _NUMERIC.finditer(text):
        year, month, day = (
            int(part or 0)
            for part in (match[1] or match[6], match[2] or match[5], match[3] or match[4])
        )
        yield from _days(year, month, day or 1, day or 31)


def _in_month(match: re.Match[str], length: int) -> tuple[int, int]:
    if days := match["before"] or match["after"]:
        numbers = [int(number) for number in re.findall(r"\d+", days)]
        return numbers[0], numbers[-1]
    if match["third"]:
        first = _THIRDS[match["third"]]
        return first, first + 9 if first < 21 else length
    if match["side"]:
        count = match["count"] or "one"
        is_number = count.isdecimal() and len(count) < 4  # `int` refuses thousands of digits
        many = int(count) if is_number else _COUNTS.get(count, 1)
        size = min(length, many * (7 if match["unit"] == "week" else 1))
        return (1, size) if match["side"] == "first" else (length - size + 1, length)
    return 1, length


def _days(year: int, month: int, first: int, last: int) -> Iterator[tuple[date, date]]:
    if year and 1 <= month <= 12:
        last = min(last, monthrange(year, month)[1])
        if 1 <= first <= last:
            yield date(year, month, first), date(year, month, last)
