"""Host names and IP addresses."""

from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_localhost(name: str) -> bool:
    """Return True for localhost and names that end in .localhost: browsers resolve them to this machine (RFC 6761, 6.3)."""
    return name == "localhost" or name.endswith(".localhost")


def is_this_machine(host: str) -> bool:
    """Return True if *host* is a loopback IP address or the name localhost, without a DNS look-up."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def is_nearby(host: str) -> bool:
    """Return True if *host* is this machine or in a private network, without a DNS look-up."""
    with suppress(ValueError):
        return not ip_address(host).is_global
    # a name without a dot is localhost or a service of Docker Compose; .local: RFC 6762; .internal: host.docker.internal
    return "." not in host or host.endswith((".local", ".internal"))


def is_loopback(host: str) -> bool:
    """Return True if *host*, perhaps with a port, is this machine."""
    return is_independent_of_dns(host, is_loopback=True)


def is_independent_of_dns(host: str, *, is_loopback: bool) -> bool:
    """Return True if *host* is localhost or an IP address; with *is_loopback*, only if it is an address of this machine.

    Any other name could be pointed at this server by DNS rebinding.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if is_localhost(name):
            return True
        return ip_address(name).is_loopback or not is_loopback
    except ValueError:
        return False
