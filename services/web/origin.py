"""The app's own origin: same-origin checks, client addresses behind proxies, and cookie names."""

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.domain.browsers import BrowserName, browser_name
from services.domain.hosts import is_independent_of_dns
from services.domain.passkeys import RelyingParty, relying_party
from services.rules.accounts import STEP_LIFE
from services.store.accounts import Cookie


@dataclass(frozen=True, slots=True)
class Origin:
    """The public URL of the app, which must be configured, because the app cannot detect it behind a proxy."""

    url: str | None  # DAYBOOK_URL, which has no path
    trusted_proxies: int
    is_alone: bool = False  # True: only this machine may open the app

    @property
    def is_https(self) -> bool:
        return self.url is not None and self.url.startswith("https:")

    @property
    def wrong_address_message(self) -> str:
        """The sentence shown on a page that was opened at another URL."""
        if self.url:
            return f"Daybook is at {self.url}. Open it there."
        return "Daybook is not set up for this address. An admin must set DAYBOOK_URL."

    def is_same_origin(self, connection: HTTPConnection) -> bool:
        """Return True if a page of this app sent the request or opens the websocket.

        Browsers send the page's origin with every websocket and every POST. A websocket without an origin is refused;
        another request without an origin is refused only if its Sec-Fetch-Site names another site.
        """
        headers, scheme = connection.headers, connection.scope["scheme"]
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.url is None and not is_independent_of_dns(host, is_loopback=self.is_alone):
            return False
        if scheme in ("ws", "wss"):
            scheme = scheme.replace("ws", "http")
        elif headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return False
        elif origin is None:
            return True
        return origin == (self.url or f"{scheme}://{host}")

    def relying_party(self, request: HTTPConnection) -> RelyingParty | None:
        """Return the relying party of the page that sent *request*, or None if browsers offer no passkeys on that page."""
        host = request.headers.get("host", "")
        return relying_party(self.url, request.scope["scheme"], host)

    def public_url(self, connection: HTTPConnection) -> str:
        """Return the URL to which other sites send browsers back. The URL never comes from the request's Host header."""
        if self.url:
            return self.url
        _, port = connection.scope.get("server") or ("", None)
        return "http://localhost" if port in (None, 80) else f"http://localhost:{port}"

    def client_address(self, request: HTTPConnection) -> str:
        """Return the client's network address as the outermost trusted proxy saw it."""
        # a proxy may add a second X-Forwarded-For line below the client's
        forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
        hops = [hop.strip() for hop in forwarded.split(",")]
        if 0 < self.trusted_proxies <= len(hops) and (hop := hops[-self.trusted_proxies]):
            return hop
        return request.client.host if request.client else ""

    def session_cookie(self, connection: HTTPConnection) -> Cookie | None:
        """Return the session cookie sent with a request, if any."""
        return self._cookie(connection, "sid")

    def step_cookie(self, connection: HTTPConnection) -> Cookie | None:
        """Return the cookie that identifies the browser's pending steps, if the request has one."""
        return self._cookie(connection, "step")

    def device_cookie(self, connection: HTTPConnection) -> str:
        """Return the request's device cookie, whose signature is not checked yet; "" if there is none."""
        return connection.cookies.get(self.cookie_name(connection, "device"), "")

    def provider_cookie(self, connection: HTTPConnection) -> str:
        """Return the name of the provider with which the browser last signed in, from an unchecked cookie; "" if there is none."""
        return connection.cookies.get(self.cookie_name(connection, "provider"), "")

    def _cookie(self, connection: HTTPConnection, name: str) -> Cookie | None:
        text = connection.cookies.get(self.cookie_name(connection, name))
        return Cookie.parse(text) if text else None

    def cookie_name(self, connection: HTTPConnection, name: str = "sid") -> str:
        """Return *name* with the prefix `__Host-`, or without it on plain http, where Safari refuses Secure cookies."""
        agent = connection.headers.get("user-agent", "")
        is_safari = "Safari/" in agent and "Chrome/" not in agent and "Chromium/" not in agent
        return name if is_safari and not self.is_https else f"__Host-{name}"

    def set_step_cookie(
        self, answer: Response, request: HTTPConnection, cookie: Cookie | None
    ) -> None:
        """Set the *cookie* that identifies the browser's pending steps; it expires with the step.

        If *cookie* is None, delete the browser's cookie, which ends all steps.
        """
        seconds = int(STEP_LIFE.total_seconds()) if cookie else 0
        self.set_cookie(answer, request, "step", str(cookie or ""), seconds)

    def set_cookie(
        self, answer: Response, request: HTTPConnection, name: str, value: str, seconds: int
    ) -> None:
        name = self.cookie_name(request, name)
        is_secure = name.startswith("__Host-")
        answer.set_cookie(
            name, value, seconds, path="/", secure=is_secure, httponly=True, samesite="lax"
        )


def browser_of(request: HTTPConnection) -> BrowserName:
    """Return the name of the browser that sent *request*, according to its User-Agent header."""
    return browser_name(request.headers.get("user-agent", ""))


@dataclass(frozen=True, slots=True)
class Network:
    """An address or a range of addresses that a limit counts as one client."""

    name: str
    addresses: int = 1  # limits for the range are multiplied by this number


def networks_of(address: str) -> tuple[Network, ...]:
    """Return the networks whose limits apply to *address*: the address itself, or for IPv6 its /64 and its /56.

    A household gets at least a /64, often a /56, and can use every address in it.
    """
    host, _, port = address.rpartition(":")
    # some proxies add the client's port, which differs for each connection; IPv6 is then in brackets
    if host and port.isdecimal() and (host[0] == "[" or ":" not in host):
        address = host.strip("[]")
    try:
        ip = ip_address(address)
    except ValueError:  # a proxy may send text that is not an address
        return (Network(address),)
    if not isinstance(ip, IPv6Address):
        return (Network(address),)
    if ipv4 := ip.ipv4_mapped or ip.sixtofour:
        return (Network(str(ipv4)),)
    small, large = (str(IPv6Network((int(ip), length), strict=False)) for length in (64, 56))
    return Network(small), Network(large, 8)
