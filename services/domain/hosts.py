"""Host names and IP addresses."""

from contextlib import suppress
from ipaddress import ip_address


def is_this_machine(host: str) -> bool:
    """Return True if *host*, a name or an IP address, is this machine, whatever DNS answers."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"
