"""Codes of authenticator apps: the vectors of RFC 6238, a code good once, and clocks that differ by one step."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from services.identity.totp import matching_step, new_secret, provisioning_uri, qr_svg, secret_text

# RFC 6238, appendix B, SHA-1: seconds, and the last six of the eight digits
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]
SECRET = b"12345678901234567890"
SECONDS, DIGITS = VECTORS[3]
NOW, STEP = datetime.fromtimestamp(SECONDS, UTC), SECONDS // 30


@pytest.mark.parametrize(("seconds", "digits"), VECTORS)
def test_codes_are_those_of_rfc_6238(seconds, digits):
    now = datetime.fromtimestamp(seconds, UTC)

    assert matching_step(SECRET, digits, now, 0) == seconds // 30
    assert matching_step(SECRET[::-1], digits, now, 0) is None


def test_used_code_does_not_match_again():
    assert matching_step(SECRET, DIGITS, NOW, STEP - 1) == STEP
    assert matching_step(SECRET, DIGITS, NOW, STEP) is None
    assert matching_step(SECRET, DIGITS, NOW, STEP + 1) is None


@pytest.mark.parametrize(("steps", "found"), [(-2, None), (-1, STEP), (1, STEP), (2, None)])
def test_clock_may_differ_by_one_step(steps, found):
    assert matching_step(SECRET, DIGITS, NOW + timedelta(seconds=30 * steps), 0) == found


def test_later_of_two_steps_with_one_code_is_used(monkeypatch):
    monkeypatch.setattr("pyotp.TOTP.generate_otp", lambda *_: DIGITS)

    assert matching_step(SECRET, DIGITS, NOW, 0) == STEP + 1
    assert matching_step(SECRET, DIGITS, NOW, STEP + 1) is None


@pytest.mark.parametrize(
    "typed",
    [
        *("", "0", "00592", "0059244", "005 924", " 05924", "-05924", "+05924", "0x5924"),
        *(
            "\uff10\uff10\uff15\uff19\uff12\uff14",
            "\u0660\u0660\u0665\u0669\u0662\u0664",
            "00592\uff14",
            "00592\u00b2",
            "005924\n",
            "\x00\x0005924"[:6],
            "\ud83d" * 6,
        ),
        "005924" * 100_000,
    ],
)
def test_other_text_than_six_ascii_digits_matches_nothing(typed):
    assert matching_step(SECRET, typed, NOW, 0) is None


def test_secret_has_160_random_bits():
    assert len(new_secret()) == 20
    assert new_secret() != new_secret()


def test_uri_names_secret_issuer_and_address():
    uri = urlsplit(provisioning_uri(SECRET, "maya+1@daybook.test", "Daybook"))

    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert unquote(uri.path) == "/Daybook:maya+1@daybook.test"
    values = {"secret": [secret_text(SECRET)], "issuer": ["Daybook"]}
    assert {name: parse_qs(uri.query)[name] for name in values} == values
    # what apps take for granted, because some of them read no other value
    assert parse_qs(uri.query).keys() <= {*values, "algorithm", "digits", "period"}
    assert secret_text(SECRET) == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.mark.parametrize("address", ["maya@daybook.test", "a" * 64 + "@" + "b" * 185 + ".com"])
def test_qr_code_is_an_svg_without_text_style_or_script(address):
    svg = qr_svg(provisioning_uri(SECRET, address, "Daybook"))

    parts = r'<path (?:fill|stroke)="#\w{3}" d="[Mmhvz0-9 .-]+"/>'
    assert re.fullmatch(rf'<svg viewBox="0 0 \d+ \d+">(?:{parts}){{2}}</svg>', svg)
