"""Requests to the Supabase API, and their connections."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import pytest
from pydantic import SecretStr

from services.errors import ProxyUnusable
from services.store.supabase.api import Gateway

KEY = "sb_publishable_key"


@pytest.mark.parametrize("bearer", ["", "an.access.token"])
def test_publishable_key_is_never_sent_as_bearer_token(bearer):
    sent = list[httpx.Headers]()

    def answer(request):
        sent.append(request.headers)
        return httpx.Response(200, json={})

    gateway = Gateway.to("http://database.test", SecretStr(KEY), httpx.MockTransport(answer))
    client = gateway.client()
    if bearer:
        client.postgrest.auth(bearer)
    client.rpc("open_session", {}).execute()
    client.auth.reset_password_for_email("maya@daybook.test")

    assert [headers["apikey"] for headers in sent] == [KEY, KEY]
    calls = [headers.get("Authorization") for headers in sent]
    assert calls == [f"Bearer {bearer}" if bearer else None, None]


class _Server(ThreadingHTTPServer):
    """A server that counts connections."""

    connections = 0

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)


class _Answer(BaseHTTPRequestHandler):
    """Answers with an empty object, and keeps the connection open."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("idle_seconds", "connections"), [(50, 1), (70, 2)])
def test_idle_connection_is_kept_for_a_minute(idle_seconds, connections, monkeypatch):
    with _Server(("127.0.0.1", 0), _Answer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        gateway = Gateway.to(f"http://127.0.0.1:{server.server_port}", SecretStr(KEY), None)
        client = gateway.client()

        client.rpc("open_session", {}).execute()
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + idle_seconds)
        monkeypatch.setattr("httpcore._sync.http11.time", later)
        client.rpc("open_session", {}).execute()

        gateway.http.close()
        server.shutdown()
    assert server.connections == connections


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTPS_PROXY"])
def test_socks_proxy_is_refused_in_a_sentence(monkeypatch, name):
    monkeypatch.setenv(name, "socks5://127.0.0.1:9")

    with pytest.raises(ProxyUnusable, match=name):
        Gateway.to("https://database.test", SecretStr(KEY), None)
