"""An endpoint that cuts, glues, tears and floods its answers. It draws a fault for each prompt from a seed, and knows which
replies are whole.

What it can't show: faults of the network below HTTP, and the habits of real endpoints, which `test_answers.py` has.
"""

# ruff: noqa: RUF001 (words in several scripts)

import gzip
import json
import random
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from services.llm.openai_model import OpenAIModel, connect

# the prompt to which a piece comes every 20 ms
STEADY, STEADY_PIECES = "A steady reply", 50
SILENCE = 2.0  # seconds after which the model under test takes a stream for silent
_WORDS = (
    "peas",
    "beans",
    "leeks",
    "豌豆",
    "горох",
    "🌱",
    "e\u0301",
    '"quoted"',
    "\\back",
    "{brace}",
)
_WORDS += ("data: ", "[DONE]", "x\nand\n\nso", "5 < 6", "# peas")


@dataclass(frozen=True)
class Answer:
    """What is sent: octets, and pauses in seconds. *text*: the reply, if it is whole; None: nothing may be stored as whole.

    *may_fail*: the reply is whole, or incomplete. *written*: the text of which an incomplete reply is a beginning; "": unknown.
    """

    fault: str
    sent: tuple[bytes | float, ...]
    text: str | None
    may_fail: bool = False
    written: str = ""


def answer(seed, number):
    """Return the answer to the prompt *number*: the same for the same seed and number."""
    chance = random.Random(f"{seed}:{number}")
    fault = chance.choice(list(FAULTS))
    return FAULTS[fault](fault, chance)


def _chunk(text=None, finish=None, **fields):
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | fields


def _pieces(chance):
    return [f"{chance.choice(_WORDS)} " for _ in range(chance.randint(2, 12))] + ["end."]


def _lines(events, end="\n"):
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return [f"data: {text}{end}{end}".encode() for text in texts]


def _streamed(*sent, head=b"", kind=b"text/event-stream", status=b"200 OK"):
    first = b"HTTP/1.1 " + status + b"\r\nContent-Type: " + kind + b"\r\nConnection: close\r\n"
    return (first + head + b"\r\n", *sent)


def _reply(chance):
    """Return the events of a whole reply, and its text."""
    pieces = _pieces(chance)
    ends = [_chunk(finish="stop"), "[DONE]"]
    if chance.random() < 0.3:
        ends.insert(1, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}})
    return [_chunk(piece) for piece in pieces], ends, "".join(pieces)


def _whole(change):
    """Return a fault that changes how a whole reply is sent."""

    def make(fault, chance):
        events, ends, text = _reply(chance)
        return Answer(fault, _streamed(*change(chance, events, ends)), text)

    return make


def _broken(change, *, may_fail=False):
    """Return a fault after which the reply isn't whole or, with *may_fail*, may be."""

    def make(fault, chance):
        events, ends, text = _reply(chance)
        sent = _streamed(*change(chance, events, ends))
        return Answer(fault, sent, text if may_fail else None, may_fail=may_fail, written=text)

    return make


def _at_random(chance, octets, least=1, most=9):
    """Cut *octets* into pieces of random sizes."""
    pieces = []
    while octets:
        size = chance.randint(least, most)
        pieces.append(octets[:size])
        octets = octets[size:]
    return pieces


def _glued(chance, events, ends):
    at = chance.randrange(len(events) - 1)
    between = chance.choice(["", " ", ",", ", ", "event: x\ndata: ", "\ndata: "])
    two = json.dumps(events[at]) + between + json.dumps(events[at + 1])
    return _lines([*events[:at], two, *events[at + 2 :], *ends])


def _with(chance, events, ends, extra):
    """Return the reply with *extra*, octets, behind its first events."""
    at = chance.randint(1, len(events))
    return [*_lines(events[:at]), extra, *_lines([*events[at:], *ends])]


def _cut(chance, events, ends):
    """Return the beginning of the reply: before the end of the event with the finish reason."""
    octets = b"".join(_lines([*events, ends[0]])).rstrip()
    return [octets[: chance.randrange(1, len(octets) - 1)]]


def _torn(chance, events, ends):
    """Break an event so that no parser of JSON reads it."""
    lines = _lines(events)
    at = chance.randrange(len(lines))
    text = json.dumps(events[at])
    while True:
        begin = chance.randrange(len(text))
        torn = text[:begin] + chance.choice(["", "\x00", '"', "}"]) + text[begin + 3 :]
        try:
            json.loads(torn)
        except ValueError:
            break
    lines[at] = f"data: {torn}\n\n".encode()
    return [*lines, *_lines(ends)]


def _wrong(chance):
    value = chance.choice([None, 3, -1.5, True, [], {}, "x", [None], {"a": []}, [[[]]], 1e308])
    return chance.choice(
        [
            {"choices": [{"index": 0, "delta": value}]},
            {"choices": [{"index": value, "delta": {"role": value}}]},
            {"choices": [], "usage": value},
            {"choices": [], "id": value, "model": value, "created": value},
        ]
    )


def _drip(chance, events, ends):
    """Begin an event, and send the rest of it octet by octet, for longer than the model waits."""
    begun, rest = _lines(events[:1]), b"data: " + b" " * 50
    drips = [part for octet in rest for part in (bytes([octet]), SILENCE / 40)]
    return [*begun, *drips]


def _status(fault, chance):
    body = chance.choice(
        [
            b"<html>" + b"x" * chance.randint(0, 300_000),
            b"[" * 100_000,
            b'{"error": {"message": "' + b"\xff\xfe" * 50 + b'"}}',
            json.dumps({"error": {"message": _pieces(chance), "code": 10**300}}).encode(),
            json.dumps(
                [{"error": {"message": "maximum context length is 600", "code": "x"}}]
            ).encode(),
            b'{"error": ' + b"9" * 5_000 + b"}",
            b"",
        ]
    )
    code = chance.choice([400, 401, 402, 403, 404, 413, 418, 422, 429, 451, 500, 502, 503, 529])
    return Answer(fault, _streamed(body, status=b"%d Oops" % code, kind=b"application/json"), None)


def _json(fault, chance):
    text = "".join(_pieces(chance))
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    if chance.random() < 0.5:
        return Answer(fault, _streamed(body, kind=b"application/json"), text)
    body = body[: chance.randrange(1, len(body) - 2)]
    return Answer(fault, _streamed(body, kind=b"application/json"), None)


def _headers(fault, _):
    return Answer(
        fault, (b"HTTP/1.1 200 OK\r\n", *[b"X-Peas: " + b"p" * 990 + b"\r\n"] * 300), None
    )


def _gzipped(fault, chance):
    events, ends, _ = _reply(chance)
    body = gzip.compress(b"".join(_lines([*events, *ends])) + b" " * 10_000_000)
    return Answer(fault, _streamed(body, head=b"Content-Encoding: gzip\r\n"), None)


def _redirect(fault, _):
    return Answer(
        fault, _streamed(head=b"Location: /v1/chat/completions\r\n", status=b"307 X"), None
    )


_WRONG_USAGE = {"prompt_tokens": -1, "completion_tokens": "x"}
_ERRORS = [
    {"error": {"message": "overloaded", "code": 500}},
    {"object": "error", "message": "too long"},
    {"object": "error", "message": None, "choices": []},
    {"message": {"detail": [{"msg": "no"}]}},
    {"error": "broken"},
    {"error": {}},
    {"choices": [{"delta": {}, "error": {"code": 502}, "finish_reason": None}]},
]
_FAILURES = ["error", "network_error", "abort", "SAFETY", "sensitive", "content_filter"]
_HUGE = b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"x" * 1_200_000 + b'"}}]}\n\n'
FAULTS = {
    "whole": _whole(lambda _, events, ends: _lines([*events, *ends])),
    "small packets": _whole(
        lambda chance, events, ends: _at_random(chance, b"".join(_lines([*events, *ends])))
    ),
    "line ends": _whole(lambda _, events, ends: _lines([*events, *ends], "\r\n")),
    "comments": _whole(
        lambda chance, events, ends: _with(chance, events, ends, b": alive\n\n" * 50)
    ),
    "glued": _whole(_glued),
    "without a finish reason": _whole(lambda _, events, ends: _lines([*events, "[DONE]"])),
    "text behind the end": _whole(
        lambda _, events, ends: _lines([*events, ends[0], "[DONE]", _chunk("more")])
    ),
    "wrong usage": _whole(
        lambda chance, events, ends: _lines(
            [*events, ends[0], {"choices": [], "usage": _WRONG_USAGE}, "[DONE]"]
        )
    ),
    "wrong types": _broken(
        lambda chance, events, ends: _with(
            chance, events, ends, b"".join(_lines([_wrong(chance) for _ in range(3)]))
        ),
        may_fail=True,
    ),
    "cut": _broken(_cut),
    "no end": _broken(lambda _, events, ends: _lines(events)),
    "torn": _broken(_torn),
    "deep": _broken(
        lambda chance, events, ends: _with(
            chance, events, ends, b"data: " + b"[" * 100_000 + b"]" * 100_000 + b"\n\n"
        )
    ),
    "long integer": _broken(
        lambda chance, events, ends: _with(
            chance, events, ends, b'data: {"choices": [], "created": ' + b"7" * 5_000 + b"}\n\n"
        )
    ),
    "not UTF-8": _broken(
        lambda chance, events, ends: _with(
            chance, events, ends, b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n'
        )
    ),
    "huge event": _broken(lambda chance, events, ends: _with(chance, events, ends, _HUGE)),
    "error event": _broken(
        lambda chance, events, ends: _with(
            chance,
            events,
            ends,
            chance.choice(
                [*_lines(_ERRORS), b"event: error\ndata: {}\n\n", b'error: {"code": 5}\n\n']
            ),
        )
    ),
    "a finish reason that names a failure": _broken(
        lambda chance, events, _: _lines(
            [*events, _chunk(finish=chance.choice(_FAILURES)), "[DONE]"]
        )
    ),
    "pieces as lines of JSON": _broken(
        lambda _, events, __: [json.dumps(event).encode() + b"\n" for event in events]
    ),
    "drip": _broken(_drip),
    "web page": _broken(lambda *_: [b"<html><body>Sign in</body></html>"]),
    "nothing": _broken(lambda *_: []),
    "only an end": _broken(lambda *_: _lines(["[DONE]"])),
    "status": _status,
    "whole JSON": _json,
    "endless headers": _headers,
    "gzip": _gzipped,
    "redirect": _redirect,
}


def _steady():
    pieces = _lines([_chunk("word ")] * STEADY_PIECES)
    parts = [part for piece in pieces for part in (piece, 0.02)]
    return _streamed(*parts, *_lines([_chunk(finish="stop"), "[DONE]"]))


class _Hostile(BaseHTTPRequestHandler):
    """Sends the answer to the number with which the last message ends."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = asked["messages"][-1]["content"]
        number = 0 if prompt == STEADY else int(prompt.rpartition(" ")[2])
        sent = _steady() if prompt == STEADY else answer(self.server.seed, number).sent
        self.close_connection = True
        with suppress(OSError):  # the client has ended the request
            for part in sent:
                if isinstance(part, float):
                    time.sleep(part)
                else:
                    self.wfile.write(part)
            self.connection.shutdown(socket.SHUT_WR)


@contextmanager
def hostile_model(seed):
    """Yield a model, by the app's own client, at an endpoint whose faults are drawn from *seed*."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    server.daemon_threads, server.seed = True, seed
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        client = connect(f"http://127.0.0.1:{server.server_port}/v1", "key")
        limits = {"first_token_seconds": 4 * SILENCE, "between_tokens_seconds": SILENCE}
        with closing(OpenAIModel(client, "m", **limits)) as model:
            yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
