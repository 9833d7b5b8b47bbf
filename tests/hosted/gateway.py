"""The gateway before the rig: the key rules of hosted Supabase, and for tests a count of calls and a delay."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "keep-alive"}
_NO_KEY = {"message": "Invalid API key", "hint": "Double check your API key."}
_NO_JWT = {
    "code": "PGRST301",
    "details": None,
    "hint": None,
    "message": "JWSError (CompactDecodeError Invalid number of parts: Expected 3 parts; got 1)",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A call; its path has no prefix of a service."""

    method: str
    path: str  # the path with its query
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """The answer of a service."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status, document, **headers):
        return cls(
            status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers}
        )


Service = Callable[[Request], Response]


def service_at(url):
    """Return the service that listens at *url*, with a new connection for each call."""
    parts = urlsplit(url)
    connect = {"http": HTTPConnection, "https": HTTPSConnection}[parts.scheme]

    def call(request):
        with closing(connect(parts.netloc, timeout=60)) as connection:
            path = parts.path + request.path
            connection.request(request.method, path, request.body, dict(request.headers))
            answer = connection.getresponse()
            headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            return Response(answer.status, answer.read(), headers)

    return call


class Gateway:
    """One address for several services, selected by the prefix of the path. Its attributes may be set at any time."""

    def __init__(self, key, services):
        self.key, self.services = key, dict(services)
        self.delay = 0.0  # the delay of each call in seconds
        self.calls = Counter[str]()  # counts by method and path: "POST /auth/v1/token"
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # head and body are sent in one segment, because Nagle's algorithm would delay a second
            # one
            wbufsize = -1

            def _answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                answer = gateway._answer(self.command, self.path, dict(self.headers), body)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != HTTPStatus.NO_CONTENT:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True  # a client may keep its connection open after the test
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02])

    def _answer(self, method, path, headers, body):
        where = urlsplit(path).path
        self.calls[f"{method} {where}"] += 1
        time.sleep(self.delay)
        headers = {name.lower(): value for name, value in headers.items()}
        if headers.get("apikey") != self.key:
            return Response.of(401, _NO_KEY)
        # PostgREST also refuses such a header
        if headers.get("authorization", "").startswith("Bearer sb_"):
            return Response.of(401, _NO_JWT)
        for prefix, service in self.services.items():
            if where.startswith(prefix + "/"):
                sent = {k: v for k, v in headers.items() if k not in {*_HOP_BY_HOP, "host"}}
                return service(Request(method, path.removeprefix(prefix), sent, body))
        return Response.of(404, {"message": "no Route matched with those values"})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
