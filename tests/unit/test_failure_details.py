"""What an endpoint said of a failure: only about the user's request, without the key and the address."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.health import FailedCall
from services.domain.model_failures import FailureDetails, ModelFailure, ModelUnavailable
from services.llm.failure_details import FailureLog, details_of
from services.llm.refusals import read_refusal

KEY, HOST = "sk-proj-Gh7kLm2PqRs9TuVw", "llm.corp.example"
TOO_LONG = "This model's maximum context length is 8192 tokens."


def details(status, failure=None, **error):
    refusal = read_refusal(status, {"error": error}, "")
    return details_of(refusal, failure or refusal.failure, KEY, HOST)


def test_error_about_the_request_is_told():
    told = details(
        400, message=TOO_LONG, type="invalid_request_error", code="context_length_exceeded"
    )

    assert told == FailureDetails(
        400, "invalid_request_error", "context_length_exceeded", sentence=TOO_LONG
    )


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "temperature must be at most 1", "param": "temperature"}),
        (400, {"message": "max_tokens is too large", "code": 1}),
        (403, {"message": "Your input was flagged", "code": "content_filter"}),
    ],
)
def test_error_about_a_parameter_the_limit_or_the_filter_is_told(status, error):
    assert details(status, **error).sentence == error["message"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, {"message": "Incorrect API key", "code": "invalid_api_key"}),
        (402, {"message": "Org Kumquat has $0.02 left", "code": 402}),
        (429, {"message": "Request too large in organization org-7: Limit 30000, Requested 45000"}),
        (400, {"message": "Budget of team kumquat exceeded", "type": "budget_exceeded"}),
        (400, {"message": "Account kumquat is disabled"}),
        (
            413,
            {"message": "Request too large in organization org_7 on tokens per minute (TPM): 6000"},
        ),
        (400, {"message": "context_length_exceeded for key sk-other, balance $3.12"}),
        (403, {"message": "Your org-77 is blocked by the content policy system"}),
        (400, {"message": "Kumquat has no more of it", "param": "None", "type": "None"}),
        (400, {"message": "Kumquat is unknown", "param": "organization"}),
        (500, {"message": "worker kumquat-3 died"}),
    ],
)
def test_error_about_others_is_not_told(status, error):
    told = details(status, **error)

    assert (told.status, told.sentence) == (status, "")


def test_key_address_and_control_characters_are_taken_out():
    said = (
        f"a\u202eb\x07 c\n\n d {KEY[3:11]} e https://{HOST}/v1/chat?a=1 f {HOST.upper()}:80 \u2066g"
    )

    assert details(400, ModelFailure.TOO_LONG, message=said).sentence == "ab c d … e … f … g"


@given(st.integers(0, len(KEY) - 6), st.integers(6, len(KEY)), st.text(max_size=9))
def test_no_six_characters_of_the_key_are_told(begin, size, around):
    hidden = KEY[begin : begin + size]
    split = f"{hidden[:3]}\u200b{hidden[3:]}"
    for part in (hidden, split):
        told = details(400, ModelFailure.TOO_LONG, message=f"{around}{part}{around}", code=hidden)
        parts = {KEY[at : at + 6] for at in range(len(KEY) - 5)}
        shown = [told.sentence[at : at + 6] for at in range(len(told.sentence) - 5)]
        assert not parts & set(shown)
        assert told.code == "other"


def test_sentence_has_500_characters_and_a_code_60():
    told = details(400, ModelFailure.TOO_LONG, message="a" * 900, code="b" * 61, type="c d")

    assert told.sentence == "a" * 500
    assert (told.code, told.kind) == ("other", "other")


def test_short_key_and_the_host_are_no_codes():
    refusal = read_refusal(400, {"error": {"message": "at abcde, model", "code": HOST}}, "")

    told = details_of(refusal, ModelFailure.TOO_LONG, "abcde", HOST)

    assert told == FailureDetails(400, code="other", sentence="at …, model")


def test_key_of_one_letter_hides_no_other_word():
    error = {"message": "max context x", "code": "context_length_exceeded"}

    told = details_of(read_refusal(400, {"error": error}, ""), ModelFailure.TOO_LONG, "x", HOST)

    assert told == FailureDetails(400, code=error["code"], sentence="max context …")


@pytest.mark.parametrize(
    "address",
    [
        *(f"'{HOST}'", f'"{HOST}"', f"`{HOST}`", f"eu.{HOST}", f"{HOST}-prod", f"{HOST}."),
        *(f"http://a:b@eu.{HOST}:80/v1?a=1#b", f"[{HOST}]", f"host={HOST.upper()}", f"x_{HOST}_x"),
    ],
)
def test_host_with_a_dot_is_taken_out_wherever_it_stands(address):
    told = details(400, ModelFailure.TOO_LONG, message=f"Too long at {address} now").sentence

    assert "corp" not in told.casefold()
    assert told.startswith("Too long at ")
    assert told.endswith(" now")


def test_host_within_another_word_stays():
    said = "This model's limit, at model:80/v1 or 'model', a model-9"
    refusal = read_refusal(400, {"error": {"message": said}}, "")

    told = details_of(refusal, ModelFailure.TOO_LONG, KEY, "model")

    assert told == FailureDetails(400, sentence="This model's limit, at … or '…', a model-9")


def test_page_of_a_proxy_is_not_told():
    refusal = read_refusal(413, "<html><title>413</title> nginx/1.25 at gw-7.internal</html>", "")

    assert details_of(refusal, refusal.failure, KEY, HOST) == FailureDetails(413)


def test_error_that_says_nothing_has_no_details():
    assert details_of(read_refusal(None, {}, ""), ModelFailure.BROKEN, KEY, HOST) is None


def test_repr_of_details_has_only_the_status():
    assert repr(details(400, message=TOO_LONG, code="x")) == "FailureDetails(status=400)"


def test_log_keeps_the_last_fifty_to_the_minute_without_a_sentence():
    log = FailureLog()
    log.add("old", ModelUnavailable(ModelFailure.BUSY))
    for _ in range(49):
        log.add("mini", ModelUnavailable(ModelFailure.SILENT))
    told = details(400, message=TOO_LONG, code="context_length_exceeded")
    log.add("mini", ModelUnavailable(ModelFailure.TOO_LONG, details=told))

    latest, *others = log.latest()
    now = datetime.now(UTC)
    assert latest == FailedCall(
        latest.at, "mini", ModelFailure.TOO_LONG, 400, "context_length_exceeded"
    )
    assert (latest.at.second, latest.at.microsecond) == (0, 0)
    assert (now - latest.at).total_seconds() < 120
    assert [call.model for call in others] == ["mini"] * 49
