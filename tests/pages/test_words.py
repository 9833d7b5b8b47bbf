"""Numbers, amounts and times in the locale and time zone of a browser."""

import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from babel import Locale
from babel.localedata import locale_identifiers
from hypothesis import given
from hypothesis import strategies as st

from pages._parts import words
from services.errors import Cap, OverBudget

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EPOCH = NOON.replace(year=1970, tzinfo=None)
TAGS = st.sampled_from([each.replace("_", "-") for each in locale_identifiers()])


@contextmanager
def reader(locale=None, zone=None):
    with patch.object(words.st, "context", SimpleNamespace(locale=locale, timezone=zone)):
        yield


@pytest.mark.parametrize(
    ("micro", "said"),
    [
        (0, "$0.00"),
        (1, "under $0.0001"),
        (99, "under $0.0001"),
        (100, "$0.0001"),
        (12_300, "$0.0123"),
        (1_234_567_890, "$1,234.57"),
    ],
)
def test_small_amounts_have_four_decimals(micro, said):
    assert words.dollars(micro) == said


def test_price_has_no_trailing_zeros():
    prices = [words.price(micro) for micro in (250_000, 75_000, 2_500, 1_200_000_000, 99)]

    assert prices == ["$0.25", "$0.075", "$0.0025", "$1,200.00", "under $0.0001"]


@pytest.mark.parametrize(
    ("cap", "said"),
    [
        (
            Cap.DAILY,
            "Daily limit reached: $0.02 left, a short reply may need up to $0.03. "
            "Resets at 05:30, your time.",
        ),
        (
            Cap.MONTHLY,
            "Monthly limit reached: $0.02 left, a short reply may need up to $0.03. "
            "Resets on 1 Dec at 05:30, your time.",
        ),
        (
            Cap.DAILY_TOKENS,
            "Daily token limit reached: 24,100 left, a short reply may need up to 25,200. "
            "Resets at 05:30, your time.",
        ),
        (Cap.OPEN_TURNS, OverBudget(Cap.OPEN_TURNS).public),
    ],
)
def test_refusal_names_cost_rest_and_reset_in_readers_zone(cap, said):
    with reader("en-GB", "Asia/Kolkata"):
        assert words.sentence(OverBudget(cap, 25_200, 24_100), NOON) == said.replace("$", r"\$")


def test_refusal_by_the_shared_limit_has_no_amount():
    with reader("en-GB", "Asia/Kolkata"):
        said = words.sentence(OverBudget(Cap.DEPLOYMENT), NOON)

    assert said == "Shared monthly limit reached. Resets on 1 Dec at 05:30, your time."


def test_refusal_below_a_cent_shows_four_decimals():
    with reader("en-GB", "Asia/Kolkata"):
        said = words.sentence(OverBudget(Cap.DAILY, 5_401, 4_699), NOON)

    assert said.startswith(
        r"Daily limit reached: \$0.0046 left, a short reply may need up to \$0.0055."
    )


def test_moment_before_today_has_its_date():
    assert words.moment(NOON, NOON) == "12:00"
    assert words.moment(datetime(2026, 3, 9, 7, 5, tzinfo=UTC), NOON) == "9 Mar, 07:05"
    assert words.moment(datetime(2024, 3, 9, 7, 5, tzinfo=UTC), NOON) == "9 Mar 2024, 07:05"
    assert words.day(NOON - timedelta(days=1), NOON) == "Yesterday"


@pytest.mark.parametrize(
    ("locale", "moment", "number", "money"),
    [
        ("en-GB", "20 Nov, 14:05", "1,200", "$1,200.50"),
        ("en-US", "Nov 20, 2:05\u202fPM", "1,200", "$1,200.50"),
        ("de-DE", "20. Nov., 14:05", "1.200", "1.200,50\xa0$"),
        ("de", "20. Nov., 14:05", "1.200", "1.200,50\xa0$"),
        ("fr-FR", "20 nov., 14:05", "1\u202f200", "1\u202f200,50\xa0$"),
        ("sv-SE", "20 nov. 14:05", "1\xa0200", "1\xa0200,50\xa0$"),
    ],
)
def test_numbers_and_dates_follow_the_locale(locale, moment, number, money):
    at = datetime(2026, 11, 20, 14, 5, tzinfo=UTC)

    with reader(locale, "UTC"):
        assert words.moment(at, at + timedelta(days=2)) == moment
        assert words.number(1200) == number
        assert words.dollars(1_200_500_000) == money


def test_day_ends_in_the_readers_time_zone():
    late, now = datetime(2026, 11, 19, 15, 30, tzinfo=UTC), datetime(2026, 11, 20, 1, tzinfo=UTC)

    with reader("de-DE", "Asia/Tokyo"):  # half past midnight, and ten o'clock
        assert (words.day(late, now), words.moment(late, now)) == ("Today", "00:30")
    with reader("de-DE", "Europe/Berlin"):  # 16:30 of the day before
        assert (words.day(late, now), words.moment(late, now)) == ("Yesterday", "19. Nov., 16:30")


@pytest.mark.parametrize(
    ("tag", "known_as"),
    [
        *((None, "en_GB"), ("", "en_GB"), ("xx-YY", "en_GB"), ("*", "en_GB"), ("C", "en_GB")),
        *(("de-XX", "de"), ("de_AT", "de_AT"), ("zh-Hans-CN", "zh_Hans_CN")),
        *(("en-US-u-ca-buddhist", "en_US"), ("ca-ES-valencia", "ca_ES_VALENCIA")),
        *(("zh-TW", "zh_Hant_TW"), ("en-GB-oxendict", "en_GB"), ("iw", "he_IL")),
    ],
)
def test_language_tag_becomes_the_nearest_locale(tag, known_as):
    with reader(tag):
        assert words._locale() == Locale.parse(known_as)


@given(
    tag=TAGS | st.text(max_size=12),
    value=st.integers(0, 10**12),
    at=st.datetimes(min_value=EPOCH, max_value=EPOCH.replace(year=2900), timezones=st.just(UTC)),
)
def test_every_locale_formats_numbers_and_dates(tag, value, at):
    with reader(tag, "Europe/Berlin"):
        assert int("".join(filter(str.isdecimal, words.number(value)))) == value
        assert "$" in words.dollars(value)
        numbers = map(int, re.findall(r"\d+", words.moment(at, NOON)))  # Yoruba writes 1:0
        assert at.astimezone(words._zone()).minute in numbers
