"""The client of OpenAI-compatible endpoints, against a scripted server."""

import asyncio
import json
import logging
import threading
import time
import traceback

import httpx2
import pytest

from services.domain import Role, Usage
from services.domain.context import ContextMessage
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.errors import ProxyUnusable
from services.llm import openai_model
from services.llm.model_spec import LimitRefusal
from services.llm.openai_model import OpenAIModel, connect
from tests.model_server import ModelServer

KEY = "sk-kumquat-7781"
CANARY = "kumquat-5520"


@pytest.fixture
def server():
    with ModelServer() as server:
        yield server


@pytest.fixture
def make():
    """Build models that are closed at the end of the test."""
    models = []

    def make(url, **options):
        models.append(OpenAIModel(connect(url, KEY), "m", **options))
        return models[-1]

    yield make
    for model in models:
        model.close()


@pytest.fixture
def model(server, make, monkeypatch):
    monkeypatch.setattr(openai_model, "_PAUSES", (0.01, 0.01))
    return make(server.url, first_token_seconds=2.5, between_tokens_seconds=0.8)


def ask(model, prompt="Hello", max_tokens=100):
    messages = [ContextMessage(Role.SYSTEM, "Be kind."), ContextMessage(Role.USER, prompt)]
    return model.start(messages, max_tokens=max_tokens)


def outcome(stream):
    """Return the text of *stream*, and its failure."""
    text = ""
    try:
        for piece in stream:
            text += piece if isinstance(piece, str) else ""
    except ModelUnavailable as error:
        return text, error.failure
    return text, None


def read_in_thread(stream):
    """Read *stream* in a thread; return the thread, and a list that will contain its outcome."""
    outcomes = []
    reader = threading.Thread(target=lambda: outcomes.append(outcome(stream)))
    reader.start()
    return reader, outcomes


def test_reply_streams_text_and_then_usage(model, server):
    server.script(reply="one two three", cached=4)

    pieces = list(ask(model))

    assert pieces == ["one", " two", " three", Usage(prompt=11, reply=3, cached=4)]
    [seen] = server.requests
    assert seen.authorization == f"Bearer {KEY}"
    assert seen.body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
    ]
    assert (seen.body["model"], seen.body["max_tokens"]) == ("m", 100)


def test_pieces_arrive_while_the_reply_is_streaming(model, server):
    server.script(tokens=3, fault="hang", after=2)

    stream = iter(ask(model))

    assert (next(stream), next(stream)) == ("word1 ", "word2 ")
    assert server.live


ONCE, THRICE = 1, 3
BUSY = "tokens per minute (TPM): Limit 12000, Used 9000, Requested 4000"
CONTEXT_LENGTH = "This model's maximum context length is 8192 tokens"


@pytest.mark.parametrize(
    ("script", "text", "failure", "requests"),
    [
        ({"status": 429}, "", ModelFailure.BUSY, THRICE),
        ({"status": 429, "error": BUSY}, "", ModelFailure.BUSY, THRICE),
        ({"status": 429, "retry_after": "0.02"}, "", ModelFailure.BUSY, THRICE),
        ({"status": 429, "retry_after": "3600"}, "", ModelFailure.BUSY, ONCE),
        ({"status": 500}, "", ModelFailure.BROKEN, THRICE),
        ({"status": 503}, "", ModelFailure.BROKEN, THRICE),
        ({"status": 400}, "", ModelFailure.REJECTED, ONCE),
        ({"status": 500, "error": CONTEXT_LENGTH}, "", ModelFailure.BROKEN, THRICE),
        ({"status": 401}, "", ModelFailure.UNAUTHORIZED, ONCE),
        ({"status": 403}, "", ModelFailure.UNAUTHORIZED, ONCE),
        ({"status": 404}, "", ModelFailure.REJECTED, ONCE),
        ({"status": 402}, "", ModelFailure.NO_CREDIT, ONCE),  # DeepSeek, OpenRouter
        ({"status": 429, "code": "insufficient_quota"}, "", ModelFailure.NO_CREDIT, ONCE),  # OpenAI
        ({"fault": "refuse"}, "", ModelFailure.DROPPED, THRICE),
        ({"fault": "drop"}, "", ModelFailure.DROPPED, THRICE),
        ({"fault": "drop", "after": 2}, "word1 word2 ", ModelFailure.DROPPED, ONCE),
        ({"fault": "drop", "thoughts": 1}, "", ModelFailure.DROPPED, ONCE),
        ({"fault": "unended"}, "", ModelFailure.DROPPED, THRICE),
        ({"fault": "unended", "after": 2}, "word1 word2 ", ModelFailure.DROPPED, ONCE),
        ({"fault": "error-event"}, "", ModelFailure.BROKEN, THRICE),
        ({"fault": "error-event", "after": 2}, "word1 word2 ", ModelFailure.BROKEN, ONCE),
        ({"fault": "malformed"}, "", ModelFailure.GARBLED, ONCE),
        ({"fault": "malformed", "after": 2}, "word1 word2 ", ModelFailure.BROKEN, ONCE),
        ({"fault": "html"}, "", ModelFailure.GARBLED, ONCE),
        ({"fault": "empty"}, "", ModelFailure.GARBLED, ONCE),
        ({"fault": "hang", "after": 2}, "word1 word2 ", ModelFailure.SILENT, ONCE),
        ({"fault": "no-done"}, "word1 word2 word3 ", None, ONCE),
        ({"fault": "drop-at-end"}, "word1 word2 word3 ", None, ONCE),
        # a temporary failure
        ({"status": 429, "times": 1}, "You said: Hello", None, 2),
        ({"status": 500, "times": 1}, "You said: Hello", None, 2),
        ({"fault": "refuse", "times": 1}, "You said: Hello", None, 2),
    ],
)
def test_only_a_reply_that_has_not_begun_is_retried(model, server, script, text, failure, requests):
    server.script(tokens=3, **script)

    assert outcome(ask(model)) == (text, failure)
    assert len(server.requests) == requests


@pytest.mark.parametrize("fault", ["drop-at-end", "hang-at-end"])
def test_reported_usage_of_a_complete_reply_outlives_the_connection(
    server, make, monkeypatch, fault
):
    monkeypatch.setattr(openai_model, "_ENDING_SECONDS", 0.2)
    server.script(reply="one two", fault=fault)

    assert list(ask(make(server.url))) == ["one", " two", Usage(prompt=11, reply=2)]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang-headers", "hang"])
def test_silence_before_the_first_token_is_bounded(model, server, fault):
    server.script(fault=fault)
    began = time.monotonic()

    assert outcome(ask(model)) == ("", ModelFailure.SILENT)
    assert time.monotonic() - began >= 2.5
    server.wait_until(lambda s: not s.live)


@pytest.mark.parametrize(
    ("begun", "result"),
    [
        ("", ("", ModelFailure.SILENT)),
        ('{"choices": [{"delta": {"content": "Hi"}}]}', ("Hi", ModelFailure.SILENT)),
        ('{"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}', ("Hi", None)),
    ],
)
def test_stream_of_empty_chunks_is_bounded(make, monkeypatch, begun, result):
    empty, sent = '{"choices": [{"delta": {"content": ""}}]}', []

    async def chunks():
        yield f"data: {begun}\n\n".encode()
        for _ in range(200):
            await asyncio.sleep(0.01)
            sent.append(empty)
            yield f"data: {empty}\n\n".encode()

    async def answer(*_):
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=chunks())

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    monkeypatch.setattr(openai_model, "_LONGER_SECONDS", 0.3)
    monkeypatch.setattr(openai_model, "_ENDING_SECONDS", 0.3)

    assert outcome(ask(make("http://llm.test/v1"))) == result
    assert len(sent) < 200


@pytest.mark.slow
@pytest.mark.parametrize("field", ["reasoning_content", "tool_calls"])
def test_long_thoughts_are_not_taken_for_silence(server, make, monkeypatch, field):
    monkeypatch.setattr(openai_model, "_LONGER_SECONDS", 1.0)
    server.script(tokens=1, thoughts=30, thought_rate=20, thinks_as=field)

    assert outcome(ask(make(server.url, first_token_seconds=1.0))) == ("word1 ", None)


@pytest.mark.slow
def test_finish_reason_with_the_first_text_waits_for_more(make, monkeypatch):
    monkeypatch.setattr(openai_model, "_ENDING_SECONDS", 0.05)
    chunks = [("Hel", "stop"), ("lo.", "stop")]

    async def body():
        for text, reason in chunks:
            choice = {"delta": {"content": text}, "finish_reason": reason}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
            await asyncio.sleep(0.2)

    async def answer(*_):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body())

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)

    assert outcome(ask(make("http://llm.test/v1"))) == ("Hello.", None)


@pytest.mark.parametrize(
    "script",
    [
        {"delay": 1.2},  # longer than the limit between two tokens
        {"tokens": 30, "rate": 10},  # in total, longer than any limit of silence
        # between thoughts, the limit for the first token applies
        {"thoughts": 2, "thought_rate": 1},
    ],
)
def test_slow_reply_is_not_taken_for_silence(model, server, script):
    server.script(**{"tokens": 3} | script)

    assert outcome(ask(model))[1] is None


@pytest.mark.slow
def test_reasoning_model_may_be_silent_longer(model, server):
    server.script(delay=3, tokens=1)

    assert outcome(ask(model)) == ("", ModelFailure.SILENT)
    assert outcome(ask(model.named("o3", is_reasoning=True))) == ("word1 ", None)


@pytest.mark.parametrize(
    ("host", "failure"), [("ollama", None), ("llm.example", ModelFailure.SILENT)]
)
def test_server_in_a_private_network_may_first_load_its_model(make, monkeypatch, host, failure):
    async def answer(*_):
        await asyncio.sleep(0.5)
        body = b'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    monkeypatch.setattr(openai_model, "_FIRST_TOKEN_SECONDS", 0.1)

    assert outcome(ask(make(f"http://{host}/v1"))) == ("" if failure else "Hi", failure)


@pytest.mark.slow
@pytest.mark.parametrize("is_date", [False, True])
def test_retry_waits_as_the_endpoint_asks(server, make, is_date):
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    server.script(times=1, status=429, retry_after=soon if is_date else "0.9")
    began = time.monotonic()

    assert outcome(ask(make(server.url)))[1] is None
    assert time.monotonic() - began > 0.8


def test_retry_past_the_deadline_is_not_waited_for(model, server):
    server.script(status=429, retry_after="10")
    began = time.monotonic()

    assert outcome(ask(model)) == ("", ModelFailure.BUSY)
    assert time.monotonic() - began < 9


@pytest.mark.parametrize(
    ("stated", "wait"),
    [("40", 40), ("date", 40), ("7200", 3600), ("soon", 0), ("nan", 0), ("-5", 0)],
)
def test_failure_has_the_wait_that_the_endpoint_stated(model, server, stated, wait):
    if stated == "date":
        stated = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + wait))
    server.script(status=429, retry_after=stated)

    with pytest.raises(ModelUnavailable) as failed:
        list(ask(model))

    assert wait - 3 < failed.value.wait_seconds <= wait


def test_address_without_a_server_is_unreachable(make, monkeypatch):
    monkeypatch.setattr(openai_model, "_PAUSES", (0.01,))
    with ModelServer() as gone:
        pass

    assert outcome(ask(make(gone.url))) == ("", ModelFailure.UNREACHABLE)


@pytest.mark.parametrize(
    "script",
    [{"fault": "hang", "after": 2}, {"fault": "hang"}, {"fault": "hang-headers"}, {"rate": 20}],
)
def test_cancel_ends_the_request_at_the_endpoint(server, make, script):
    server.script(tokens=1000, **script)
    stream = ask(make(server.url))
    reader, outcomes = read_in_thread(stream)
    server.wait_until(lambda s: s.live and s.requests[0].sent >= script.get("after", 0))

    stream.cancel()

    server.wait_until(lambda s: not s.live)
    reader.join()
    assert server.requests[0].end == "left"
    assert outcomes[0][1] is None


def test_cancel_ends_the_pause_before_a_retry(model, server, pause_begins):
    server.script(status=429, retry_after="1.2")
    stream = ask(model)
    reader, outcomes = read_in_thread(stream)
    assert pause_begins.wait(20)

    stream.cancel()
    reader.join()

    assert outcomes == [
        ("", ModelFailure.BUSY)
    ]  # by which the caller knows that no model was called
    assert len(server.requests) == 1


def test_stream_cancelled_before_iteration_sends_nothing(model, server, monkeypatch):
    begin = asyncio.run_coroutine_threadsafe

    def begin_and_be_overtaken(*request):
        begun = begin(*request)
        server.wait_until(lambda s: s.requests)
        return begun

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", begin_and_be_overtaken)
    stream = ask(model)
    stream.cancel()
    stream.cancel()

    assert outcome(stream) == ("", None)
    outcome(ask(model, "next"))
    assert [seen.prompt for seen in server.requests] == ["next"]


def test_cancelled_stream_raises_no_earlier_failure(model, server):
    server.script(tokens=3, fault="drop", after=3)
    stream = ask(model)
    pieces = iter(stream)
    next(pieces)
    server.wait_until(lambda s: s.requests[0].end)

    stream.cancel()

    assert all(isinstance(piece, str) for piece in pieces)


def test_leaving_the_iteration_ends_the_request(model, server):
    server.script(tokens=1000, rate=50)

    for _ in ask(model):
        break

    server.wait_until(lambda s: s.requests[0].end == "left")


def test_close_ends_all_streams(server):
    server.script(tokens=3, fault="hang", after=1)
    model = OpenAIModel(connect(server.url, KEY), "m")
    stream = iter(ask(model))
    next(stream)

    model.close()

    assert list(stream) == []
    server.wait_until(lambda s: not s.live)


def test_bug_is_not_taken_for_a_failing_model(model, monkeypatch):
    def broken(reader, chunk):
        raise ZeroDivisionError

    monkeypatch.setattr(openai_model.ReplyReader, "read", broken)

    with pytest.raises(ZeroDivisionError):
        list(ask(model))


@pytest.mark.slow
def test_fifty_replies_share_one_thread(server, make):
    server.script()
    patient = make(server.url)
    outcome(ask(patient, "The SDK looks its platform up in a thread of its own, once."))
    server.script(tokens=30, rate=6)  # slow enough for all streams to have begun
    before = set(threading.enumerate())
    reading = [read_in_thread(ask(patient)) for _ in range(50)]
    server.wait_until(lambda s: s.live == 50)
    more = set(threading.enumerate()) - before - {reader for reader, _ in reading}
    for reader, _ in reading:
        reader.join()

    text = "".join(f"word{n} " for n in range(1, 31))
    assert [outcomes for _, outcomes in reading] == [[(text, None)]] * 50
    assert more == set()


def test_refused_max_tokens_is_sent_under_another_name(model, server):
    server.script(refuses="max_tokens")

    assert outcome(ask(model, "Hi", max_tokens=2)) == ("You said:", None)
    assert outcome(ask(model, "Hi", max_tokens=2)) == ("You said:", None)
    server.script()
    # the other model has its own refused parameters
    outcome(ask(model.named("other"), max_tokens=2))

    sent = [
        (s.body["model"], s.body.get("max_tokens"), s.body.get("max_completion_tokens"))
        for s in server.requests
    ]
    assert sent == [("m", 2, None), ("m", None, 2), ("m", None, 2), ("other", 2, None)]


def test_refused_stream_options_are_left_out(model, server):
    server.script(refuses="stream_options")

    assert list(ask(model, "Hi")) == ["You", " said:", " Hi"]
    assert "stream_options" not in server.requests[-1].body


def test_refused_parameter_is_known_after_a_stopped_reply(model, server):
    server.script(refuses="stream_options", tokens=1000, rate=20)
    stream = ask(model)
    next(iter(stream))
    stream.cancel()
    server.wait_until(lambda s: not s.live)
    server.script(refuses="stream_options")

    outcome(ask(model))

    sent = ["stream_options" in seen.body for seen in server.requests]
    assert sent == [True, False, False]


def test_lesson_is_not_forgotten_by_a_reply_that_began_before(model, server):
    server.script(tokens=3, held=1)
    older = iter(ask(model))
    next(older)
    server.script(refuses="stream_options")
    outcome(ask(model))

    server.go_on()
    list(older)
    outcome(ask(model))

    assert "stream_options" not in server.requests[-1].body
    assert len(server.requests) == 4


def test_refusal_that_quotes_the_prompt_refuses_no_parameter(model, server):
    server.script(status=400)
    prompt = "Why is stream_options ignored, and what is max_completion_tokens?"
    assert outcome(ask(model, prompt)) == ("", ModelFailure.REJECTED)
    server.script()

    outcome(ask(model))

    assert {"stream_options", "max_tokens"} <= server.requests[-1].body.keys()


REPLY_LIMIT = "max_tokens is too large: 9000. This model supports at most 4096 completion tokens."
COUNTED = f"{CONTEXT_LENGTH}. You requested 9700 tokens (700 in the messages)"


@pytest.mark.parametrize(
    ("error", "most", "asked", "failure"),
    [
        (REPLY_LIMIT, 4096, [9000, 4096], None),
        (COUNTED, 7492, [9000, 7492], None),
        (CONTEXT_LENGTH, 7492, [9000, 2048], None),
        # only one retry, and only if there is room for a reply
        (REPLY_LIMIT, 1, [9000, 4096], ModelFailure.REPLY_LIMIT),
        (f"{CONTEXT_LENGTH}. (8192 in the messages)", 1, [9000], ModelFailure.TOO_LONG),
        # without a number, a quarter is tried, then 1,024
        ("max_tokens is too large", 2250, [9000, 2250], None),
        ("max_tokens is too large", 1, [9000, 2250, 1024], ModelFailure.REPLY_LIMIT),
    ],
)
def test_refused_length_is_retried_within_the_stated_limit(
    model, server, error, most, asked, failure
):
    server.script(most=most, error=error, tokens=1)

    assert outcome(ask(model, max_tokens=9000)) == ("" if failure else "word1 ", failure)
    assert [seen.body["max_tokens"] for seen in server.requests] == asked


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize(
    ("numbers", "asked", "failure"),
    [
        ("Limit 12000, Requested 14137", [9000, 6863], None),
        # the prompt alone is longer than the limit
        ("Limit 12000, Requested 21000", [9000], ModelFailure.TOO_LONG),
    ],
)
def test_reply_is_shortened_to_the_tokens_per_minute(
    make, monkeypatch, status, numbers, asked, failure
):
    sent, learned = [], []
    refusal = {
        "error": {"message": f"Request too large on tokens per minute (TPM): {numbers}, retry"}
    }
    whole = 'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'

    async def answer(_, request):
        sent.append(json.loads(await request.aread())["max_tokens"])
        if sent[-1] == 9000:
            return httpx2.Response(status, json=refusal)
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=whole.encode())

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    model = make("http://llm.test/v1", on_refusal=lambda _, refusal: learned.append(refusal))

    assert outcome(ask(model, max_tokens=9000)) == ("" if failure else "Hi", failure)
    assert (sent, learned) == (asked, [])


LM_STUDIO = "The model is loaded with context length of only 4096 tokens, which is not enough."


@pytest.mark.parametrize(
    ("status", "text", "error", "failure"),
    [
        (200, "", {"message": COUNTED, "code": 400}, None),  # vLLM behind a gateway
        (200, "", {"error_type": "BadRequest", "error_message": COUNTED}, None),
        (200, "", {"message": LM_STUDIO}, None),
        (200, "", LM_STUDIO, None),
        (200, "", {"message": "the prompt is too long"}, ModelFailure.TOO_LONG),
        (200, "Hi", {"message": COUNTED}, ModelFailure.BROKEN),
        (400, "", LM_STUDIO, None),
        (400, "", {"message": "exceeds the available context size", "n_ctx": 8192}, None),
        # a list of fields, as FastAPI sends it, quotes the request
        (422, "", {"detail": [{"input": COUNTED}]}, ModelFailure.REJECTED),
    ],
)
def test_refusal_is_read_in_an_event_and_in_any_field(
    make, monkeypatch, status, text, error, failure
):
    asked, learned = [], []
    begun = json.dumps({"choices": [{"delta": {"content": text}}]})
    event = f"data: {begun}\n\nevent: error\ndata: {json.dumps({'error': error})}\n\n"
    refusal = event if status == 200 else json.dumps({"error": error})
    whole = 'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'

    async def answer(_, request):
        asked.append(json.loads(await request.aread())["max_tokens"])
        is_refused = asked[-1] == 9000
        headers = {"content-type": "text/event-stream"}
        body = (refusal if is_refused else whole).encode()
        return httpx2.Response(status if is_refused else 200, headers=headers, content=body)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    model = make("http://llm.test/v1", on_refusal=lambda _, refusal: learned.append(refusal))

    assert outcome(ask(model, max_tokens=9000)) == (text if failure else "Hi", failure)
    assert len(asked) == (1 if failure else 2)
    assert bool(learned) == (failure is None)


@pytest.fixture
def refused(make, monkeypatch):
    """Let an endpoint answer with one *refusal* (a status and a message) after the other, then "Hi"; return what is asked and learnt."""
    monkeypatch.setattr(openai_model, "_PAUSES", (0.01, 0.01))
    whole = 'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\n'
    whole_json = '{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}'
    answers, asked, learnt = [], [], []

    async def answer(_, request):
        asked.append(json.loads(await request.aread()))
        if answers:
            status, message = answers.pop(0)
            return httpx2.Response(status, json={"error": {"message": message}})
        text = whole if asked[-1]["stream"] else whole_json
        return httpx2.Response(200, content=text.encode())

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    model = make("http://llm.test/v1", on_refusal=lambda _, limits: learnt.append(limits))

    def play(*refusals, prompt="Hello"):
        answers[:], asked[:], learnt[:] = refusals, [], []
        return outcome(ask(model, prompt, max_tokens=9000)), asked, learnt

    return play


def test_each_lesson_counts_once_and_none_blocks_another(refused):
    at_most, window = "max_tokens must be at most 4096", f"{CONTEXT_LENGTH}. (7000 in the messages)"

    told, asked, learnt = refused((400, at_most), (400, window), (402, "can only afford 391"))

    assert told == ("Hi", None)
    assert [body["max_tokens"] for body in asked] == [9000, 4096, 1192, 391]
    assert learnt == [LimitRefusal(context_tokens=8192, reply_tokens=4096)]


def test_prompt_leads_to_at_most_five_requests(refused):
    lessons = ["max_tokens is at most 4096", "stream_options?", "no system role is supported"]
    lessons += ["streaming is not supported", "can only afford 391"]

    told, asked, learnt = refused(*((400, lesson) for lesson in lessons))

    assert told == ("", ModelFailure.REJECTED)
    assert (len(asked), learnt) == (5, [])


@pytest.mark.parametrize(
    ("lesson", "prompt"),
    [
        ("max_tokens must be at most 4096", "Is 4096 enough?"),
        ("system role not supported", "Why is the system role not supported?"),
    ],
)
def test_lesson_that_the_request_may_have_taught_is_not_remembered(refused, lesson, prompt):
    told, asked, learnt = refused((400, lesson), prompt=prompt)
    assert (told, len(asked), learnt) == (("Hi", None), 2, [])

    _, asked, _ = refused(prompt=prompt)

    assert (asked[0]["max_tokens"], len(asked[0]["messages"])) == (9000, 2)


def test_window_without_room_is_remembered_at_once_unless_the_prompt_names_it(refused):
    full = f"{CONTEXT_LENGTH}. (8192 in the messages)"

    assert refused((400, full))[2] == [LimitRefusal(context_tokens=8192)]
    assert refused((400, full), prompt="Is it 8192?")[2] == []


def test_failure_has_the_wait_that_the_message_states(make, monkeypatch):
    async def answer(*_):
        error = {"error": {"message": "Rate limit reached. Please try again in 2m30s."}}
        return httpx2.Response(429, json=error)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)

    with pytest.raises(ModelUnavailable) as failed:
        list(ask(make("http://llm.test/v1")))

    assert 147 < failed.value.wait_seconds <= 150


def listing(model):
    """Return the failure of the list of models."""
    with pytest.raises(ModelUnavailable) as caught:
        model.list_models()
    return caught.value.failure


def test_missing_list_of_models_is_a_failure(model, server, make, monkeypatch):
    monkeypatch.setattr(openai_model, "_LIST_SECONDS", 0.2)
    server.models = None

    assert listing(model) is ModelFailure.SILENT
    assert listing(make("http://127.0.0.1:9/v1")) is ModelFailure.UNREACHABLE


LONG_LIST = f'{{"data": [{{"id": "{"x" * (5 << 20)}"}}]}}'


@pytest.mark.parametrize("body", ['{"data": ', "1" * 5_000, "[" * 100_000, LONG_LIST], ids=len)
def test_list_of_models_that_cannot_be_read_fails(make, monkeypatch, body):
    async def sent():
        yield body.encode()

    async def answer(*_):
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=sent())

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)

    assert listing(make("http://llm.test/v1")) is ModelFailure.GARBLED


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (400, CONTEXT_LENGTH, ModelFailure.TOO_LONG),  # OpenAI, vLLM
        (400, "Error code: context_length_exceeded", ModelFailure.TOO_LONG),
        (400, "Requested tokens (9000) exceed context window of 4096", ModelFailure.TOO_LONG),
        (400, "the request exceeds the available context size", ModelFailure.TOO_LONG),  # llama.cpp
        (413, "prompt is too long: 210000 tokens > 200000 maximum", ModelFailure.TOO_LONG),
        (400, "The input token count (99) exceeds the maximum", ModelFailure.TOO_LONG),  # Gemini
        (400, LM_STUDIO, ModelFailure.TOO_LONG),
        (400, "litellm.ContextWindowExceededError", ModelFailure.TOO_LONG),
        (413, "Request body too large. Max size: 8000 tokens.", ModelFailure.TOO_LONG),
        (422, "`inputs` must have less than 1024 tokens. Given: 1872", ModelFailure.TOO_LONG),
        (400, "Invalid value for temperature", ModelFailure.REJECTED),
        (404, "No model has such a context window", ModelFailure.REJECTED),
    ],
)
def test_too_long_prompt_is_told_from_other_refusals(model, server, status, error, failure):
    server.script(status=status, error=error)

    assert outcome(ask(model)) == ("", failure)


def test_prompt_does_not_follow_a_redirect(make, monkeypatch):
    asked = []

    async def redirect(_, request):
        asked.append(request.url.host)
        return httpx2.Response(307, headers={"location": "http://elsewhere.test/v1"})

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", redirect)

    assert outcome(ask(make("http://llm.test/v1"))) == ("", ModelFailure.REJECTED)
    assert asked == ["llm.test"]


@pytest.mark.parametrize(
    ("event", "failure"),
    [
        (": still thinking", None),
        ("data: {", ModelFailure.BROKEN),
        ("data: null", ModelFailure.BROKEN),
        ('data: "\xff"', ModelFailure.BROKEN),
        ("data: Internal error", ModelFailure.BROKEN),
    ],
)
def test_malformed_event_ends_the_reply(make, monkeypatch, event, failure):
    text = '{"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}'
    body = f"data: {text}\n\n{event}\n\n".encode("latin-1")

    async def answer(*_):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)

    assert outcome(ask(make("http://llm.test/v1"))) == ("Hi", failure)


@pytest.mark.parametrize("event", [": ping", "event: ping", "retry: 3000", "data:"])
def test_event_without_data_does_not_end_the_reply(make, monkeypatch, event):
    begun = '{"choices": [{"delta": {"content": "Hello "}}]}'
    ended = '{"choices": [{"delta": {"content": "you"}, "finish_reason": "stop"}]}'
    chunks = (begun, ended, "[DONE]")
    body = "".join(f"{event}\n\nid: {n}\ndata: {chunk}\n\n" for n, chunk in enumerate(chunks))

    async def answer(*_):
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=body.encode())

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)

    assert outcome(ask(make("http://llm.test/v1"))) == ("Hello you", None)


@pytest.fixture
def answer_without_reason(make, monkeypatch):
    """Return the stream of a reply whose one chunk has a *content* and no finish reason, and whose body then has *end*."""

    def answer_without_reason(content, end, reason=None):
        choices = [{"delta": {"content": content}, "finish_reason": reason}]
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        body = f"data: {json.dumps({'choices': choices, 'usage': usage})}\n\n{end}"

        async def answer(*_):
            headers = {"content-type": "text/event-stream"}
            return httpx2.Response(200, headers=headers, content=body.encode())

        monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
        monkeypatch.setattr(openai_model, "_PAUSES", ())
        return ask(make("http://llm.test/v1"))

    return answer_without_reason


@pytest.mark.parametrize("reason", [None, ""])
@pytest.mark.parametrize("content", ["Hi", "<"])
def test_text_before_the_done_mark_needs_no_finish_reason(answer_without_reason, content, reason):
    stream = answer_without_reason(content, "data: [DONE]\n\n", reason)

    assert list(stream) == [content, Usage(3, 1)]


@pytest.mark.parametrize(("content", "end"), [("Hi", ""), ("", "data: [DONE]\n\n")])
def test_reply_without_text_or_done_mark_needs_a_finish_reason(answer_without_reason, content, end):
    stream = answer_without_reason(content, end)

    assert outcome(stream) == (content, ModelFailure.DROPPED)


@pytest.mark.parametrize("cut", range(3, 25))
def test_body_cut_inside_an_event_counts_as_dropped(make, monkeypatch, cut):
    chunk = 'data: {"choices": [{"delta": {"content": "Hü"}}]}\n\n'.encode()
    end = len(chunk) - cut

    async def answer(*_):
        headers = {"content-type": "text/event-stream"}  # a body without a length, as in HTTP/1.0
        return httpx2.Response(200, headers=headers, content=chunk + chunk[:end])

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)

    assert outcome(ask(make("http://llm.test/v1"))) == ("Hü", ModelFailure.DROPPED)


@pytest.mark.parametrize(
    "script",
    [
        {"reply": CANARY},
        {"status": 400},
        {"status": 429},
        {"status": 500},
        *(
            {"fault": fault, "reply": f"{CANARY} more", "after": 1}
            for fault in ("hang", "drop", "malformed", "error-event", "unended", "html", "refuse")
        ),
    ],
)
def test_text_and_keys_stay_out_of_logs_and_tracebacks(model, server, caplog, script):
    caplog.set_level(logging.DEBUG)
    server.script(**script)
    printed, chained = repr(ask(model, CANARY)) + repr(model), (None, None)

    try:
        list(ask(model, CANARY))
    except ModelUnavailable as error:
        printed += "".join(traceback.format_exception(error))
        chained = error.__cause__, error.__context__

    assert chained == (None, None)
    assert server.requests
    assert "openai" in {record.name.split(".")[0] for record in caplog.records}
    assert CANARY not in caplog.text + printed
    assert KEY not in caplog.text + printed


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTPS_PROXY"])
def test_socks_proxy_is_refused_in_a_sentence(monkeypatch, name):
    monkeypatch.setenv(name, "socks5://127.0.0.1:9")

    with pytest.raises(ProxyUnusable, match=name):
        connect("https://llm.example/v1", KEY)
