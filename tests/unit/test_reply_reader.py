"""Streamed chunks of a reply as endpoints send them, and their meaning."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.domain import Usage
from services.domain.model_failures import ModelFailure
from services.llm import LimitReached, Thought
from services.llm.reply_reader import ReplyReader

# chunks of endpoints: as reported in the named issue, as recorded from the local model, and
# variations of these
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "endpoints.json").read_text("utf-8"))
HI = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def read(*chunks):
    """Return the pieces of a reply and its failure."""
    pieces = []
    reader = ReplyReader(pieces.append)
    for chunk in chunks:
        reader.read(chunk)
    return pieces, reader.finish()


def usage(prompt, reply):
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": reply}}


@pytest.mark.parametrize(
    "fields", [["reasoning_content"], ["reasoning"], ["reasoning_content", "reasoning"]]
)
def test_thoughts_come_once_beside_the_text(fields):
    thought = {"choices": [{"delta": dict.fromkeys(fields, "Hm. ")}]}

    assert read(thought, thought, HI) == ([Thought("Hm. "), Thought("Hm. "), "Hi"], None)


def test_list_of_parts_has_thoughts_and_text():
    # Mistral's reasoning models, as reported in litellm 16272
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}]}
    text = {"type": "text", "text": "Well. "}
    chunks = [
        {"choices": [{"delta": {"content": parts}}]} for parts in ([thinking], [thinking, text])
    ]

    assert read(*chunks, HI) == ([Thought("Hm. "), Thought("Hm. "), "Well. ", "Hi"], None)


def read_text(text, cuts=()):
    """Return the thoughts and the text of a reply whose *text* arrives in pieces, cut at *cuts*."""
    ends = [0, *sorted(cuts), len(text)]
    parts = [text[start:end] for start, end in pairwise(ends)]
    pieces, failure = read(*({"choices": [{"delta": {"content": part}}]} for part in parts), END)
    assert failure is None
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    return thoughts, "".join(piece for piece in pieces if isinstance(piece, str))


@pytest.mark.parametrize(
    ("text", "thoughts", "said"),
    [
        ("<think>\nHm.\n</think>\n\nHi", "Hm.\n", "\n\nHi"),
        ("\n <think>a < b</thin</think>Hi</think>", "a < b</thin", "Hi</think>"),
        # without an end: the reply was cut off, or the connection was lost
        ("<think>Hm.", "Hm.", ""),
        ("<think>Hm. </thi", "Hm. </thi", ""),
        # a model that does not think
        ("<think>\n\n</think>\n\nHi", "", "\n\nHi"),
        ("<think></think>Hi<think>Hm.</think>", "", "Hi<think>Hm.</think>"),
        # the chat template has opened the thoughts, and the model does not think
        ("</think>\n\nHi</think>", "", "\n\nHi</think>"),
        ("\n</think>", "", ""),
        # marks that do not come first
        ("Hi</think>", "", "Hi</think>"),
        ("Hi <think>Hm.</think>", "", "Hi <think>Hm.</think>"),
        ("```\n<think>\n</think>\n```\n", "", "```\n<think>\n</think>\n```\n"),
        ("`<think>` begins thoughts.", "", "`<think>` begins thoughts."),
        ("\n\n<thinking>Hm.</thinking>", "", "\n\n<thinking>Hm.</thinking>"),
        # tokens of chat templates at the beginning and the end
        ("</s>Hello", "", "Hello"),
        ("</s>\n\nHello", "", "Hello"),
        ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi", "", "Hi"),
        ("<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>", "", "Hi"),
        ("<|im_start|>assistant\n<think>Hm.</think>Hi", "Hm.", "Hi"),
        ("<|channel|>final<|message|>Hi<|im_end|>", "", "Hi"),
        ("<|im_end|><|channel|>final<|message|>Hi<|return|>\n", "", "Hi"),
        ("<s>old</s> is struck", "", "<s>old</s> is struck"),
        # marks of channels that a text or a thought names
        (
            "<|channel|>final<|message|>Use `<|channel|>analysis<|message|>` to think.",
            "",
            "Use `<|channel|>analysis<|message|>` to think.",
        ),
        (
            "<|channel|>analysis<|message|>`<|channel|>final`?<|end|><|start|>assistant"
            "<|channel|>final<|message|>Ends with <|end|>, so.<|return|>",
            "`<|channel|>final`?",
            "Ends with <|end|>, so.",
        ),
        ("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Hi", "Hm.", "Hi"),
        ("<think", "", "<think"),
        ("</thin", "", "</thin"),
        (" \n ", "", " \n "),
    ],
)
def test_thoughts_at_the_beginning_of_the_text_are_no_text(text, thoughts, said):
    assert read_text(text) == (thoughts, said)
    assert read_text(text, range(1, len(text))) == (thoughts, said)
    for cut in range(1, len(text)):
        assert read_text(text, [cut]) == (thoughts, said)


@pytest.mark.parametrize("unit", ["<|end|>x", "<|end|><|channel|>final<|message|>x", "<|channel|>"])
def test_text_full_of_marks_is_read_without_recursion(unit):
    text = f"<|channel|>analysis<|message|>{unit * (50_000 // len(unit))}"

    thoughts, said = read_text(text)

    assert (thoughts + said).count("x") == text.count("x")


def test_unended_stream_keeps_the_begun_thought():
    chunk = {"choices": [{"delta": {"content": "<think>Hm. <"}}]}

    assert read(chunk) == ([Thought("Hm. "), Thought("<")], ModelFailure.DROPPED)


def test_text_of_white_space_is_held_up_to_a_limit():
    pieces = []
    reader = ReplyReader(pieces.append)

    for _ in range(100):
        reader.read({"choices": [{"delta": {"content": "\n"}}]})

    assert "".join(pieces) == "\n" * 100


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {}, "message": {"content": "No."}},
        {"delta": None, "message": {"content": "No."}},
        {"delta": {"role": "assistant", "content": ""}, "message": {"content": "No."}},
        {"delta": {"content": [{"type": "refusal", "refusal": "No."}]}},
        {"delta": {"content": {"type": "text", "text": "No."}}},
        {"delta": {"content": ["N", "o."]}},
        {"delta": {"content": "N", "refusal": "o."}},
    ],
)
def test_text_is_found_wherever_it_stands(choice):
    assert read({"choices": [choice]}, END) == (["No."], None)


def test_message_beside_deltas_repeats_no_text():
    said = ("Hel", "Hello", "Hello")  # Perplexity
    chunks = [
        {"choices": [{"delta": {"content": new}, "message": {"content": whole}}]}
        for new, whole in zip(("Hel", "lo", ""), said, strict=True)
    ]

    assert read(*chunks, END) == (["Hel", "lo"], None)


def test_thinking_as_a_text_is_a_thought():
    content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]

    assert read({"choices": [{"delta": {"content": content}}]}, END) == (
        [Thought("Hm."), "Yes."],
        None,
    )


def test_thought_in_a_list_begins_the_reply():
    reader = ReplyReader(lambda piece: None)
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm. "}]}

    reader.read({"choices": [{"delta": {"content": [thinking]}}]})

    assert (reader.has_begun, reader.has_text) == (True, False)


def test_finish_reason_before_more_text_is_no_end():
    reader = ReplyReader(lambda piece: None)
    ended = []
    for chunk in ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, HI, HI):
        reader.read(chunk)
        ended.append(reader.has_ended)

    assert ended == [False, False, False]


@pytest.mark.parametrize(
    "reason",
    [
        *("length", "max_tokens", "MAX_TOKENS", "model_length", "model_context_window_exceeded"),
        *("maxPredictedTokensReached", {"type": "length", "length": 9}),
    ],
)
def test_finish_reasons_at_the_limit_are_recognised(reason):
    chunk = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": reason}]}

    assert read(chunk) == (["Hi", LimitReached()], None)


@pytest.mark.parametrize(
    ("text", "reason", "failure"),
    [
        ("Hi", "content_filter", ModelFailure.FILTERED),
        ("", "content_filter", ModelFailure.PROMPT_FILTERED),
        ("Hi", "abort", ModelFailure.BROKEN),  # vLLM, SGLang
        ("", "abort", ModelFailure.BROKEN),
        ("Hi", "SAFETY", ModelFailure.FILTERED),  # Gemini
        ("Hi", "RECITATION", ModelFailure.FILTERED),
        ("Hi", "PROHIBITED_CONTENT", ModelFailure.FILTERED),
        ("Hi", "BLOCKLIST", ModelFailure.FILTERED),
        ("Hi", "SPII", ModelFailure.FILTERED),
        ("", "SAFETY", ModelFailure.PROMPT_FILTERED),
        ("Hi", "sensitive", ModelFailure.FILTERED),  # Zhipu
        ("Hi", "guardrail_intervened", ModelFailure.FILTERED),  # Bedrock
        ("Hi", "network_error", ModelFailure.BROKEN),  # Zhipu
        ("Hi", "OTHER", ModelFailure.BROKEN),  # Gemini
        ("Hi", "error", ModelFailure.BROKEN),  # Mistral
        ("Hi", "insufficient_system_resource", ModelFailure.BROKEN),  # DeepSeek
        ("Hi", {"type": "abort", "message": "out of memory"}, ModelFailure.BROKEN),  # SGLang
        ("Hi", "eos_token", None),  # TGI
        ("Hi", "end_turn", None),
        ("Hi", {"type": "stop", "matched": "<abort>"}, None),
    ],
)
def test_reply_that_the_endpoint_cut_is_a_failure(text, reason, failure):
    chunk = {"choices": [{"delta": {"content": text}, "finish_reason": reason}]}

    pieces = [text] if text else []
    assert read(chunk, usage(3, 1)) == ([*pieces, Usage(3, 1)], failure)


@pytest.mark.parametrize(
    ("counts", "is_cut"),
    [
        ({"completion_tokens": 100}, True),
        ({"completion_tokens": 101}, True),
        ({"completion_tokens": 99}, False),
        ({"completion_tokens": 150}, False),  # not counted as we do
        ({"completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 60}}, True),
        ({"completion_tokens": 40, "total_tokens": 112}, True),  # Gemini's thoughts
        ({"completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 30}}, False),
    ],
)
@pytest.mark.parametrize("reason", ["stop", "eos_token"])
def test_usage_at_our_own_limit_is_a_cut(counts, is_cut, reason):
    pieces = []
    reader = ReplyReader(pieces.append, 100)

    reader.read({"choices": [{"delta": {"content": "Hi"}, "finish_reason": reason}]})
    reader.read({"choices": [], "usage": {"prompt_tokens": 12} | counts})

    assert reader.finish() is None
    assert (LimitReached() in pieces) is is_cut


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": [{"type": "thinking"}]}}]},
        {"choices": [{"delta": {"content": [{"type": "reference"}, None, {"thinking": 7}]}}]},
    ],
)
def test_chunks_without_text_are_skipped(chunk):
    assert read(chunk, HI) == (["Hi"], None)


@pytest.mark.parametrize(
    ("chunk", "is_new"),
    [
        ({"choices": [{"delta": {"content": "Hi"}}]}, True),
        ({"choices": [{"delta": {"content": " "}}]}, True),
        ({"choices": [{"delta": {"content": [{"type": "text", "text": "Hi"}]}}]}, True),
        ({"choices": [{"delta": {"content": "", "reasoning": "Hm."}}]}, True),
        ({"choices": [{"delta": {"content": None, "tool_calls": [{"index": 0}]}}]}, True),
        ({"choices": [{"delta": {"refusal": "No."}}]}, True),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, True),
        (HI, True),
        ({"choices": [], "usage": {"prompt_tokens": 16, "completion_tokens": 3}}, True),
        ({"choices": [], "usage": {"prompt_tokens": 16, "completion_tokens": 2}}, False),
        ({"choices": []}, False),
        ({"choices": [{"delta": None}]}, False),
        ({"choices": [{"delta": {"role": "assistant", "content": "", "tool_calls": []}}]}, False),
    ],
)
def test_chunk_without_anything_new_is_a_keep_alive(chunk, is_new):
    reader = ReplyReader(lambda piece: None)
    reader.read({"choices": [{"delta": {"content": "Hi"}}]} | usage(16, 2))

    assert reader.read(chunk) is is_new


def test_repeated_finish_reason_is_a_keep_alive():
    reader = ReplyReader(lambda piece: None)
    ending = {"choices": [{"delta": {}, "finish_reason": "stop"}]}

    assert [reader.read(chunk) for chunk in (ending, ending)] == [True, False]


@pytest.mark.parametrize("chunk", [None, "Internal error", {"choices": 7}])
def test_chunk_of_another_shape_is_invalid(chunk):
    with pytest.raises(ValidationError):
        read(HI, chunk)


def test_stream_without_an_ending_failed():
    assert read() == ([], ModelFailure.GARBLED)
    for reason in (None, "", "null", "FINISH_REASON_UNSPECIFIED"):  # DashScope; Gemini
        chunk = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": reason}]}
        assert read(chunk) == (["Hi"], ModelFailure.DROPPED)


@pytest.mark.parametrize("report", VECTORS["usage"], ids=lambda report: report["name"])
def test_usage_is_read_in_each_endpoints_words(report):
    expected = [Usage(*report["usage"])] if report["usage"] else []

    assert read(HI, report["chunk"]) == (["Hi", *expected], None)


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
