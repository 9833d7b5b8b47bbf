"""An endpoint that plays a file: what an endpoint of a public report answers.

`.jsonl`: what it streams, an event a line (`_wait`: seconds; `_raw`: as it is; `_end`: a clean end; "$max_tokens": the reply limit
of the request; `_only` title: to requests for a title, to others the text in `_otherwise`). `.json`: an answer until the request
meets `unless_max_tokens` (at most so many), `unless_stream` (not streamed), `unless_role_missing` or `unless_lacks` (a parameter);
then `reply`.
"""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(__file__).parent


class Player(BaseHTTPRequestHandler):
    """Answers each request with the answer of its server; `server.asked` has the requests in order."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)
        answer = self.server.answer
        if isinstance(answer, list) and "_only" in answer[0]:
            answer = answer[1:] if is_for_title(asked) else streamed(answer[0]["_otherwise"])
        if isinstance(answer, list):
            self._stream(answer, asked)
        elif not _is_met(answer, asked):
            body = answer["body"]
            text = body if isinstance(body, str) else json.dumps(body)
            self._send(answer["status"], text, answer.get("headers", {}))
        elif asked.get("stream"):
            self._stream(streamed(answer["reply"]), asked)
        else:
            choice = {"message": {"content": answer["reply"]}, "finish_reason": "stop"}
            self._send(200, json.dumps({"choices": [choice]}), {"content-type": "application/json"})

    def _send(self, status, text, headers):
        body = text.encode()
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events, asked):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
        for event in events:
            match event:
                case {"_wait": seconds}:
                    time.sleep(seconds / self.server.speed)
                case {"_raw": text}:
                    self.wfile.write(text.encode())
                case {"_end": _}:
                    break
                case _:
                    text = event if isinstance(event, str) else json.dumps(event)
                    text = text.replace('"$max_tokens"', str(limit))
                    self.wfile.write(f"data: {text}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True


def streamed(text):
    """Return the events of a reply of one piece."""
    choice = {"delta": {"content": text}, "finish_reason": "stop"}
    return [{"choices": [choice]}, "[DONE]"]


def is_for_title(asked):
    return "titles" in asked["messages"][0]["content"]


def _is_met(answer, asked):
    limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
    missing = answer.get("unless_role_missing")
    return any(
        (
            limit <= answer.get("unless_max_tokens", 0),
            "unless_stream" in answer and not asked.get("stream"),
            missing and missing not in [message["role"] for message in asked["messages"]],
            "unless_lacks" in answer and answer["unless_lacks"] not in asked,
        )
    )


def read(name):
    """Return the answer in the file whose name begins with *name*."""
    (path,) = FOLDER.glob(f"{name}-*.json*")
    text = path.read_text(encoding="utf-8")
    return (
        [json.loads(line) for line in text.splitlines()]
        if path.suffix == ".jsonl"
        else json.loads(text)
    )


@contextmanager
def playing(answer, speed=1):
    """Yield a server that answers with *answer*, in a thread; its pauses are *speed* times as short."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Player)
    server.answer, server.asked, server.speed = answer, [], speed
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
