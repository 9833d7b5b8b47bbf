"""The pages that are shown once, in browsers: their looks, their buttons, and their form without a script."""

import re
import socket
import threading

import pytest
import uvicorn
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from services.domain.addresses import EmailAddress
from services.identity.totp import secret_text
from services.web import streamlit_assets
from services.web.origin import Origin
from services.web.page_assets import PageAssets
from services.web.session_middleware import SessionMiddleware, content_security_policy
from services.web.shown_once import (
    Enrolment,
    RecoveryCodes,
    ShownOnce,
    enrol_page,
    recovery_page,
    shown_page,
)
from tests.journeys.people import PHONE, SECONDS, Person
from tests.journeys.test_access import Look
from tests.stack.apps import until

SECRET = b"12345678901234567890"
CODES = tuple(f"{n}1AB-CDEF-GHJK-MNPQ-RSTV-WXYZ" for n in range(10))
MAYA = EmailAddress("maya@daybook.test")
BEGIN = (
    """<title>Begin</title><form method="post" action="/factor/{}"><button>Begin</button></form>"""
)


async def enrol(request):
    form = await request.form()
    if form.get("code") == "123456":
        recovery = RecoveryCodes(codes=CODES, address=MAYA, target="/begin/app")
        return recovery_page(recovery)
    refusal = "Wrong code. Try again." if form.get("code") else ""
    enrolment = Enrolment(
        secret=SECRET,
        address=MAYA,
        action="/factor/app",
        hidden={"step": "a-step"},
        cancel="/begin/app",
        refusal=refusal,
    )
    return enrol_page(enrolment)


def serve():
    """Yield the address of a server with these pages, behind the app's own middleware."""
    static = streamlit_assets.folder() / "static"
    routes = [
        Route("/begin/{name}", lambda asked: HTMLResponse(BEGIN.format(asked.path_params["name"]))),
        Route("/factor/app", enrol, methods=["POST"]),
        Route("/factor/app", lambda _: shown_page(ShownOnce.RECOVERY_CODES)),
        Route("/healthz", lambda _: PlainTextResponse("")),
        Mount("/static/media", StaticFiles(directory=static / "media")),
    ]
    policy = content_security_policy(streamlit_assets.folder() / "index.html")
    app = PageAssets(Starlette(routes=routes), ())
    secured = SessionMiddleware(app, lambda: None, Origin(None, 0), policy)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(secured, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run, args=[[listener]])
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)


@pytest.fixture(scope="module")
def url():
    yield from serve()


@pytest.fixture
def maya(browser, url):
    """Return a function that makes a user whose browser reports no error."""
    people = []

    def make(**context):
        people.append(Person(browser, url, "maya", **context))
        people[-1].page.goto(f"{url}/begin/app")
        people[-1].page.get_by_role("button", name="Begin").click()
        return people[-1]

    yield make
    for each in people:
        each.leaves()
        assert each.complaints() == []


def enter(person, digits):
    person.page.get_by_role("textbox", name="6-digit code").fill(digits)
    person.page.get_by_role("button", name="Confirm").click()


def test_pages_shown_once_have_no_barrier(maya):
    maya = maya(reduced_motion="reduce")
    look, page = Look(maya, PHONE), maya.page

    def at(name):
        expect(page.locator(".db-once button[hidden]")).to_have_count(0)
        look.at(name)

    expect(page.get_by_role("textbox", name="6-digit code")).to_be_focused()
    at("the setup key")
    enter(maya, "111111")
    expect(page.get_by_role("alert")).to_have_text("Wrong code. Try again.")
    at("a wrong code")
    enter(maya, "123456")
    expect(page.get_by_role("listitem")).to_have_count(10)
    at("the recovery codes")
    page.goto(f"{maya.url}/factor/app")
    expect(page.get_by_role("heading")).to_have_text("Recovery codes already shown")
    at("shown already")

    assert look.found == []


def test_key_and_codes_can_be_copied_downloaded_and_printed(maya):
    maya = maya(permissions=["clipboard-read", "clipboard-write"])
    page, copied = maya.page, "navigator.clipboard.readText()"
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate(copied) == secret_text(SECRET)
    enter(maya, "123456")

    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate(copied) == "\n".join(CODES)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "daybook-recovery-codes.txt"
    text = download.value.path().read_text()
    assert MAYA in text
    assert text.endswith("\n".join(CODES) + "\n")
    page.evaluate("() => { window.print = () => { document.title = 'printed' } }")
    page.get_by_role("button", name="Print").click()
    expect(page).to_have_title("printed")
    page.emulate_media(media="print")
    expect(page.get_by_role("listitem")).to_have_count(10)
    for name in ("Copied", "Copy", "Download", "Print"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(page.get_by_role("link")).to_have_count(0)


def test_pages_shown_once_work_without_a_script(maya):
    maya = maya(java_script_enabled=False)

    expect(maya.page.get_by_role("img", name="QR code")).to_be_visible()
    expect(maya.page.get_by_role("button")).to_have_text(["Confirm"])
    enter(maya, "123456")
    expect(maya.page.get_by_role("listitem")).to_have_text(list(CODES))
    expect(maya.page.get_by_role("button")).to_have_count(0)
    maya.page.get_by_role("link", name="Continue").click()
    expect(maya.page).to_have_url(re.compile("/begin/app$"))


def test_chosen_theme_holds_on_pages_shown_once(maya):
    maya = maya(color_scheme="light")
    html = maya.page.locator("html")
    expect(html).to_have_css("background-color", "rgb(251, 249, 244)")
    maya.page.evaluate("localStorage.setItem('daybook-theme', 'dark')")

    enter(maya, "123456")

    expect(html).to_have_css("background-color", "rgb(30, 27, 24)")
