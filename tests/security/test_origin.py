"""Same-origin checks of websockets and forms, client addresses behind proxies, and limits on anonymous tabs."""

import asyncio

import pytest
from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.store.accounts import Cookie
from services.web.origin import Origin, networks_of
from services.web.session_middleware import SessionMiddleware

HERE, DAYBOOK = "http://127.0.0.1:8501", "https://daybook.example"


def asked(kind, *, scheme="", **headers):
    """Return a websocket or a POST request, to 127.0.0.1:8501 unless *headers* name another host."""
    sent = {"host": "127.0.0.1:8501"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    return {
        "type": kind,
        "scheme": scheme or {"http": "http", "websocket": "ws"}[kind],
        "path": "/_stcore/stream",
        "method": "POST",
        "headers": [(name.encode(), text.encode()) for name, text in sent.items()],
        "client": ("127.0.0.1", 50000),
    }


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("url", "headers", "is_same_origin"),
    [
        (None, {"origin": HERE}, True),
        (None, {"origin": "http://127.0.0.1:8502"}, False),
        (None, {"origin": "http://localhost:8501"}, False),
        (None, {"origin": "https://127.0.0.1:8501"}, False),
        (None, {"origin": "null"}, False),
        (None, {"origin": "http://["}, False),
        (None, {"origin": "http://[", "host": "["}, False),
        (None, {"origin": "http://[::1]:8501", "host": "[::1]:8501"}, True),
        (None, {"origin": "http://daybook.localhost", "host": "daybook.localhost"}, True),
        (None, {"origin": "http://rebound.example", "host": "rebound.example"}, False),
        (DAYBOOK, {"origin": DAYBOOK}, True),
        (DAYBOOK, {"origin": HERE}, False),
        (DAYBOOK, {"origin": "http://daybook.example"}, False),
        (DAYBOOK, {"origin": f"{DAYBOOK}:8443"}, False),
    ],
)
def test_only_the_own_origin_is_same_origin(kind, url, headers, is_same_origin):
    assert Origin(url, 0).is_same_origin(HTTPConnection(asked(kind, **headers))) is is_same_origin


@pytest.mark.parametrize("url", [None, DAYBOOK])
def test_without_origin_header_only_same_site_forms_pass(url):
    def is_same_origin(kind, **headers):
        return Origin(url, 0).is_same_origin(HTTPConnection(asked(kind, **headers)))

    assert not is_same_origin("websocket")
    assert not is_same_origin("websocket", sec_fetch_site="same-origin")
    # a request of a program, because browsers send one of these headers
    assert is_same_origin("http")
    sites = {"same-origin": True, "none": True, "same-site": False, "cross-site": False}
    assert {site: is_same_origin("http", sec_fetch_site=site) for site in sites} == sites


def test_origin_over_tls_is_https():
    page = {"origin": "https://127.0.0.1:8501"}

    assert Origin(None, 0).is_same_origin(HTTPConnection(asked("websocket", scheme="wss", **page)))
    assert Origin(None, 0).is_same_origin(HTTPConnection(asked("http", scheme="https", **page)))


def test_cookie_of_steps_is_the_browsers_alone_for_ten_minutes():
    origin, request, cookie = Origin(None, 0), HTTPConnection(asked("http")), Cookie.new()
    answer = Response()

    origin.set_step_cookie(answer, request, cookie)

    sent, *flags = answer.headers["set-cookie"].split("; ")
    assert sent == f"__Host-step={cookie}"
    assert sorted(flags) == ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=lax", "Secure"]
    back = HTTPConnection(asked("http", cookie=sent))
    assert (origin.step_cookie(back), origin.session_cookie(back)) == (cookie, None)
    for text in ("__Host-step=", "__Host-step=7", f"step={cookie}", f"__Host-sid={cookie}"):
        assert origin.step_cookie(HTTPConnection(asked("http", cookie=text))) is None


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, ["192.0.2.1"], "127.0.0.1"),
        (1, [], "127.0.0.1"),
        (1, ["made-up, 192.0.2.1"], "192.0.2.1"),
        (1, ["made-up", "192.0.2.1"], "192.0.2.1"),  # the proxy added a line of its own
        (2, ["made-up, 192.0.2.1, 10.0.0.1"], "192.0.2.1"),
        (2, ["192.0.2.1"], "127.0.0.1"),
        (1, [", 192.0.2.1"], "192.0.2.1"),  # the client sent an empty entry
        (2, ["", "192.0.2.1, 10.0.0.1"], "192.0.2.1"),
    ],
)
def test_only_trusted_proxies_state_the_client_address(proxies, forwarded, address):
    request = asked("http")
    request["headers"] += [(b"x-forwarded-for", line.encode()) for line in forwarded]

    assert Origin(None, proxies).client_address(HTTPConnection(request)) == address


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("192.0.2.1", {"192.0.2.1": 1}),
        ("::ffff:192.0.2.1", {"192.0.2.1": 1}),  # as a dual-stack socket shows it
        ("2002:c000:201::7", {"192.0.2.1": 1}),  # 6to4: a /48 network for each IPv4 address
        ("2001:db8:0:1ff:1::2", {"2001:db8:0:1ff::/64": 1, "2001:db8:0:100::/56": 8}),
        ("fe80::1%eth0", {"fe80::/64": 1, "fe80::/56": 8}),
        ("192.0.2.1:51234", {"192.0.2.1": 1}),  # as Azure's Application Gateway states it
        ("[2001:db8:0:1ff:1::2]:443", {"2001:db8:0:1ff::/64": 1, "2001:db8:0:100::/56": 8}),
        ("unknown", {"unknown": 1}),
        ("", {"": 1}),
    ],
)
def test_address_counts_in_its_networks(address, networks):
    assert {each.name: each.addresses for each in networks_of(address)} == networks


@pytest.fixture
def visit():
    """Runs a list of addresses that open a tab each without a session; returns how many were let in."""

    async def opened(addresses):
        accepted = []

        async def app(scope, *_):
            accepted.append(scope)
            await asyncio.Event().wait()

        async def send(_):
            pass

        middleware = SessionMiddleware(app, lambda: None, Origin(None, 1), "")
        tabs = []
        for address in addresses:
            page = {"origin": HERE, "x_forwarded_for": address}
            tabs.append(asyncio.create_task(middleware(asked("websocket", **page), None, send)))
            await asyncio.sleep(0)
        return len(accepted)

    return lambda *addresses: asyncio.run(opened(addresses))


def test_network_of_ipv6_takes_the_tabs_of_one_or_eight_addresses(visit):
    assert visit(*(f"2001:db8::{n:x}" for n in range(30))) == 20
    home = [f"2001:db8:0:{n:x}::1" for n in range(0x100)]
    assert visit(*home) == 8 * 20
    assert visit(*home, "2001:db8:0:100::1") == 8 * 20 + 1


def test_anonymous_tabs_are_limited_per_address_and_in_all():
    accepted, refused = [], []

    async def app(scope, *_):
        accepted.append(scope)
        await asyncio.Event().wait()

    async def send(message):
        refused.append(message)

    middleware = SessionMiddleware(app, lambda: None, Origin(None, 1), "")

    async def opens(address):
        page = {"origin": HERE, "x_forwarded_for": f"made-up-{len(accepted)}, {address}"}
        tab = asyncio.create_task(middleware(asked("websocket", **page), None, send))
        await asyncio.sleep(0)
        return tab

    async def run():
        first, *_ = [await opens("192.0.2.1") for _ in range(21)]
        assert (len(accepted), len(refused)) == (20, 1)
        _ = [await opens(f"198.51.100.{n % 25}") for n in range(481)]
        assert (len(accepted), len(refused)) == (500, 2)

        first.cancel()
        await asyncio.sleep(0)
        await opens("192.0.2.1")
        assert (len(accepted), len(refused)) == (501, 2)
        assert {message["type"] for message in refused} == {"websocket.close"}

    asyncio.run(run())
