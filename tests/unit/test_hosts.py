"""Host names and IP addresses."""

import pytest

from services.domain.hosts import is_nearby


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0")),  # noqa: S104
        *((host, True) for host in ("10.0.0.7", "172.16.0.1", "192.168.0.7", "fd00::7")),
        *((host, True) for host in ("169.254.0.7", "fe80::7", "100.64.0.7")),
        *((host, True) for host in ("ollama", "host.docker.internal", "gpu.local")),
        *((host, False) for host in ("api.openai.com", "llm.example", "8.8.8.8", "2606:4700::1")),
    ],
)
def test_private_networks_are_nearby(host, expected):
    assert is_nearby(host) == expected
