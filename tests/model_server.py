"""A scripted model behind an OpenAI-compatible address, for tests, journeys and benchmarks.

In a test: `with ModelServer() as server:`. As a process: `python -m tests.model_server --port 0`, which prints its
address; with `--while-stdin` it ends with the process that started it.

`server.script(...)` or POST /_script sets the answer to all following requests. A mark in the last user message, which a
user of a browser can type, sets the answer to that request:

    Tell me more [[tokens=40 rate=20 fault=drop after=5 times=1]]

A mark or script with `times=N` applies to N requests. The app's own requests are collected separately, in
`title_requests`, `summary_requests` and `facts_requests`, and get a useless answer, unless
`server.script_titles(...)`, `script_summaries`, `script_facts` or a mark in the conversation sets another:
[[title=Peas_in_wet_soil summary=They_sow_peas. facts=Has_a_dog.]]. `Script` documents the words. GET /_requests
returns the requests and how they ended; DELETE /_requests drops them.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partialmethod
from typing import Any

STAMP_TURN = 100_000  # milliseconds after which the stamps begin again at 0
FAULTS = {
    "": "a whole reply",
    "hang": "silence after `after` tokens, until the client leaves",
    "hang-headers": "silence before the response begins",
    "drop": "the connection breaks after `after` tokens",
    "refuse": "the connection closes before the response begins",
    "malformed": "an event that is not JSON after `after` tokens",
    "error-event": "an error as an event after `after` tokens",
    "unended": "a clean end after `after` tokens, with neither finish_reason nor [DONE]",
    "hang-at-end": "a whole reply, then silence instead of the [DONE]",
    "drop-at-end": "a whole reply, then the connection breaks before the [DONE]",
    "no-done": "a whole reply without the [DONE] at its end",
    "html": "a web page with status 200",
    "empty": "status 200 and no event",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A scripted answer of the server."""

    reply: str = ""  # empty: numbered words if `tokens` is given, else the prompt
    # tokens before the reply, which are not part of it but count against its limit
    thoughts: int = 0
    thought: str = "Hm. "  # the text of each thought, with _ for blanks
    thinks_as: str = "reasoning_content"  # the fields of thoughts in a chunk, separated by commas
    parts: str = ""  # the separator of the tokens of `reply`, which is not sent; empty: blanks
    tokens: int = 0
    delay: float = 0  # seconds before the first token
    rate: float = 0  # tokens a second; 0: all at once
    thought_rate: float = 0  # thoughts a second; 0: all at once
    held: int = 0  # tokens after which the reply waits for `ModelServer.go_on`
    fault: str = ""  # a key of FAULTS
    after: int = 0
    status: int = 200  # any other than 200: an error of that status
    retry_after: str = ""
    error: str = "scripted"  # the text of an error
    code: str = ""  # the code of an error
    refuses: str = ""  # a parameter that is refused with status 400
    finish: str = ""  # the finish_reason; empty: "length" at the request's limit, else "stop"
    endless: int = 0  # 1: the reply ignores the request's length limit
    # the longest allowed reply: a request for more is answered with status 400 and `error`
    most: int = 0
    usage: str = "last"  # "last", "each" (with every chunk) or "none"
    counts: int = 0  # reported tokens of the reply; 0: the sent ones
    # characters per counted token; 0: each word, and each piece of the reply, is a token
    signs: int = 0
    cached: int = 0
    # 1: each token is the time at which it is sent, in ms since the last STAMP_TURN
    stamped: int = 0
    title: str = ""  # in a mark: the title of the conversation, with _ for blanks
    summary: str = ""  # in a mark: the summary of the conversation
    facts: str = ""  # in a mark: the fact to note; `2:Lives_in_Bern.` replaces the second fact
    times: int = 0  # the number of requests that the script applies to; 0: all

    def __post_init__(self):
        if self.fault not in FAULTS:
            raise ValueError(f"no such fault: {self.fault}")

    @classmethod
    def parse(cls, text):
        mark = _MARK.search(text)
        if not mark:
            return None
        kinds = {each.name: each.type for each in fields(cls)}
        words = dict(word.split("=", 1) for word in mark[1].split())
        return cls(**{name: kinds[name](value) for name, value in words.items()})


# How the app's own requests begin, in the first message or the last; and an answer that is useless
# for all of them.
_ASIDES = {
    "You give conversations their titles.": "title",
    "You keep the memory of a conversation": "summary",
    "[The app asks this, not the user.] Summarise": "summary",
    "You note what is worth remembering about a user": "facts",
}
_NONE = Script(reply="***")
_MARK = re.compile(r"\[\[(\w+=.*?)\]\]")


@dataclass(slots=True, kw_only=True)
class Seen:
    """A request and its end: "" while it is open, "whole", "fault" or "left"."""

    body: dict[str, Any] = field(repr=False)
    authorization: str = field(repr=False)
    began: float = field(default_factory=time.monotonic)
    sent: int = 0  # the number of sent tokens
    said: str = field(default="", repr=False)
    end: str = ""
    seconds: float = 0

    @property
    def aside(self):
        """The kind of a background call, "title", "summary" or "facts"; "" for a user's prompt."""
        messages = self.body.get("messages") or [{}]
        ends = [str(message.get("content")) for message in (messages[0], messages[-1])]
        return next(
            (name for mark, name in _ASIDES.items() if any(e.startswith(mark) for e in ends)), ""
        )

    @property
    def prompt(self):
        """The last user message."""
        said = [m["content"] for m in self.body["messages"] if m["role"] == "user"]
        return said[-1] if said else ""


class ModelServer:
    """The server in a thread. Any thread may read its state."""

    def __init__(self, port=0):
        self.port = port
        self.requests = []
        self.asides = {name: [] for name in _ASIDES.values()}
        self.title_requests, self.summary_requests, self.facts_requests = self.asides.values()
        # the list of models; None: the server does not answer such requests yet
        self.models = [{"id": "scripted", "max_model_len": 9_216}]
        self._script = Script()
        self._aside_scripts = {}
        # the number of requests answered by a script or a mark
        self._used = Counter[Script | str]()
        self._held = []  # an event for each waiting reply
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def url(self):
        """The value of OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def live(self):
        return sum(not seen.end for seen in self.requests)

    def script(self, **words):
        """Answer with these *words* from now on; without any, normally."""
        self._script = Script(**words)
        self._aside_scripts.clear()
        self._used.clear()

    def _script_aside(self, aside, **words):
        """Answer the app's own requests of one kind with these *words*, until the next `script`."""
        self._aside_scripts[aside] = Script(**words)

    script_titles = partialmethod(_script_aside, "title")
    script_summaries = partialmethod(_script_aside, "summary")
    script_facts = partialmethod(_script_aside, "facts")

    def go_on(self):
        """Let the held reply continue, once it is held."""
        self.wait_until(lambda _: self._held)
        self._loop.call_soon_threadsafe(self._held[-1].set)

    def wait_until(self, holds, within=60):
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self), within):
                raise AssertionError(f"not within {within} s: {self.requests}")

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self):
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()  # asyncio.run cancels connections that still hang

    async def _answer(self, reader, writer):
        # one request per connection, so there is no keep-alive
        try:
            method, path, headers, body = await _request(reader)
            match method, path:
                case "POST", "/v1/chat/completions":
                    await self._complete(_Client(reader, writer), headers, body)
                case "GET", "/v1/models":
                    while self.models is None:
                        await asyncio.sleep(0.01)
                    _send(writer, {"object": "list", "data": self.models})
                case "GET", "/_requests":
                    seen = [asdict(each) | {"authorization": ""} for each in self.requests]
                    _send(writer, {"live": self.live, "requests": seen})
                case "DELETE", "/_requests":
                    self.requests.clear()
                    for seen in self.asides.values():
                        seen.clear()
                    _send(writer, {})
                case "POST", "/_script":
                    self.script(**body)
                    _send(writer, {})
                case _:
                    _send(writer, {"error": {"message": "no such path"}}, status=404)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    async def _complete(self, client, headers, body):
        seen = Seen(body=body, authorization=headers.get("authorization", ""))
        (self.asides[seen.aside] if seen.aside else self.requests).append(seen)
        self._note()
        end = "left"
        try:
            end = await client.unless_it_leaves(self._act(client, seen, self._script_for(seen)))
        finally:
            seen.end, seen.seconds = end, time.monotonic() - seen.began
            self._note()

    def _note(self):
        with self._changed:
            self._changed.notify_all()

    def _script_for(self, seen):
        if seen.aside:
            everything = "\n".join(str(message["content"]) for message in seen.body["messages"])
            words = re.findall(rf"\[\[[^]]*\b{seen.aside}=(\S+?)[\s\]]", everything)
            script = self._aside_scripts.get(seen.aside, _NONE)
            if not words:
                return script
            said = words[0].replace("_", " ")
            return Script(reply=_facts(said) if seen.aside == "facts" else said)
        marked = Script.parse(seen.prompt)
        if marked and replace(marked, title="", summary="", facts="") == Script():
            marked = None  # the mark does not concern the reply
        for script, key in ((marked, seen.prompt), (self._script, self._script)):
            if script and not (script.times and self._used[key] >= script.times):
                self._used[key] += 1
                return script
        return Script()

    async def _act(self, client, seen, script):
        if script.refuses in seen.body and script.refuses:
            instead = " Use 'max_completion_tokens' instead." * (script.refuses == "max_tokens")
            says = f"Unsupported parameter: '{script.refuses}' is not supported.{instead}"
            return client.error(400, {"message": says, "param": script.refuses})
        limit = seen.body.get("max_tokens") or seen.body.get("max_completion_tokens") or 0
        if script.most and limit > script.most:
            return client.error(400, {"message": script.error})
        if script.status != 200:
            says = {"message": f"{script.error}; you said: {seen.prompt}", "type": "scripted"}
            says["code"] = script.code or None
            return client.error(script.status, says, script.retry_after)
        match script.fault:
            case "hang-headers":
                await asyncio.Event().wait()
            case "refuse":
                return client.drop()
            case "html":
                return client.page()
            case _:
                client.begin()
        if script.fault == "empty":
            return client.end()
        words = _words(script, seen)
        limit = len(words) if script.endless else limit or len(words)
        await client.event(_chunk(seen, script, delta={"role": "assistant", "content": ""}))
        await asyncio.sleep(script.delay)
        for _ in range(min(script.thoughts, limit)):
            seen.sent += 1
            limit -= 1
            thought = script.thought.replace("_", " ")
            fields = dict.fromkeys(script.thinks_as.split(","), thought)
            await client.event(_chunk(seen, script, delta=fields))
            self._note()
            if script.thought_rate:
                await asyncio.sleep(1 / script.thought_rate)
        began = time.monotonic()
        for number, word in enumerate([*words[:limit], None]):
            if script.fault in _MID_FAULTS and number == script.after:
                return await self._fail(client, script.fault, seen.prompt)
            if word is None:
                break
            seen.sent += 1
            if script.stamped:
                word = f"{time.time_ns() // 1_000_000 % STAMP_TURN:05} "
            seen.said += word
            await client.event(_chunk(seen, script, delta={"content": word}))
            self._note()
            if number + 1 == script.held:
                since = time.monotonic()
                await self._hold(client, seen, script)
                began += time.monotonic() - since
            # timed by the clock, because pauses alone would add up to a slower rate
            if script.rate:
                await asyncio.sleep(began + seen.sent / script.rate - time.monotonic())
        reason = script.finish or ("length" if len(words) > limit else "stop")
        await client.event(_chunk(seen, script, delta={}, finish_reason=reason))
        wants_usage = (seen.body.get("stream_options") or {}).get("include_usage")
        if wants_usage and script.usage == "last":
            await client.event(_chunk(seen, script, usage=_usage(seen, script)))
        if script.fault.endswith("-at-end"):
            return await self._fail(client, script.fault.removesuffix("-at-end"), seen.prompt)
        if script.fault != "no-done":
            client.raw("data: [DONE]\n\n")
        client.end()
        return "whole"

    async def _hold(self, client, seen, script):
        """Wait for `go_on`; send nothing, but often enough not to be taken for silent."""
        event = asyncio.Event()
        self._held.append(event)
        self._note()
        try:
            while not event.is_set():
                await client.event(_chunk(seen, script, delta={"content": ""}))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), 1)
        finally:
            self._held.remove(event)

    async def _fail(self, client, fault, prompt):
        match fault:
            case "hang":
                await asyncio.Event().wait()
            case "drop":
                client.drop()
            case "malformed":
                client.raw(f'data: {{"choices": [{prompt}\n\n')
                client.end()
            case "error-event":
                await client.event({"error": {"message": f"scripted: {prompt}", "code": 500}})
                client.end()
            case "unended":
                client.end()
        return "fault"


_MID_FAULTS = {"hang", "drop", "malformed", "error-event", "unended"}


class _Client:
    """The connection to a client."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    async def unless_it_leaves(self, act):
        answering = asyncio.ensure_future(act)
        leaving = asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else "left"
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    def begin(self):
        self._writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )

    async def event(self, data):
        self.raw(f"data: {json.dumps(data)}\n\n")
        await self._writer.drain()

    def raw(self, text):
        data = text.encode()
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self):
        self._writer.write(b"0\r\n\r\n")
        return "fault"

    def drop(self):
        self._writer.close()  # without the last chunk, so that the client notices the break
        return "fault"

    def error(self, status, error, retry_after=""):
        extra = f"retry-after: {retry_after}\r\n" if retry_after else ""
        _send(self._writer, {"error": error}, status=status, extra=extra)
        return "fault"

    def page(self):
        _send(self._writer, "<!doctype html><p>Welcome", kind="text/html")
        return "fault"


async def _request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return method, path, headers, json.loads(body or "{}")


def _send(writer, body, *, status=200, kind="application/json", extra=""):
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\n{extra}connection: close\r\n"
    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)


def _words(script, seen):
    if script.tokens and not script.reply:
        return [f"word{number} " for number in range(1, script.tokens + 1)]
    if script.parts:
        return script.reply.split(script.parts)
    said = _MARK.sub("", seen.prompt).strip()
    return re.findall(r"\s*\S+|\s+\Z", script.reply or f"You said: {said}")


def _facts(said):
    """Return the answer that notes *said*; if *said* begins with `2:`, the rest replaces the second fact."""
    number, _, text = said.rpartition(":")
    replaced = [{"number": int(number), "fact": text}] if number else []
    return json.dumps({"add": [] if number else [text], "replace": replaced})


def _chunk(seen, script, **said):
    usage = said.pop("usage", _usage(seen, script) if script.usage == "each" else None)
    return {
        "id": "scripted",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": seen.body.get("model", ""),
        "choices": [{"index": 0, "finish_reason": None} | said] if said else [],
        "usage": usage,
    }


def prompt_tokens(seen, signs=0):
    """Return the tokens that the server reports for a prompt whose `Script` has these *signs*."""
    return sum(4 + _tokens(message["content"], signs) for message in seen.body["messages"])


def _tokens(text, signs):
    return -(-len(text) // signs) if signs else len(text.split())


def _usage(seen, script):
    prompt = prompt_tokens(seen, script.signs)
    reply = _tokens(seen.said, script.signs) if script.signs else seen.sent
    reply = script.counts or reply
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reply,
        "total_tokens": prompt + reply,
        "prompt_tokens_details": {"cached_tokens": script.cached},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--while-stdin", action="store_true", help="end when stdin does")
    chosen = parser.parse_args()
    with ModelServer(chosen.port) as server, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        if chosen.while_stdin:
            sys.stdin.read()
        else:
            threading.Event().wait()


if __name__ == "__main__":
    main()
