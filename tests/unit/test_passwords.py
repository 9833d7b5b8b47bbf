"""The rules of a new password, and the sentence for each broken rule."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.domain import passwords
from services.domain.addresses import checked_address
from services.domain.passwords import PASSWORD_BYTES, PASSWORD_CHARACTERS, check_new_password
from services.errors import WeakPassword
from tests.hostile_text import SHAPES, cpu_seconds

MAYA = checked_address("maya.rosenbaum@daybook.test")
COMMON = Path(passwords.__file__).with_name("common_passwords.txt").read_text().splitlines()
GRIN = "\U0001f600"
LONGEST = ("a short sentence. " * PASSWORD_BYTES)[:PASSWORD_BYTES]


@pytest.mark.parametrize(
    "password",
    [
        *("a short sentence", "abcabcabcabc", "            xy", LONGEST),
        *("\u00e9abc" * 12, f"{GRIN}abc" * 10),
        *(f"{MAYA}!", "maya.rosenbaum1", f"{COMMON[0]} again"),
        *("daybook of maya", "my 4th Daybook", "date book 12345"),
    ],
)
def test_password_by_the_rules_is_good(password):
    check_new_password(MAYA, password)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        *(("", "short"), ("abcdabcdabc", "short"), (GRIN * 6, "short")),
        *((f"{LONGEST}a", "long"), (f"{GRIN}abc" * (PASSWORD_BYTES // 7 + 1), "long")),
        *((MAYA, "address"), (MAYA.upper(), "address"), ("Maya.Rosenbaum", "address")),
        *(("a" * 12, "repeated"), ("abbabaababab", "repeated"), ("Aa" * 6, "repeated")),
        *((" " * 12, "repeated"), ("e\u0301" * 6, "repeated"), ("\u00e9e\u0301b" * 6, "repeated")),
        *((COMMON[0], "common"), (COMMON[-1].upper(), "common"), ("Qwerty123456", "common")),
        *(("daybook12345", "name"), ("DayBook DayBook", "name"), ("2026-Daybook!", "name")),
        ("\ud83d" + "a short sentence", "unreadable"),
    ],
)
def test_refused_password_is_told_the_rule_that_it_breaks(password, reason):
    with pytest.raises(WeakPassword) as refused:
        check_new_password(MAYA, password)

    assert refused.value.reason == reason
    assert refused.value.public == WeakPassword(reason).public != WeakPassword().public


@example("\ud800" * 12)
@given(st.text(st.characters() | st.characters(categories=["Cs"])))
def test_any_text_is_a_good_password_or_is_refused(password):
    try:
        check_new_password(MAYA, password)
    except WeakPassword:
        return

    assert len(password) >= PASSWORD_CHARACTERS
    assert len(password.encode()) <= PASSWORD_BYTES


def test_sentences_name_the_limits():
    assert f"at least {PASSWORD_CHARACTERS} characters" in WeakPassword("short").public
    assert f"at most {PASSWORD_BYTES:,} characters" in WeakPassword("long").public
    assert f"At least {PASSWORD_CHARACTERS} characters" in passwords.PASSWORD_RULE


def test_list_has_the_commonest_passwords_that_other_rules_let_pass():
    assert len(set(COMMON)) == len(COMMON) == 3_000
    assert [each for each in COMMON if each != each.casefold()] == []
    assert [each for each in COMMON if len(each) < PASSWORD_CHARACTERS or len(set(each)) <= 2] == []
    assert {"qwerty123456", "administrator", "1qaz2wsx3edc"} <= set(COMMON)


@pytest.mark.parametrize("shape", SHAPES)
def test_long_password_is_refused_in_no_time(shape):
    def look(password):
        with pytest.raises(WeakPassword):
            check_new_password(MAYA, password)

    assert cpu_seconds(look, SHAPES[shape](400_000)) < 0.05
