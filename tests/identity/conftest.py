"""Certificates, and a trust in their authority that this process alone has."""

import pytest

from tests.mail_server import Certificates, resolving


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(certificates, monkeypatch):
    """The certificates, where the system trusts their authority, and `HOST` leads to loopback."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    resolving(monkeypatch)
    return certificates
