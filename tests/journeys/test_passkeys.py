"""The script of passkeys and the verification of its answers, with Chromium's virtual authenticator.

The server of these tests stands in for the product's routes: it keeps challenges, passkeys and who is signed in.
"""

import re
import secrets
import socket
import threading
from datetime import UTC, datetime

import pytest
import uvicorn
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Route

from services import errors
from services.domain.addresses import EmailAddress
from services.domain.passkeys import relying_party
from services.identity.passkeys import (
    PasskeyUse,
    creation_options,
    new_challenge,
    new_user_handle,
    read_assertion,
    request_options,
    verify_assertion,
    verify_creation,
)
from services.web import streamlit_assets
from services.web.origin import Origin
from services.web.page_assets import PageAssets, app_files
from services.web.session_middleware import SessionMiddleware, content_security_policy
from tests.journeys.people import DESK, PHONE, SECONDS, Person
from tests.journeys.test_access import Look
from tests.stack.apps import until

MAYA = EmailAddress("maya@daybook.test")
FORM = """<form class="db-form" method="post" action="/passkey" data-passkey="{kind}">
<input type="hidden" name="use" value="{use}"><input type="hidden" name="step">
<input type="hidden" name="answer"><button type="submit" hidden>{label}</button></form>"""
PAGE = """<!doctype html><html lang="en"><head><title>Passkeys</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{style}"><script type="module" src="{script}"></script></head>
<body class="db-plain db-once"><main><section><h1>{said}</h1>{forms}
<a href="/">Sign in with a password</a></section></main></body></html>"""
FORMS = (("create", "add", "Add a passkey"), ("get", "sign_in", "Sign in with a passkey"))
PROOF = ("get", "proof", "Confirm with a passkey")


class Server:
    """One user, their passkeys, and the challenges that wait for an answer."""

    def __init__(self):
        self.user_handle, self.passkeys, self.challenges = new_user_handle(), {}, {}
        self.asked = self.said = ""

    def party(self, request):
        return relying_party(None, request.url.scheme, request.headers["host"])

    async def page(self, request):
        forms = "".join(
            FORM.format(kind=kind, use=use, label=label) for kind, use, label in (*FORMS, PROOF)
        )
        files, said = app_files(), request.query_params.get("said", "Passkeys")
        return HTMLResponse(
            PAGE.format(style=files.style, script=files.script, said=said, forms=forms)
        )

    async def options(self, request):
        form, party = await request.form(), self.party(request)
        if party is None:
            return JSONResponse({"refusal": errors.PasskeysUnusable.public}, 400)
        challenge, step = new_challenge(), secrets.token_hex(8)
        self.challenges[step] = challenge
        known = list(self.passkeys.values())
        try:
            if form["use"] == "add":
                options = creation_options(
                    party, challenge, self.user_handle, MAYA, known, is_for_sign_in=True
                )
            else:
                options = request_options(party, challenge, PasskeyUse(form["use"]), known)
        except errors.AppError as error:
            return JSONResponse({"refusal": error.public}, 400)
        return JSONResponse({"step": step, "options": options})

    async def answer(self, request):
        form, party = await request.form(), self.party(request)
        self.asked = dict(form)
        challenge, now = self.challenges.pop(form["step"], None), datetime.now(UTC)
        try:
            if challenge is None:
                raise errors.StepEnded
            if form["use"] == "add":
                passkey = verify_creation(
                    form["answer"], party, challenge, "Laptop", now, is_for_sign_in=True
                )
                said = "Added"
            else:
                use, assertion = PasskeyUse(form["use"]), read_assertion(form["answer"])
                stored = self.passkeys[assertion.id]
                passkey = verify_assertion(
                    assertion, stored, self.user_handle, party, challenge, use, now
                ).passkey
                said = "Used"
            self.passkeys[passkey.credential_id] = passkey
        except errors.AppError as error:
            said = error.public
        return RedirectResponse(f"/?said={said}", 303)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def url(server):
    """Yield the address of *server*, behind the app's own middleware."""
    routes = [
        Route("/", server.page),
        Route("/passkey/options", server.options, methods=["POST"]),
        Route("/passkey", server.answer, methods=["POST"]),
        Route("/healthz", lambda _: PlainTextResponse("")),
    ]
    policy = content_security_policy(streamlit_assets.folder() / "index.html")
    app = PageAssets(Starlette(routes=routes), ())
    secured = SessionMiddleware(app, lambda: None, Origin(None, 0), policy)
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(secured, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=running.run, args=[[listener]])
    thread.start()
    try:
        until(lambda: running.started or not thread.is_alive())
        yield f"http://localhost:{listener.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(SECONDS)


class Device:
    """A user's browser with a virtual authenticator."""

    def __init__(self, browser, url, **context):
        self.person = Person(browser, url, "maya", **context)
        self.page = self.person.page
        self.page.goto(url)
        self._cdp = self.person.context.new_cdp_session(self.page)
        self._cdp.send("WebAuthn.enable")
        self._authenticator = ""

    def plug_in(self, **changes):
        """Attach an authenticator that answers at once, in place of the last one."""
        if self._authenticator:
            self._tell("WebAuthn.removeVirtualAuthenticator")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
        } | changes
        made = self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        self._authenticator = made["authenticatorId"]
        return self

    def credentials(self):
        return self._tell("WebAuthn.getCredentials")["credentials"]

    def restore(self, credential):
        """Put an older copy of *credential* in the place of the present one."""
        self._tell("WebAuthn.removeCredential", credentialId=credential["credentialId"])
        self._tell("WebAuthn.addCredential", credential=credential)

    def press(self, name):
        self.page.get_by_role("button", name=name).click()

    def hears(self, sentence):
        expect(self.page.get_by_role("alert")).to_have_text(sentence)

    def reads(self, sentence):
        expect(self.page.get_by_role("heading")).to_have_text(sentence)

    def _tell(self, command, **values):
        return self._cdp.send(command, {"authenticatorId": self._authenticator} | values)


@pytest.fixture
def device(browser, url):
    """Return a function that makes a device whose browser reports no error."""
    devices = []

    def make(address=url, **context):
        devices.append(Device(browser, address, **context))
        return devices[-1]

    yield make
    for each in devices:
        each.person.leaves()
        assert each.person.complaints() == []


ADD, SIGN_IN, CONFIRM = (label for _, _, label in (*FORMS, PROOF))


def test_passkey_is_added_and_signs_in(server, device):
    maya = device().plug_in()

    maya.press(ADD)
    maya.reads("Added")
    (passkey,) = server.passkeys.values()
    assert (passkey.rp_id, passkey.verifies_user, passkey.is_synced) == ("localhost", True, False)
    assert passkey.transports == ("internal",)
    for press in (SIGN_IN, CONFIRM):
        maya.press(press)
        maya.reads("Used")
    (used,) = server.passkeys.values()
    assert used.sign_count > passkey.sign_count
    assert used.last_used_at is not None


def test_posted_answer_is_taken_once(server, device):
    maya = device().plug_in()
    maya.press(ADD)
    maya.reads("Added")
    maya.press(SIGN_IN)
    maya.reads("Used")
    sent = server.asked

    answer = maya.page.request.post(
        f"{maya.person.url}/passkey", form=sent, headers={"Origin": maya.person.url}
    )

    assert errors.StepEnded.public in answer.text()


def test_copied_passkey_is_refused(device):
    maya = device().plug_in()
    maya.press(ADD)
    maya.reads("Added")
    (old,) = maya.credentials()
    maya.press(SIGN_IN)
    maya.reads("Used")

    maya.restore(old)
    maya.press(SIGN_IN)

    maya.reads(errors.PasskeyCopied.public)


def test_second_passkey_on_one_device_is_refused(device):
    maya = device().plug_in()
    maya.press(ADD)
    maya.reads("Added")

    maya.press(ADD)

    maya.hears("This device has a passkey for your account already.")
    maya.page.keyboard.press("Shift")
    expect(maya.page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("changes", [{"isUserVerified": False}, {"hasUserVerification": False}])
def test_device_that_does_not_verify_its_user_makes_no_passkey(server, device, changes):
    maya = device().plug_in(**changes)

    maya.press(ADD)

    maya.hears(re.compile("^(No passkey was added|This device cannot keep a passkey)"))
    assert server.passkeys == {}


def test_cancelled_and_missing_passkeys_are_told(server, device):
    maya = device().plug_in()
    maya.press(CONFIRM)
    maya.hears(errors.PasskeyMissing.public)

    maya.press(SIGN_IN)

    maya.hears(re.compile("^No passkey was used: it was cancelled, or this device has none"))
    assert server.asked == ""


def test_page_at_an_ip_address_leads_to_localhost(device, url):
    maya = device(url.replace("localhost", "127.0.0.1"))

    maya.press(SIGN_IN)

    maya.hears(errors.PasskeysUnusable.public)


def test_browser_without_passkeys_and_a_silent_server_are_told(device):
    maya = device()
    maya.page.route("**/passkey/options", lambda route: route.abort())
    maya.press(SIGN_IN)
    maya.hears("Daybook did not answer. Try again in a moment.")
    maya.person.console.clear()  # the browser's line about the aborted request

    maya.page.evaluate("delete window.PublicKeyCredential")
    maya.press(SIGN_IN)

    maya.hears("This browser does not support passkeys. Use another way.")


def test_form_without_its_script_has_no_button(device):
    maya = device(java_script_enabled=False)

    expect(maya.page.get_by_role("link", name="Sign in with a password")).to_be_visible()
    expect(maya.page.get_by_role("button")).to_have_count(0)


SIZES = {"desk": {"viewport": DESK}, "phone": {"viewport": PHONE, "has_touch": True}}


@pytest.mark.parametrize("size", SIZES)
def test_refusal_below_a_passkey_form_has_no_barrier(device, size):
    maya = device(reduced_motion="reduce", **SIZES[size]).plug_in()
    look = Look(maya.person)

    maya.press(SIGN_IN)
    maya.hears(re.compile("^No passkey was used"))
    look.at("a refusal")

    assert maya.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert look.found == []
