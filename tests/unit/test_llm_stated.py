"""What endpoints state about their models."""

import pytest

from services.llm import Stated, read_models


@pytest.mark.parametrize(
    ("entry", "stated"),
    [
        ({"object": "model"}, Stated()),  # OpenAI, Ollama
        (  # LiteLLM
            {
                "max_input_tokens": 200_000,
                "max_output_tokens": 64_000,
                "input_cost_per_token": 3e-06,
                "output_cost_per_token": 1.5e-05,
                "cache_read_input_token_cost": 3e-07,
            },
            Stated(
                context_tokens=200_000,
                reply_tokens=64_000,
                input_micro=3_000_000,
                output_micro=15_000_000,
                cached_input_micro=300_000,
            ),
        ),
        (  # OpenRouter
            {
                "context_length": 131_072,
                "top_provider": {"context_length": 65_536, "max_completion_tokens": 8_192},
                "pricing": {"prompt": "0.0000025", "completion": "0.00001"},
                "supported_parameters": ["max_tokens", "reasoning"],
            },
            Stated(
                context_tokens=65_536,
                reply_tokens=8_192,
                input_micro=2_500_000,
                output_micro=10_000_000,
                is_reasoning=True,
            ),
        ),
        ({"pricing": {"prompt": "0", "completion": "0"}}, Stated(input_micro=0, output_micro=0)),
        ({"max_model_len": 16_384}, Stated(context_tokens=16_384)),  # vLLM
        (  # Groq
            {"context_window": 131_072, "max_completion_tokens": 40_960},
            Stated(context_tokens=131_072, reply_tokens=40_960),
        ),
        (  # LM Studio
            {"max_context_length": 131_072, "loaded_context_length": 4_096},
            Stated(context_tokens=4_096),
        ),
        ({"meta": {"n_ctx_train": 131_072}}, Stated(context_tokens=131_072)),  # llama.cpp
        ({"meta": {"n_ctx_train": 131_072, "n_ctx": 8_192}}, Stated(context_tokens=8_192)),
        # nothing that can be: no number, too small, too large, a price below nothing, half a price
        ({"context_length": "many", "max_output_tokens": True}, Stated()),
        ({"context_length": 0, "max_model_len": 10**9, "max_output_tokens": None}, Stated()),
        ({"pricing": {"prompt": "-1", "completion": "-1"}}, Stated()),
        ({"pricing": {"prompt": "NaN", "completion": "1e99"}}, Stated()),
        ({"pricing": {"prompt": "0.000001"}}, Stated()),
        ({"pricing": "cheap", "meta": [], "supported_parameters": "reasoning"}, Stated()),
    ],
)
def test_an_entry_states_limits_and_prices_in_each_endpoints_words(entry, stated):
    document = {"data": [{"id": "other", "context_length": 1024}, {"id": "m"} | entry]}

    assert read_models(document, "m") == stated


def test_the_only_model_of_an_endpoint_answers_to_any_name():
    only = {"id": "/models/qwen.gguf", "max_model_len": 8_192}

    assert read_models({"data": [only]}, "m").context_tokens == 8_192
    assert read_models([only], "m").context_tokens == 8_192  # Together sends a bare list
    assert read_models({"data": [only, {"id": "other"}]}, "m") == Stated()


@pytest.mark.parametrize("document", [None, "<html>", [], {}, {"data": 3}, {"data": ["m"]}, 7])
def test_what_is_no_list_of_models_states_nothing(document):
    assert read_models(document, "m") == Stated()
