"""Figures and moments as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from pages._parts import words


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
def test_money_is_exact_where_it_is_small(micro: int, said: str):
    assert words.dollars(micro) == said


def test_a_moment_has_its_date_where_it_is_not_of_today():
    now = datetime.now(UTC)

    assert words.moment(now) == f"{now:%H:%M}"
    assert words.moment(datetime(2026, 3, 9, 7, 5, tzinfo=UTC)) == "9 Mar, 07:05"
    assert words.day(now - timedelta(days=1), now) == "Yesterday"
