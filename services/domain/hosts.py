"""Host names and IP addresses."""

from contextlib import suppress
from ipaddress import ip_address


def is_localhost(name: str) -> bool:
    """Return True for localhost and the names below it, which browsers take for this machine (RFC 6761, 6.3)."""
    return name == "localhost" or name.endswith(".localhost")


def is_this_machine(host: str) -> bool:
    """Return True if *host* is a loopback IP address or the name localhost; DNS is not asked."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"
