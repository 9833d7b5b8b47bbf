"""Streamed chunks of a reply as endpoints send them, and their meaning."""

import pytest
from pydantic import ValidationError

from services.domain import Usage
from services.errors import ModelFailure
from services.llm import LimitReached, Thought
from services.llm.reply_reader import ReplyReader

HI = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}


def read(*chunks):
    """The pieces of a reply and its failure."""
    pieces = []
    reader = ReplyReader(pieces.append)
    for chunk in chunks:
        reader.read(chunk)
    return pieces, reader.finish()


def usage(prompt, reply, total=0, **fields):
    total = prompt + reply if total == 0 else total
    counts = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": total}
    return {"choices": [], "usage": counts | fields}


def timings(finish=None, **fields):
    return {"choices": [{"finish_reason": finish, "delta": {}}], "timings": fields}


@pytest.mark.parametrize(
    "fields", [["reasoning_content"], ["reasoning"], ["reasoning_content", "reasoning"]]
)
def test_thoughts_come_once_beside_the_text(fields):
    thought = {"choices": [{"delta": dict.fromkeys(fields, "Hm. ")}]}

    assert read(thought, thought, HI) == ([Thought("Hm. "), Thought("Hm. "), "Hi"], None)


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
def test_finish_reasons_at_the_limit_are_recognised(reason):
    chunk = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": reason}]}

    assert read(chunk) == (["Hi", LimitReached()], None)


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": [{"type": "thinking"}]}}]},
    ],
)
def test_chunks_without_text_are_skipped(chunk):
    assert read(chunk, HI) == (["Hi"], None)


@pytest.mark.parametrize("chunk", [None, "Internal error", {"choices": 7}])
def test_chunk_of_another_shape_is_invalid(chunk):
    with pytest.raises(ValidationError):
        read(HI, chunk)


def test_stream_without_an_ending_failed():
    assert read() == ([], ModelFailure.GARBLED)
    assert read({"choices": [{"delta": {"content": "Hi"}}]}) == (["Hi"], ModelFailure.DROPPED)


# as reported in the issue that is named, as recorded of the local model, and variations of these
USAGE = {
    "OpenAI, half of it cached": (
        usage(2006, 300, prompt_tokens_details={"cached_tokens": 1920, "audio_tokens": 0}),
        Usage(2006, 300, 1920),  # betalgo/openai 642
    ),
    "OpenAI, with thoughts": (
        usage(75, 1186, completion_tokens_details={"reasoning_tokens": 1024}),
        Usage(75, 1186, 0, 1024),
    ),
    "DeepSeek": (
        usage(840, 12, prompt_cache_hit_tokens=832, prompt_cache_miss_tokens=8),
        Usage(840, 12, 832),  # browser-use 5684
    ),
    "Moonshot": (
        {"choices": [{"delta": {}, **usage(19, 13, cached_tokens=12)}]},
        Usage(19, 13, 12),  # go-moonshot 17, pi 8075
    ),
    "Groq": ({"x_groq": usage(23, 19)}, Usage(23, 19)),  # vercel/ai 1651
    "LiteLLM before Anthropic: cached tokens in the prompt": (
        usage(
            46483,
            40,
            cache_read_input_tokens=46214,
            cache_creation_input_tokens=0,
            prompt_tokens_details={"cached_tokens": 46214},
        ),
        Usage(46483, 40, 46214),  # context-lens 51
    ),
    "Anthropic's numbers passed on: cached tokens beside it": (
        usage(7, 40, cache_read_input_tokens=9000, cache_creation_input_tokens=800),
        Usage(9807, 40, 9000),  # genkit 5412
    ),
    "the same, and in the total": (
        usage(500, 40, 640, cache_read_input_tokens=100),
        Usage(600, 40, 100),
    ),
    "xAI: thoughts beside the reply": (
        usage(12, 2, 331, completion_tokens_details={"reasoning_tokens": 317}),
        Usage(12, 319, 0, 317),  # vercel/ai 12425
    ),
    "Gemini through a gateway: nothing but thoughts": (
        usage(21, 0, 81, completion_tokens_details={"reasoning_tokens": 60}),
        Usage(21, 60, 0, 60),  # CLIProxyAPI 5733
    ),
    "thoughts beside the reply, and no total": (
        usage(12, 2, None, completion_tokens_details={"reasoning_tokens": 317}),
        Usage(12, 319, 0, 317),
    ),
    "the local model, warm": (
        usage(76, 8, prompt_tokens_details={"cached_tokens": 54})
        | {"timings": {"cache_n": 54, "prompt_n": 22, "predicted_n": 8}},
        Usage(76, 8, 54),
    ),
    "the same, not asked for usage": (
        timings(cache_n=53, prompt_n=1, predicted_n=8),
        Usage(54, 8, 53),
    ),
    "llama.cpp before it counted cached tokens": (timings(prompt_n=1, predicted_n=8), None),
    "built on llama.cpp, cached tokens left out of the prompt": (
        usage(1, 8) | {"timings": {"cache_n": 53, "prompt_n": 1, "predicted_n": 8}},
        Usage(54, 8, 53),  # ollama 16428
    ),
    "a total beyond prompt and reply": (usage(9, 2, 31), Usage(9, 22)),
    "no details": (usage(9, 2, prompt_tokens_details=None), Usage(9, 2)),
    "impossible details": (
        usage(
            9,
            2,
            1e30,
            prompt_tokens_details=4,
            completion_tokens_details={"reasoning_tokens": -1},
        ),
        Usage(9, 2),
    ),
    "no reply": ({"usage": {"prompt_tokens": 9, "total_tokens": 11}}, Usage(9, 2)),
    "no reply and no total": ({"usage": {"prompt_tokens": 9}}, None),  # though text came
    "zeros": (usage(0, 0), None),
    "below zero": (usage(-9, 2), None),
    "more than any window": (usage(1e12, 2), None),
    "no number": (usage(float("nan"), 2), None),
    "words": ({"usage": {"prompt_tokens": "many"}}, None),
    "empty": ({"usage": {}}, None),
    "a number": ({"usage": 3}, None),
    "null": ({"usage": None}, None),
}


@pytest.mark.parametrize(("chunk", "expected"), USAGE.values(), ids=USAGE)
def test_usage_is_read_in_each_endpoints_words(chunk, expected):
    assert read(HI, chunk) == (["Hi", *([expected] if expected else [])], None)


@pytest.mark.parametrize(
    "reports",
    [
        [(16, 0), (16, 1), (16, 2)],  # vLLM 7262
        [(16, 2), (0, 0)],  # zeros last: llmio 71
        [(16, 0), (0, 2)],  # the prompt first, the reply last, as Anthropic does
        [(16, 2), (16, 2)],
    ],
)
def test_counts_of_many_chunks_are_not_added(reports):
    chunks = [usage(prompt, reply) for prompt, reply in reports]

    assert read(HI, *chunks) == (["Hi", Usage(16, 2)], None)
