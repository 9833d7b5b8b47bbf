"""Codes: eight digits, good once, in the browser and the step that they were sent for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.crypto import RootKeys, new_key
from services.domain.addresses import EmailAddress
from services.domain.mails import CodePurpose, NoCode, NoCodeReason
from services.errors import StepEnded, WrongCode
from services.rules.accounts import STEP_LIFE
from services.store.accounts import Cookie
from services.store.codes import NOBODY, CodeRequest, Codes, Recipient, typed_code
from services.store.steps import Steps
from services.store.tables.backend import TablesBackend
from services.store.tables.in_memory import InMemoryStore

BROWSER, KIND = Cookie.new(), "sign_in"
REQUEST = CodeRequest(address=EmailAddress("maya@daybook.test"), extra="more")
MAYA = Recipient(mail=CodePurpose.SIGN_IN)


@pytest.fixture
def codes():
    root_keys = RootKeys({1: new_key()}, 1)
    return Codes(Steps(TablesBackend(InMemoryStore()), root_keys))


def send(codes, recipient=MAYA, step_id=None):
    """Begin a step; return its id and its code."""
    step, code = codes.begin(BROWSER, KIND, REQUEST, recipient, step_id=step_id or uuid4())
    return step.id, code.digits if recipient is MAYA else code


def another(digits):
    return f"{(int(digits) + 1) % 10**8:08}"


def is_refused(codes, step_id, digits, error, browser=BROWSER):
    with pytest.raises(error):
        codes.check(browser, KIND, step_id, digits, None)
    return True


def test_code_is_eight_digits_good_once_for_its_request(codes):
    step_id, digits = send(codes)

    right = codes.check(BROWSER, KIND, step_id, digits, None)
    again = codes.check(BROWSER, KIND, step_id, digits, None)
    right.end()

    assert len(digits) == 8
    assert digits.isdecimal()
    assert (right.request, right.step.id) == (REQUEST, step_id)
    with pytest.raises(StepEnded):  # of two who enter it at once
        again.end()
    assert is_refused(codes, step_id, digits, StepEnded)


def test_codes_differ_and_keep_leading_zeros(codes, monkeypatch):
    assert len({send(codes)[1] for _ in range(5)}) == 5

    monkeypatch.setattr("services.store.codes.secrets.randbelow", lambda _: 42)

    step_id, digits = send(codes)
    assert digits == "00000042"
    assert codes.check(BROWSER, KIND, step_id, digits, None)


def test_code_guessed_six_times_is_over(codes):
    step_id, digits = send(codes)

    for _ in range(5):
        assert is_refused(codes, step_id, another(digits), WrongCode)

    assert is_refused(codes, step_id, digits, StepEnded)


def test_code_holds_for_its_browser_and_step_alone(codes):
    step_id, digits = send(codes)
    other_id, _ = send(codes)

    assert is_refused(codes, step_id, digits, StepEnded, Cookie.new())
    assert is_refused(codes, other_id, digits, WrongCode)
    assert codes.check(BROWSER, KIND, step_id, digits, None)


def test_newer_code_ends_the_older_of_its_own_step_only(codes):
    step_id, old = send(codes)
    other_id, others = send(codes)

    _, new = send(codes, step_id=step_id)

    assert is_refused(codes, step_id, old, WrongCode)
    assert codes.check(BROWSER, KIND, step_id, new, None)
    assert codes.check(BROWSER, KIND, other_id, others, None)
    assert codes.read(BROWSER, KIND, step_id, None) == REQUEST


def test_code_that_is_kept_has_five_more_tries_in_all(codes):
    step_id, digits = send(codes)
    for _ in range(4):
        assert is_refused(codes, step_id, another(digits), WrongCode)
    for _ in range(5):
        codes.read(BROWSER, KIND, step_id, None)
        codes.keep(BROWSER, KIND, step_id, None)
        assert is_refused(codes, step_id, another(digits), WrongCode)

    codes.keep(BROWSER, KIND, step_id, None)
    assert is_refused(codes, step_id, digits, StepEnded)

    _, new = send(codes, step_id=step_id)
    assert codes.check(BROWSER, KIND, step_id, new, None)


def test_code_that_is_kept_lives_no_longer_and_is_good_once(codes):
    step_id, digits = send(codes)
    began = datetime.now(UTC)
    for minutes in (4, 8):
        at = began + timedelta(minutes=minutes)
        later = Codes(replace(codes.steps, now=lambda at=at: at))
        later.keep(BROWSER, KIND, step_id, None)
    late = Codes(replace(codes.steps, now=lambda: began + STEP_LIFE))
    assert is_refused(late, step_id, digits, StepEnded)

    step_id, digits = send(codes)
    right = codes.check(BROWSER, KIND, step_id, digits, None)
    codes.keep(BROWSER, KIND, step_id, None)
    right.end()

    with pytest.raises(StepEnded):
        codes.keep(BROWSER, KIND, step_id, None)


def test_code_lives_for_ten_minutes(codes):
    step_id, digits = send(codes)
    later = datetime.now(UTC) + STEP_LIFE + timedelta(seconds=1)
    late = Codes(replace(codes.steps, now=lambda: later))

    assert is_refused(late, step_id, digits, StepEnded)


@pytest.mark.parametrize(
    ("recipient", "mail"),
    [(NOBODY, None), (Recipient(mail=NoCodeReason.TAKEN), NoCode(NoCodeReason.TAKEN))],
)
def test_without_a_code_every_try_is_wrong(codes, recipient, mail):
    step_id, content = send(codes, recipient)

    assert content == mail
    for digits in ("", "00000000", "12345678", "None", ""):
        assert is_refused(codes, step_id, digits, WrongCode)
    assert is_refused(codes, step_id, "12345678", StepEnded)


def test_contents_of_another_version_end_the_step(codes):
    step = codes.steps.begin(BROWSER, KIND, '{"digits": "12345678"}', ())

    with pytest.raises(StepEnded) as refused:
        codes.check(BROWSER, KIND, step.id, "12345678", None)

    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    ("typed", "digits"),
    [
        ("01234567", "01234567"),
        (" 0123 4567\n", "01234567"),
        ("0123-4567", "01234567"),
        ("0123\u00a04567", "01234567"),
        ("\uff10\uff11\uff12\uff13\u3000\uff14\uff15\uff16\uff17", "01234567"),
        *(
            (wrong, "")
            for wrong in ("", "0123456", "012345678", "0123456a", "٠١٢٣٤٥٦٧", "²1234567")
        ),
    ],
)
def test_typed_code_loses_its_spaces_and_hyphens(typed, digits):
    assert typed_code(typed) == digits


def test_no_repr_shows_an_address_or_a_code(codes):
    step_id, digits = send(codes)
    right = codes.check(BROWSER, KIND, step_id, digits, None)

    for text in ("maya", "more", digits):
        assert text not in repr((right, REQUEST, MAYA))
