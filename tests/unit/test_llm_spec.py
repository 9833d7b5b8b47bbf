"""Limits and prices in lists of models and in errors, as endpoints state them."""

import pytest

from services.llm.model_spec import LimitRefusal, ModelSpec, read_limits, read_models
from tests.unit.test_reply_reader import VECTORS


@pytest.mark.parametrize("model", VECTORS["models"], ids=lambda model: model["name"])
def test_entry_is_read_in_each_endpoints_words(model):
    document = {"data": [{"id": "other", "context_length": 1024}, {"id": "m"} | model["entry"]]}

    assert read_models(document, "m") == ModelSpec(**model["stated"])


def test_only_entry_answers_to_any_name():
    only = {"id": "/models/qwen.gguf", "max_model_len": 8_192}

    assert read_models({"data": [only]}, "m").context_tokens == 8_192
    # Together sends a list without an object around it
    assert read_models([only], "m").context_tokens == 8_192
    assert read_models({"data": [only, {"id": "other"}]}, "m") == ModelSpec()


@pytest.mark.parametrize("document", [None, "<html>", [], {}, {"data": 3}, {"data": ["m"]}, 7])
def test_malformed_list_of_models_states_nothing(document):
    assert read_models(document, "m") == ModelSpec()


@pytest.mark.parametrize("refused", VECTORS["refusals"], ids=lambda refused: refused["name"])
def test_refusal_is_read_in_each_endpoints_words(refused):
    assert read_limits(refused["message"]) == LimitRefusal(**refused["stated"])


def test_long_error_states_nothing():
    stated = "maximum context length is 4096"

    assert read_limits(stated + " " * 9_900).context_tokens == 4096
    assert read_limits(stated + " " * 10_000) == LimitRefusal()


def test_number_beyond_any_window_states_nothing():
    assert read_limits("maximum context length is " + "1" * 9_000) == LimitRefusal()


def test_limits_that_are_quoted_from_the_request_state_nothing():
    quoted, stated = "maximum context length is 600", "maximum context length is 8192"

    assert read_limits(quoted, sent=f"Why {quoted}?") == LimitRefusal()
    assert read_limits(f"{quoted}; {stated}", sent=quoted).context_tokens == 8192
