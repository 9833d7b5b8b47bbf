"""Limits and prices in lists of models and in errors, as endpoints state them."""

import pytest

from services.llm.model_spec import LimitRefusal, ModelSpec, read_models, read_refusal


@pytest.mark.parametrize(
    ("entry", "stated"),
    [
        ({"object": "model"}, ModelSpec()),  # OpenAI, Ollama
        (  # LiteLLM
            {
                "max_input_tokens": 200_000,
                "max_output_tokens": 64_000,
                "input_cost_per_token": 3e-06,
                "output_cost_per_token": 1.5e-05,
                "cache_read_input_token_cost": 3e-07,
            },
            ModelSpec(
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
            ModelSpec(
                context_tokens=65_536,
                reply_tokens=8_192,
                input_micro=2_500_000,
                output_micro=10_000_000,
                is_reasoning=True,
            ),
        ),
        ({"pricing": {"prompt": "0", "completion": "0"}}, ModelSpec(input_micro=0, output_micro=0)),
        ({"max_model_len": 16_384}, ModelSpec(context_tokens=16_384)),  # vLLM
        (  # Groq
            {"context_window": 131_072, "max_completion_tokens": 40_960},
            ModelSpec(context_tokens=131_072, reply_tokens=40_960),
        ),
        (  # LM Studio
            {"max_context_length": 131_072, "loaded_context_length": 4_096},
            ModelSpec(context_tokens=4_096),
        ),
        ({"meta": {"n_ctx_train": 131_072}}, ModelSpec(context_tokens=131_072)),  # llama.cpp
        ({"meta": {"n_ctx_train": 131_072, "n_ctx": 8_192}}, ModelSpec(context_tokens=8_192)),
        # nothing that can be: no number, too small, too large, a price below nothing, half a price
        ({"context_length": "many", "max_output_tokens": True}, ModelSpec()),
        ({"context_length": 0, "max_model_len": 10**9, "max_output_tokens": None}, ModelSpec()),
        ({"pricing": {"prompt": "-1", "completion": "-1"}}, ModelSpec()),
        ({"pricing": {"prompt": "NaN", "completion": "1e99"}}, ModelSpec()),
        ({"pricing": {"prompt": "0.000001"}}, ModelSpec()),
        ({"pricing": "cheap", "meta": [], "supported_parameters": "reasoning"}, ModelSpec()),
    ],
)
def test_entry_is_read_in_each_endpoints_words(entry, stated):
    document = {"data": [{"id": "other", "context_length": 1024}, {"id": "m"} | entry]}

    assert read_models(document, "m") == stated


def test_only_entry_answers_to_any_name():
    only = {"id": "/models/qwen.gguf", "max_model_len": 8_192}

    assert read_models({"data": [only]}, "m").context_tokens == 8_192
    assert read_models([only], "m").context_tokens == 8_192  # Together sends a bare list
    assert read_models({"data": [only, {"id": "other"}]}, "m") == ModelSpec()


@pytest.mark.parametrize("document", [None, "<html>", [], {}, {"data": 3}, {"data": ["m"]}, 7])
def test_malformed_list_of_models_states_nothing(document):
    assert read_models(document, "m") == ModelSpec()


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (  # OpenAI
            "max_tokens is too large: 8192. This model supports at most 4096 completion tokens, whereas you provided "
            "8192.",
            LimitRefusal(reply_tokens=4096),
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 8256 tokens (64 in the "
            "messages, 8192 in the completion). Please reduce the length of the messages or completion.",
            LimitRefusal(context_tokens=8192, prompt_tokens=64),
        ),
        (
            "This model's maximum context length is 4097 tokens, however you requested 4116 tokens (3860 in your "
            "prompt; 256 for  the completion).",
            LimitRefusal(context_tokens=4097, prompt_tokens=3860),
        ),
        (  # vLLM; the count is exact in the first alone
            "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 4096 "
            "tokens and your request has 25 input tokens (8192 > 4096 - 25).",
            LimitRefusal(context_tokens=4096, prompt_tokens=25),
        ),
        (
            "This model's maximum context length is 128000 tokens. However, you requested 65535 output tokens and your "
            "prompt contains at least 62466 input tokens, for a total of at least 128001 tokens.",
            LimitRefusal(context_tokens=128_000),
        ),
        (  # Anthropic
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length",
            LimitRefusal(context_tokens=200_000, prompt_tokens=178_959),
        ),
        (
            "max_tokens: 128001 > 64000, which is the maximum allowed number of output tokens for claude-opus-4-5",
            LimitRefusal(reply_tokens=64_000),
        ),
        (
            "prompt is too long: 210000 tokens > 200000 maximum",
            LimitRefusal(context_tokens=200_000),
        ),
        (  # Groq
            "max_completion_tokens must be less than or equal to 40960, the maximum value for max_completion_tokens is "
            "less than the context_window for this model",
            LimitRefusal(reply_tokens=40_960),
        ),
        ("`max_tokens` must be less than or equal to `16384`", LimitRefusal(reply_tokens=16_384)),
        (
            "max_tokens for `llama-3.1-8b-instant` must be less than or equal to 8000",
            LimitRefusal(reply_tokens=8000),
        ),
        (  # DeepSeek
            "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
            LimitRefusal(reply_tokens=8192),
        ),
        (  # Mistral
            "Prompt contains 300000 tokens, too large for model with 131072 maximum context length",
            LimitRefusal(context_tokens=131_072, prompt_tokens=300_000),
        ),
        (  # OpenRouter
            "this endpoint's maximum context length is 131072 tokens. however, you requested about 138956 tokens (7884 "
            "of text input, 131072 in the output).",
            LimitRefusal(context_tokens=131_072, prompt_tokens=7884),
        ),
        (  # Volcengine
            "The parameter `max_completion_tokens` specified in the request are not valid: integer above maximum value, "
            "expected a value <= 12288, but got 32000 instead.",
            LimitRefusal(reply_tokens=12_288),
        ),
        (
            "Requested tokens (9000) exceed context window of 4096",
            LimitRefusal(context_tokens=4096),
        ),
        (  # llama.cpp, as the SDK writes the body
            "Error code: 400 - {'error': {'message': 'the request exceeds the available context size', "
            "'n_prompt_tokens': 14429, 'n_ctx': 8192}}",
            LimitRefusal(context_tokens=8192),
        ),
        (
            "Your request exceeded model token limit: 262144 (requested: 300000)",
            LimitRefusal(context_tokens=262_144),
        ),
        # none
        (
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            LimitRefusal(),
        ),
        ("maximum context length is 0 tokens", LimitRefusal()),
        ("temperature must be less than or equal to 2", LimitRefusal()),
    ],
)
def test_refusal_is_read_in_each_endpoints_words(message, refusal):
    assert read_refusal(message) == refusal
