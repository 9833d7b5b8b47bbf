"""Recovery codes: ten of 120 bits, and the forms in which they may be typed."""

import hashlib
import re

import pytest

from services.crypto.recovery_codes import new_codes, recovery_hash

CODE = "01AB-CDEF-GHJK-MNPQ-RSTV-WXYZ"
HASH = hashlib.sha256(b"01ABCDEFGHJKMNPQRSTVWXYZ").hexdigest()


def test_ten_codes_have_120_bits_each():
    codes = new_codes()

    assert len({*codes, *new_codes()}) == 20
    for code in codes:
        assert re.fullmatch(r"(?:[0-9A-HJKMNP-TV-Z]{4}-){5}[0-9A-HJKMNP-TV-Z]{4}", code)
        assert recovery_hash(code) == hashlib.sha256(code.replace("-", "").encode()).hexdigest()
    used = {sign for _ in range(20) for code in new_codes() for sign in code}
    assert len(used - {"-"}) == 32  # 5 bits a character


@pytest.mark.parametrize(
    "typed",
    [
        CODE,
        CODE.lower(),
        CODE.replace("-", ""),
        CODE.replace("-", " "),
        f" \t{CODE}\n",
        CODE.replace("-", " - "),
        *(CODE.replace("1", sign) for sign in "iIlL"),
        *(CODE.replace("0", sign) for sign in "oO"),
    ],
)
def test_code_is_known_however_it_is_typed(typed):
    assert recovery_hash(typed) == HASH


@pytest.mark.parametrize(
    "typed",
    [
        *("", "-", "123456", CODE[:-1], f"{CODE}0", CODE.replace("A", "U"), CODE.replace("A", "!")),
        *(
            "\uff10" * 24,
            CODE.replace("S", "\u017f"),
            CODE.replace("1", "\u0131"),
            "\ud83d" * 24,
            "\x00" * 24,
        ),
        *(f"{CODE}{' ' * 100}", CODE * 100_000),
    ],
)
def test_text_of_another_form_is_no_code(typed):
    assert recovery_hash(typed) is None
