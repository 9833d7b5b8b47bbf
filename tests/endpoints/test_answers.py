"""What endpoints of public reports answer: each file has the right value here, and each kind a second input."""

import json
import re
import sys
from contextlib import closing

import pytest

from pages._parts.words import MODEL_FAILURES
from services.domain import Purpose, Role
from services.domain.context import ContextMessage
from services.domain.model_failures import FailureDetails, ModelFailure, ModelUnavailable
from services.llm import openai_model
from services.llm.model import LimitReached, SentAtOnce, Thought
from services.llm.openai_model import OpenAIModel, connect
from services.llm.refusals import RULES
from services.llm.reply_text import text_of
from tests.chats import chat_factory, settled
from tests.endpoints.player import FOLDER, is_for_title, playing, read
from tests.fakes import INFO, MAYA
from tests.stack.apps import ROOT
from tests.stores import InMemoryDatabase

LIMIT = 4_096  # tokens of a reply, as the app asks for them


@pytest.fixture
def play(monkeypatch):
    """Let a model answer as a file or a value says; return its server, and a function that returns the pieces and the failure."""
    monkeypatch.setattr(openai_model, "_PAUSES", (0.01, 0.01))
    opened = []

    def begin(answer, speed=1, **limits):
        context = playing(read(answer) if isinstance(answer, str) else answer, speed)
        server = context.__enter__()
        client = connect(f"http://127.0.0.1:{server.server_port}/v1", "key")
        model = OpenAIModel(client, "m", **limits)
        opened.extend((model.close, lambda: context.__exit__(None, None, None)))

        def ask(prompt="Hello", *before):
            system = ContextMessage(Role.SYSTEM, "Be kind.")
            messages = [system, *before, ContextMessage(Role.USER, prompt)]
            pieces, stream = [], model.start(messages, max_tokens=LIMIT)
            try:
                pieces.extend(stream)
            except ModelUnavailable as error:
                return pieces, error.failure
            return pieces, None

        return server, ask

    yield begin
    for close in opened:
        close()


def said(pieces):
    return "".join(piece for piece in pieces if isinstance(piece, str))


def thought(pieces):
    return "".join(piece.text for piece in pieces if isinstance(piece, Thought))


def event(**fields):
    return {"choices": [{"index": 0} | fields]}


def refused(status, body):
    return {"status": status, "headers": {"content-type": "application/json"}, "body": body}


# --- refusals that are told, after one request

MISTRAL = {
    "object": "error",
    "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
}
WITHIN = {
    "error": {
        "message": "Provider returned error",
        "code": 400,
        "metadata": {
            "raw": '{"error": {"message": "prompt is too long: 9 tokens > 8 maximum", "type": "invalid_request_error"}}'
        },
    }
}
FLAGGED = {
    "error": {
        "code": 403,
        "message": "Your chosen model requires moderation and your input was flagged for violence.",
    }
}
POOR = {
    "error": {
        "message": "Your credit balance is too low to access the Anthropic API.",
        "type": "invalid_request_error",
    }
}
SPENT = {"detail": "ExceededBudget: User=default over budget. Spend=1.2, Budget=1.0"}
UNKNOWN = {
    "error": {
        "message": "The model `gpt-9` does not exist or you do not have access to it.",
        "code": "model_not_found",
    }
}
WRONG_KEY = [
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
        }
    }
]

NEST = {
    "statusCode": 400,
    "error": "Bad Request",
    "message": "maximum context length is 8192 (9000 in the messages)",
}
CLOUDFLARE = {"success": False, "errors": [{"code": 5007, "message": "No such model @cf/x"}]}
CLAUDE = {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-9"}}
XAI = {
    "code": "personal",
    "error": "Your team has used all available credits or reached its monthly spending limit.",
}


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ("01", ModelFailure.TOO_LONG),
        (refused(400, MISTRAL), ModelFailure.TOO_LONG),
        (refused(400, WITHIN), ModelFailure.TOO_LONG),
        ("08", ModelFailure.NO_CREDIT),
        (refused(400, POOR), ModelFailure.NO_CREDIT),
        ("24", ModelFailure.PROMPT_FILTERED),
        (refused(403, FLAGGED), ModelFailure.PROMPT_FILTERED),
        ("27", ModelFailure.BUDGET),
        (refused(400, SPENT), ModelFailure.BUDGET),
        (refused(404, UNKNOWN), ModelFailure.NO_MODEL),
        (refused(400, WRONG_KEY), ModelFailure.UNAUTHORIZED),
        (refused(400, NEST), ModelFailure.TOO_LONG),
        (refused(400, CLOUDFLARE), ModelFailure.NO_MODEL),
        (refused(404, CLAUDE), ModelFailure.NO_MODEL),
        (
            refused(403, {"error": {"message": "Your request was blocked."}}),
            ModelFailure.UNAUTHORIZED,
        ),
        (refused(403, XAI), ModelFailure.NO_CREDIT),
        (refused(413, "Request Entity Too Large"), ModelFailure.TOO_LONG),
        (
            [{"error": {"code": 500, "message": "Context size has been exceeded."}}],
            ModelFailure.TOO_LONG,
        ),
        (
            refused(400, {"message": "the prompt is too long", "trace": "x" * 12_000}),
            ModelFailure.TOO_LONG,
        ),
        (
            {
                "status": 200,
                "body": '{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}',
            },
            ModelFailure.NO_CREDIT,
        ),
    ],
)
def test_refusal_is_told_after_one_request(play, answer, failure):
    server, ask = play(answer)

    pieces, told = ask()

    assert (said(pieces), told) == ("", failure)
    # a prompt that is too long for a stated window is sent once more, with room for a reply alone
    assert len(server.asked) <= 1 + (failure is ModelFailure.TOO_LONG)


def test_words_of_the_prompt_in_a_refusal_say_nothing(play):
    quoted = "maximum context length is 600, content_filter, system role not supported, stream is not supported"
    server, ask = play(refused(400, {"error": {"message": f"Bad value in: {quoted}"}}))

    assert ask(f"Why does it say: {quoted}?") == ([], ModelFailure.REJECTED)
    assert len(server.asked) == 1


# --- refusals that lead to another request

ANTHROPIC = {
    "error": {
        "message": "max_tokens: 4096 > 2048, which is the maximum allowed number of output tokens"
    }
}
NAMELESS = {"error": {"message": "max_tokens is too large for this model", "param": "max_tokens"}}
STREAMLESS = {"detail": "Streaming is not supported by this endpoint."}
GEMMA = {
    "error": {
        "message": "Developer instruction is not enabled for models/gemma-3-1b-it",
        "code": 400,
    }
}
ALTERNATE = {
    "error": {"message": "Conversation roles must alternate user/assistant/user/assistant/..."}
}

AFFORDABLE = {
    "error": {"message": "You requested up to 4096 tokens, but can only afford 2000.", "code": 402}
}
O1 = {"error": {"message": "'messages[0].role' does not support 'system' with this model."}}
VLLM = {
    "message": "You passed 100 input tokens and requested 4096 output tokens. However, the model's context length is only 4096 tokens"
}
FASTAPI = {
    "detail": [
        {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "no", "input": {}}
    ]
}


@pytest.mark.parametrize(
    ("answer", "reply", "requests"),
    [
        ("03", "Within the limit.", 2),
        (refused(400, ANTHROPIC) | {"unless_max_tokens": 2048, "reply": "Shorter."}, "Shorter.", 2),
        (refused(400, NAMELESS) | {"unless_max_tokens": 1024, "reply": "Short."}, "Short.", 2),
        (refused(400, NAMELESS) | {"unless_max_tokens": 1023, "reply": ""}, "", 2),
        ("05", "Short, but paid for.", 2),
        (refused(402, AFFORDABLE) | {"unless_max_tokens": 2000, "reply": "Paid."}, "Paid.", 2),
        ("21", "Not streamed.", 2),
        (refused(422, STREAMLESS) | {"unless_stream": False, "reply": "At once."}, "At once.", 2),
        ("22", "No system message came.", 2),
        (refused(400, GEMMA) | {"unless_role_missing": "system", "reply": "Merged."}, "Merged.", 2),
        # llama.cpp refuses roles with this status
        (
            refused(500, ALTERNATE) | {"unless_role_missing": "system", "reply": "Merged."},
            "Merged.",
            2,
        ),
        (refused(400, O1) | {"unless_role_missing": "system", "reply": "Merged."}, "Merged.", 2),
        (refused(400, VLLM) | {"unless_max_tokens": 3996, "reply": "Shorter."}, "Shorter.", 2),
    ],
)
def test_request_is_repeated_within_what_was_learnt(play, answer, reply, requests):
    server, ask = play(answer)

    pieces, failure = ask()

    assert said(pieces) == reply
    assert bool(failure) is not bool(reply)
    assert len(server.asked) == requests


@pytest.mark.parametrize(("name", "is_kept"), [("21", True), ("22", True), ("05", False)])
def test_lesson_is_remembered_if_it_is_about_the_model(play, name, is_kept):
    server, ask = play(name)
    ask()
    server.asked.clear()

    pieces, failure = ask()

    assert failure is None
    assert said(pieces)
    assert len(server.asked) == 2 - is_kept


def test_page_learns_that_a_reply_comes_at_once_and_where_instructions_stand(play):
    at_once, _ = play("21")[1]()
    streamed, _ = play("22")[1]()

    assert [piece for piece in at_once if isinstance(piece, SentAtOnce)] == [SentAtOnce()]
    assert SentAtOnce() not in streamed


def test_parameter_in_a_list_of_errors_is_left_out(play):
    server, ask = play(refused(422, FASTAPI))

    ask()

    assert ["stream_options" in request for request in server.asked] == [True, False]


def test_instructions_without_a_system_role_stand_in_front_of_the_first_message(play):
    server, ask = play("22")

    ask("And now?", ContextMessage(Role.USER, "Hello"), ContextMessage(Role.ASSISTANT, "Hi"))

    assert server.asked[-1]["messages"] == [
        {"role": "user", "content": "Be kind.\n\nHello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "And now?"},
    ]


# --- replies

STOP = event(delta={}, finish_reason="stop")
HI = '{"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("15", "I can't help with that request."),
        (
            [event(delta={"content": [{"type": "refusal", "refusal": "No."}]}), STOP, "[DONE]"],
            "No.",
        ),
        ("19", "OK, a whole answer."),
        (
            {
                "status": 200,
                "body": 'data: {"choices": [{"message": {"content": "In an event."}, "finish_reason": "stop"}]}\n\n',
            },
            "In an event.",
        ),
        (
            {
                "status": 200,
                "body": '{"choices": [{"message": {"content": "Whole."}}]}\n\ndata: [DONE]\n\n',
            },
            "Whole.",
        ),
        (
            [
                {
                    "_raw": 'data: {"choices": [{"delta": {"content": "One "}}]}data: {"choices": [{"delta": {"content": "line."}, "finish_reason": "stop"}]}\n\n'
                },
                "[DONE]",
            ],
            "One line.",
        ),
        (
            [
                event(delta={"content": "<|im_start|>assistant\nHello"}),
                event(delta={"content": " you<|im_"}),
                event(delta={"content": "end|>\n"}),
                STOP,
            ],
            "Hello you",
        ),
        ([event(delta={"content": "<s> Hi</s>"}), STOP], "Hi"),
        *(
            ([{"_raw": f"data:{before}{HI}\n\n"}, {"_raw": "data: [DONE]\n\n"}], "Hi")
            for before in ("  ", "\ndata: ", " data: ", " : PROCESSING\ndata: ")
        ),
        ({"status": 200, "body": "\n\n" + HI}, "Hi"),
        (
            [
                event(
                    delta={
                        "content": "<|channel|> is the token with which gpt-oss names a channel."
                    }
                ),
                STOP,
            ],
            "<|channel|> is the token with which gpt-oss names a channel.",
        ),
        (
            [event(delta={"content": "<|start|>assistant<|message|>Hello there<|end|>"}), STOP],
            "Hello there",
        ),
        (
            [
                event(
                    delta={"content": "<|channel|>final<|message|>It ends with <|end|>, and so on."}
                ),
                STOP,
            ],
            "It ends with <|end|>, and so on.",
        ),
        (
            [event(delta={"content": "<s>old</s> and <|im_end|> are marks"}), STOP],
            "<s>old</s> and <|im_end|> are marks",
        ),
    ],
)
def test_reply_is_whole(play, answer, reply):
    _, ask = play(answer)

    pieces, failure = ask()

    assert (said(pieces), failure) == (reply, None)
    assert LimitReached() not in pieces


# a finish reason, a pause that is longer than the wait for the usage, and the rest
PAUSE = [
    event(delta={"content": "Hel"}, finish_reason="end_turn"),
    {"_wait": 9},
    event(delta={"content": "lo."}, finish_reason=None),
    "[DONE]",
]


@pytest.mark.parametrize(
    ("answer", "reply"), [("14", "Hello there, this is the rest."), (PAUSE, "Hello.")]
)
def test_finish_reason_with_the_first_text_outlasts_a_pause(play, monkeypatch, answer, reply):
    speed = 10  # of a clock by which all passes as it does in 7 or 9 seconds
    monkeypatch.setattr(openai_model, "_ENDING_SECONDS", openai_model._ENDING_SECONDS / speed)
    _, ask = play(answer, speed, between_tokens_seconds=30 / speed)

    pieces, failure = ask()

    assert (said(pieces), failure) == (reply, None)


@pytest.mark.parametrize(
    ("answer", "thoughts", "reply"),
    [
        ("16", "The user says hi. Greet back.", "Hello! How can I help?"),
        ([event(delta={"content": "[THINK]Hm.[/THINK]Yes."}), STOP], "Hm.", "Yes."),
        (
            [
                event(delta={"content": f"{piece}"})
                for piece in "<|start|>assistant<|channel|>commentary<|message|>Hm.<|end|><|channel|>final<|message|>Yes."
            ]
            + [STOP],
            "Hm.",
            "Yes.",
        ),
    ],
)
def test_channels_are_told_apart(play, answer, thoughts, reply):
    _, ask = play(answer)

    pieces, failure = ask()

    assert (thought(pieces), said(pieces), failure) == (thoughts, reply, None)


def test_marks_of_channels_in_old_replies_are_not_sent(play):
    server, ask = play("16")
    old = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello!"
    mention = "Write `<|channel|>` for a channel, and at the end <|im_end|>"

    ask("And now?", *(ContextMessage(Role.ASSISTANT, reply) for reply in (old, mention)))

    assert [message["content"] for message in server.asked[0]["messages"][1:3]] == [
        "Hello!",
        mention,
    ]


@pytest.mark.parametrize(
    ("reply", "sent"),
    [
        ("<|channel|>analysis<|message|>cut off", "cut off"),
        ("\n<|channel|>analysis<|message|>Hm.<|end|><|start|>assi", "Hm."),
        ("\n <|start|>assistant<|channel|>final<|message|>Hi<|return|>", "Hi"),
        ("<|im_end|>\n<|channel|>final<|message|>Hi", "Hi"),
        ("<|channel|>analysis<|message|>", "…"),
        ("<|channel|>ana", "…"),
        ("Write <|channel|>final<|message|>", "Write <|channel|>final<|message|>"),
        ("<|im_end|> ends a message</s>", "<|im_end|> ends a message</s>"),
        ("<|channel|> names a channel.", "<|channel|> names a channel."),
    ],
)
def test_sent_text_of_a_reply_that_begins_with_a_channel_has_no_marks(reply, sent):
    assert text_of(reply) == sent


HALF = {"choices": [{"index": 0, "delta": {"content": "Half "}}]}
# errors of endpoints, in mid-reply
ERRORS = [
    {"object": "error", "message": None, "code": 500},
    {"object": "error", "message": {"detail": [{"msg": "no"}]}},
    {"object": "error", "choices": []},
    {"object": "error", "choices": [{"delta": {}}]},
    {"message": {"detail": [{"msg": "no"}]}},
    {"detail": {"message": "no"}},
    {"detail": [{"loc": ["body"], "msg": "no"}]},
    {"error": {}},
    {"error": {}, "choices": []},
    {"error": True, "choices": None},
    {"message": "upstream error", "choices": []},
    {"error_code": 110, "error_msg": "no"},  # Baidu
    {"errorMessage": "no"},
    {"code": "500"},
    {"code": 1302, "msg": ""},  # Zhipu
    {"code": "InternalError", "message": None, "choices": []},  # DashScope
    {"error": "", "choices": []},
    {"object": "exception"},
    {"data": {"error": {"message": "no"}}},
    {"status": "failed"},
    {"type": "response.failed"},
    {"success": False, "errors": []},  # Cloudflare
    {"event": "error", "data": {}},
    {"fault": {"faultstring": "no"}},  # Apigee
    event(delta={}, error={"message": "no", "code": 502}, finish_reason=None),
    event(delta={"error": {"message": "no"}}),
    event(delta={"content": ""}, finish_reason="error"),
    {"_raw": "event: error\ndata: {}\n\n"},
    {"_raw": "event: error\ndata: out of memory\n\n"},
    {"_raw": "event: error\n\n"},
    {"_raw": 'error: {"code": 500, "message": "no"}\n\n'},  # llama.cpp
    {"_raw": '{"error": {"message": "no"}}\n\n'},
    {"_raw": '{"error": {"message": "no"}}\n'},
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_half_a_reply_before_an_error_is_incomplete(play, error):
    _, ask = play([HALF, error, "[DONE]"])

    assert ask() == (["Half "], ModelFailure.BROKEN)


@pytest.mark.parametrize(
    "harmless",
    [
        {"choices": [], "usage": {"prompt_tokens": 1}, "error": None},
        {"choices": [], "usage": {"prompt_tokens": 1}, "error": {}},
        {"code": 0, "message": "Success", "choices": []},  # Spark
        {"base_resp": {"status_code": 0, "status_msg": ""}},  # MiniMax
        {"success": True, "errors": [], "messages": []},  # Cloudflare
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},  # Azure
        {"object": "chat.completion.chunk", "choices": [], "message": "success", "code": 1000},
        {"choices": [], "usage": {"prompt_tokens": 1}, "msg": "done"},
        {"type": "ping"},
        {"message_id": "7", "details": {}, "status": "in_progress"},
        {"id": "r", "object": "chat.completion.chunk", "choices": [], "error": ""},
        event(delta={}, error=None, content_filter_result={"error": {"code": "x"}}),  # Azure
        {"_raw": "event: ping\ndata: {}\n\n"},
        {"_raw": ": error\n\n"},
        {"_raw": "id: 7\n\n"},
    ],
    ids=str,
)
def test_event_that_is_no_error_leaves_a_reply_whole(play, harmless):
    _, ask = play([HALF, harmless, event(delta={"content": "more."}), STOP, "[DONE]"])

    pieces, failure = ask()

    assert (said(pieces), failure) == ("Half more.", None)


@pytest.mark.parametrize(
    "error",
    [
        event(delta={}, error={"message": "Insufficient credits", "code": 402}),
        {"_raw": 'event: error\ndata: {"message": "no", "code": 402}\n\n'},
        {"_raw": 'error: {"message": "no", "code": 402}\n\n'},
    ],
)
def test_error_of_a_choice_or_by_its_name_is_told(play, error):
    server, ask = play([error, "[DONE]"])

    assert ask() == ([], ModelFailure.NO_CREDIT)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "last",
    [
        {"error": {"code": 502}, **event(delta={"content": "more"}, finish_reason="error")},
        event(delta={"content": "more"}, error={"code": 502}),
    ],
)
def test_text_beside_an_error_is_not_lost(play, last):
    _, ask = play([HALF, last, "[DONE]"])

    pieces, failure = ask()

    assert (said(pieces), failure) == ("Half more", ModelFailure.BROKEN)


A, B = (json.dumps(event(delta={"content": text})) for text in ("One ", "line."))


@pytest.mark.parametrize(
    "sent",
    [
        f"data: {A},{B}\n\n",
        f"data: {A}, \n data: {B},\n\n",
        f"data: [{A},{B}]\n\n",
        f"data: {A}event: x\ndata: {B}\n\n",
        f"data: {A}event: x data: {B}\n\n",
        f"data: {A}id: 7\nretry: 3\ndata: {B}\n\n",
        f"data: {A}: keep alive\ndata: {B}event: end\n\n",
        f"data: {A}\n{B}\n\n",
        f"data: {A}\ndata: {B}\n\n",
        f"\ufeffdata: {A}\n\ndata: {B}\n\n",
        f"data: \x1e{A}\n\ndata: \x1e{B}\n\n",
    ],
)
def test_events_that_share_a_line_are_read_one_by_one(play, sent):
    _, ask = play([{"_raw": sent}, STOP, "[DONE]"])

    pieces, failure = ask()

    assert (said(pieces), failure) == ("One line.", None)


@pytest.mark.parametrize("end", ["", "\n"])
def test_last_event_needs_no_blank_line(play, end):
    _, ask = play([{"_raw": f"data: {A}\ndata: {B}\ndata: [DONE]{end}"}])

    pieces, failure = ask()

    assert (said(pieces), failure) == ("One line.", None)


@pytest.mark.parametrize("body", [A, f"{A}\n{B}\n", f"[{A}]"])
def test_pieces_without_an_end_are_no_whole_reply(play, body):
    _, ask = play({"status": 200, "body": body})

    assert ask()[1] is ModelFailure.DROPPED


@pytest.mark.parametrize("size", [1, 2])
def test_event_of_more_than_a_megabyte_ends_a_reply(play, size):
    event_of = {"_raw": f"data: {json.dumps(event(delta={'content': 'x' * (size * 900_000)}))}\n\n"}
    _, ask = play([HALF, event_of, STOP, "[DONE]"])

    assert ask()[1] is (ModelFailure.BROKEN if size == 2 else None)


@pytest.mark.parametrize("size", [3, 5])
def test_whole_reply_may_have_four_megabytes(play, size):
    choice = {"message": {"content": "x" * (size * 900_000)}, "finish_reason": "stop"}
    _, ask = play({"status": 200, "body": json.dumps({"choices": [choice]})})

    assert ask()[1] is (ModelFailure.GARBLED if size == 5 else None)


def test_filter_without_text_is_told_as_one(play):
    server, ask = play([event(delta={"content": ""}, finish_reason="content_filter"), "[DONE]"])

    assert ask() == ([], ModelFailure.PROMPT_FILTERED)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("09", "The three steps are: first, "),
        (
            [
                event(delta={"content": "Half "}),
                {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            ],
            "Half ",
        ),
        ("30", "The first half, "),
        (
            [event(delta={"content": "Half "}), {"_raw": "data: " + "[" * 100_000 + "\n\n"}, STOP],
            "Half ",
        ),
        (
            [
                event(delta={"content": "Half "}),
                {"_raw": 'data: {"n": ' + "9" * 5_000 + "}\n\n"},
                STOP,
            ],
            "Half ",
        ),
    ],
)
def test_reply_that_an_error_ends_is_incomplete(play, answer, text):
    server, ask = play(answer)

    pieces, failure = ask()

    assert (said(pieces), failure) == (text, ModelFailure.BROKEN)
    assert len(server.asked) == 1


def test_text_that_may_begin_a_mark_is_not_lost_with_the_end_of_a_reply(play):
    _, ask = play([event(delta={"content": "1 <"}), {"error": {"message": "Overloaded"}}])

    assert ask() == (["1 ", "<"], ModelFailure.BROKEN)


ABOVE = [
    event(delta={"content": "Half "}, finish_reason="stop"),
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": LIMIT + 1}},
    "[DONE]",
]


@pytest.mark.parametrize("answer", ["12", ABOVE])
def test_stop_at_our_own_limit_is_a_cut(play, answer):
    _, ask = play(answer)

    pieces, failure = ask()

    assert failure is None
    assert LimitReached() in pieces


def test_huge_refusal_is_cut_off(play):
    _, ask = play(refused(400, "x" * 20_000_000))

    assert ask() == ([], ModelFailure.REJECTED)


def test_packed_answer_is_unreadable(play):
    packed = refused(400, "") | {"headers": {"content-encoding": "gzip"}}

    assert play(packed)[1]() == ([], ModelFailure.GARBLED)


# thoughts in the text, up to the limit
IN_TEXT = [
    {"_only": "title", "_otherwise": "Peas."},
    event(delta={"content": "<think>Hm."}, finish_reason="length"),
    {"choices": [], "usage": {"prompt_tokens": 60, "completion_tokens": "$max_tokens"}},
    "[DONE]",
]


@pytest.mark.parametrize("answer", ["28", IN_TEXT])
def test_titles_that_only_think_are_given_up(answer):
    answer, database = read(answer) if isinstance(answer, str) else answer, InMemoryDatabase(MAYA)
    with playing(answer) as server:
        client = connect(f"http://127.0.0.1:{server.server_port}/v1", "key")
        with closing(OpenAIModel(client, INFO.name)) as model, chat_factory(model) as make:
            chat = make(database.store(), database.sweep, purposes=(Purpose.TITLE,))
            for number in range(4):
                settled(chat, chat.begin(None, f"When do I sow peas in bed {number}?"))

    limits = [asked["max_tokens"] for asked in server.asked if is_for_title(asked)]
    assert limits == [24, 24, INFO.reply_tokens]


NAMES = re.findall(r"=(@\S+)", (FOLDER / "29-model-names.txt").read_text("utf-8"))


@pytest.mark.parametrize("name", [*NAMES, "@hf/google/gemma-3:free"])
def test_name_with_an_at_sign_arrives_unchanged(name):
    with playing([event(delta={"content": "Hello"}, finish_reason="stop"), "[DONE]"]) as server:
        model = OpenAIModel(connect(f"http://127.0.0.1:{server.server_port}/v1", "key"), name)
        with closing(model):
            pieces = list(model.start([ContextMessage(Role.USER, "Hi")], max_tokens=LIMIT))

    assert said(pieces) == "Hello"
    assert [asked["model"] for asked in server.asked] == [name]


def test_details_of_a_refusal_lack_the_key_and_the_address():
    key = "sk-Gh7kLm2PqRs9"
    with playing(None) as server:
        host = f"http://127.0.0.1:{server.server_port}/v1"
        said = f"prompt is too long: 9 tokens > 8 maximum ({key} at {host}/chat)"
        server.answer = refused(400, {"error": {"message": said, "type": "invalid_request_error"}})
        with closing(OpenAIModel(connect(host, key), "m")) as model:
            stream = model.start([ContextMessage(Role.USER, "Hi")], max_tokens=LIMIT)
            with pytest.raises(ModelUnavailable) as caught:
                list(stream)

    assert caught.value.details == FailureDetails(
        400, "invalid_request_error", sentence="prompt is too long: 9 tokens > 8 maximum (… at …"
    )


# --- the table of refusals


def table():
    """Return `RULES` as a table in Markdown."""
    lines = ["| reason | statuses | and one of: codes and types, words |", "|---|---|---|"]
    for rule in RULES:
        statuses = sorted(rule.statuses)
        named = [
            str(status) for status in statuses if 0 < status < (500 if 599 in statuses else 600)
        ]
        named += ["5xx"] if 599 in statuses else []
        named += ["an event without status"] if 0 in statuses else []
        shown = ", ".join(named) + (", alone" if rule.is_for_all else "")
        codes = [f"`{code}`" for code in sorted(rule.codes)] + ["words"] * bool(rule.words)
        has_limit = rule.failure in {ModelFailure.TOO_LONG, ModelFailure.REPLY_LIMIT}
        if has_limit and not rule.is_for_all:
            codes.append("a limit that it names")
        lines.append(f"| {MODEL_FAILURES[rule.failure]} | {shown} | {', '.join(codes)} |")
    return "\n".join(lines)


def test_docs_have_the_table_of_refusals():
    page = (ROOT / "docs" / "models.md").read_text("utf-8")

    sys.stdout.write(table())  # shown if it differs, to be copied into the page

    assert f"\n{table()}\n" in page


LESSONS = {
    "the chat or the reply is longer than a limit that it names": (
        refused(400, ANTHROPIC) | {"unless_max_tokens": 2048, "reply": "Hi"}
    ),
    "the reply is too long, without a number": (
        refused(400, NAMELESS) | {"unless_max_tokens": 1024, "reply": "Hi"}
    ),
    "the account's credit pays for a shorter reply only": read("05"),
    "it does not stream": read("21"),
    "it takes no system role": read("22"),
    "it knows no `stream_options` or `max_tokens`, or asks for `max_completion_tokens`": (
        refused(400, {"error": {"message": "Unknown field: include_usage"}})
        | {"unless_lacks": "stream_options", "reply": "Hi"}
    ),
}


@pytest.mark.parametrize("lesson", LESSONS)
def test_docs_say_what_is_remembered(lesson):
    page = (ROOT / "docs" / "models.md").read_text("utf-8")
    lines = page.partition("| next request |")[2].partition("\n\n")[0].splitlines()[2:]
    remembered = {
        cells[1]: cells[3] for cells in (re.split(r"^\| | \| | \|$", line) for line in lines)
    }
    with playing(LESSONS[lesson]) as server:
        learnt = []
        url = f"http://127.0.0.1:{server.server_port}/v1"
        model = OpenAIModel(connect(url, "key"), "m", on_refusal=lambda *said: learnt.append(said))
        with closing(model):
            for _ in range(2):
                messages = [ContextMessage(role, "Hi") for role in (Role.SYSTEM, Role.USER)]
                list(model.start(messages, max_tokens=LIMIT))

    assert remembered.keys() == LESSONS.keys()
    assert remembered[lesson].startswith("yes") == (bool(learnt) or len(server.asked) == 3)
