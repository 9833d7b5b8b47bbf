"""The routes of a deployment by the methods that let users in: what is off is not there, or refuses."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services import bootstrap, settings
from services.crypto import RootKeys, new_key
from services.domain.mails import CodePurpose
from services.domain.sign_in_methods import SignInMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.operate.accounts import set_password
from services.store.accounts import Cookie
from services.store.linking import link
from services.store.sign_in_policy import SignInPolicy
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.operator import TablesOperator
from services.users.session_cache import SessionCache
from services.web.attempts import Attempts
from tests.confirmed import confirm
from tests.identity.provider import METADATA, forging_provider
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, OpenStore, accounts_in_memory
from tests.web.test_code_routes import FIREFOX, OURS

pytestmark = pytest.mark.usefixtures("cheap_passwords")
NEW_PASSWORD = "another horse, another battery"
OIDC = """{"corp": {"issuer": "https://login.example.com", "client_id": "daybook", "client_secret": "a secret",
  "only": true, "domains": ["only.example"]}}"""
MAIL = {"smtp_host": "localhost", "smtp_from": "no-reply@daybook.test"}


class Site:
    """The routes of a process with these settings, over tables in memory, and what it mails."""

    def __init__(self, methods, **chosen):
        given = {"store": "sqlite:/nowhere", "sign_in": "local", **MAIL, **chosen}
        read = settings.read(sign_in_methods=methods, **given)
        ring, self.store = RootKeys({1: new_key()}, 1), OpenStore(InMemoryStore())
        self.accounts = accounts_in_memory(self.store, ring, policy=SignInPolicy.of(read))
        # of a process from before the methods were chosen
        self.before = accounts_in_memory(self.store, ring)
        cache = SessionCache(
            self.accounts, on_leave=lambda _: nullcontext(), on_forget=lambda _: None
        )
        shared = SimpleNamespace(
            session_cache=cache,
            backend=self.accounts.backend,
            outdate_sign_in_details=lambda _: None,
        )
        self.mails = []
        app = SimpleNamespace(
            deployment=SimpleNamespace(settings=read, root_keys=ring, secret=None),
            mailer=SimpleNamespace(send=self.mails.append, has_room=lambda **_: True),
            shared=lambda: shared,
            open_sessions=lambda: 0,
            health=None,
            public_url=read.public_url,
            providers=[*read.providers] if SignInMethod.OIDC in read.methods else [],
            recent_calls=SimpleNamespace(record=lambda *_: None),
            attempts=Attempts(ring, read.sign_ups_an_hour, read.codes_an_hour),
        )
        self.client = TestClient(
            Starlette(routes=bootstrap.routes(app), middleware=bootstrap.middleware(app, ())),
            base_url="http://localhost",
            client=(f"host-{uuid4()}", 50000),
            headers=OURS | {"user-agent": FIREFOX},
            follow_redirects=False,
        )

    def post(self, path, cookie="", **form):
        headers = {"cookie": cookie} if cookie else {}
        return self.client.post(path, data=form, headers=headers)

    def user(self, email=None):
        """The address of a user with a password and a confirmed address, and the cookie of a session."""
        email = email or new_email()
        cookie, session = self.before.sign_up_with(email, PASSWORD)
        confirm(self.before, session)
        return email, f"__Host-sid={cookie}"

    def codes(self):
        return [mail.content.digits for mail in self.mails if hasattr(mail.content, "digits")]


def reason(answer):
    assert answer.status_code == 303
    return parse_qs(urlsplit(answer.headers["location"]).query).get("reason", [""])[0]


def step_in(answer):
    return parse_qs(urlsplit(answer.headers["location"]).query)["step"][0]


def begins_session(answer):
    return any("__Host-sid=" in one for one in answer.headers.get_list("set-cookie"))


def step_cookie(answer):
    [set_step] = [one for one in answer.headers.get_list("set-cookie") if "step=" in one]
    return set_step.split(";")[0]


def test_every_form_of_another_site_is_refused():
    site = Site("", oidc=OIDC, url="https://daybook.example")
    forms = {
        (method, route.path)
        for route in site.client.app.routes
        for method in (route.methods or set()) - {"GET", "HEAD"}
    }
    answers = {
        form: site.client.request(*form, headers={"origin": "https://evil.example"})
        for form in forms
    }

    assert {("POST", "/session"), ("POST", "/code"), ("POST", "/oidc/corp/link")} <= forms
    assert {form for form, answer in answers.items() if answer.status_code != 403} == set()


@pytest.mark.parametrize("purpose", ["sign_in", "prove", "restore_address", "reset_password"])
@pytest.mark.parametrize("path", ["/code", "/code/redeem"])
def test_codes_that_are_off_have_no_route(purpose, path):
    site = Site("password")
    email, cookie = site.user()

    answer = site.post(path, cookie, purpose=purpose, email=email, step=str(uuid4()), code="1")

    assert answer.status_code == 404
    assert site.mails == []


@pytest.mark.parametrize("purpose", ["confirm_address", "new_address"])
def test_addresses_are_confirmed_where_codes_sign_nobody_in(purpose):
    site = Site("password")
    _, cookie = site.user()

    answer = site.post("/code", cookie, purpose=purpose, email=new_email())

    assert answer.status_code == 303
    assert len(site.codes()) == 1


def test_passwords_that_are_off_have_no_routes():
    site = Site("code")
    email, cookie = site.user()

    assert site.post("/account/password", cookie, password=NEW_PASSWORD).status_code in (404, 405)
    assert site.client.get("/.well-known/change-password").status_code == 404
    answer = site.post("/code", purpose="reset_password", email=email)
    assert answer.status_code == 404
    assert Site("password").client.get("/.well-known/change-password").status_code == 303


@pytest.mark.parametrize("methods", ["code", "password"])
def test_unknown_well_known_address_is_not_found(methods):
    """Password managers ask for one that nobody has. Behind our routes, Streamlit answers with its page everywhere."""
    client = Site(methods).client
    client.app.router.routes.append(Route("/{path:path}", PlainTextResponse("Streamlit")))

    assert client.get("/.well-known/nobody-has-this").status_code == 404
    assert client.get("/nobody-has-this").text == "Streamlit"


def test_provider_is_asked_nothing_at_the_start():
    with forging_provider() as corp:
        entry = {"issuer": corp.issuer, "client_id": "daybook", "client_secret": "a secret"}
        site = Site("", oidc=json.dumps({"corp": entry}))
        pressed = {"sec-fetch-site": "same-origin"}
        assert corp.asked == []

        assert site.client.get("/oidc/corp", headers=pressed).status_code == 303
        assert corp.paths() == [METADATA]


def test_provider_that_is_off_has_no_routes():
    off = Site("password", oidc=OIDC, url="https://daybook.example")

    for path in ("/oidc/corp", "/oidc/corp/back", "/identity/add", "/identity/account"):
        assert off.client.get(path).status_code == 404


def test_sign_in_of_a_provider_that_is_off_can_be_renamed_and_removed():
    site = Site("password")
    email, cookie = site.user()
    _, session = site.before.sign_in_with(email, PASSWORD)
    identity = LinkedIdentity(
        identity=Identity("https://login.example.com", "7f3c"),
        name=email,
        created_at=datetime.now(UTC),
    )
    current = site.before.find(email, NOT_COUNTED).checked(PASSWORD)
    link(site.before, session, current, identity)

    mark = identity.identity.mark

    site.post("/identity/rename", cookie, identity=mark, identity_name="Former job")
    [renamed] = site.before.find(email, NOT_COUNTED).credentials.identities
    answer = site.post("/identity/remove", cookie, identity=mark)

    assert renamed.name == "Former job"
    assert reason(answer) == "identity-removed"
    assert site.before.find(email, NOT_COUNTED).credentials.identities == ()


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_right_password_that_is_off_is_answered_like_a_wrong_one(password):
    site = Site("code")
    email, cookie = site.user()

    answer = site.post("/session", email=email, password=password)
    proof = site.post("/proof", cookie, password=password)

    assert (reason(answer), begins_session(answer)) == ("wrong", False)
    assert (reason(proof), begins_session(proof)) == ("wrong", False)


def test_operators_password_signs_in_and_proves():
    site = Site("code")
    email, _ = site.user()
    opened = SimpleNamespace(of=site.store.of, close=lambda: None)
    operator = TablesOperator(SimpleNamespace(check=dict), lambda: opened)
    set_password(operator, site.accounts.root_keys, email, NEW_PASSWORD)

    answer = site.post("/session", email=email, password=NEW_PASSWORD)

    assert begins_session(answer)
    session = next(
        one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-sid=")
    ).split(";")[0]
    assert reason(site.post("/proof", session, password=NEW_PASSWORD)) == "proved"


def test_account_begins_by_code_where_passwords_are_off():
    site, email = Site("code"), new_email()

    answer = site.post("/account", email=email, password="not asked for")
    [code] = site.codes()
    step = step_in(answer)
    made = site.post("/code/redeem", step_cookie(answer), purpose="sign_up", step=step, code=code)

    assert begins_session(made)
    sent = site.post("/code", purpose="sign_in", email=email)
    step, code = step_in(sent), site.codes()[-1]
    again = site.post("/code/redeem", step_cookie(sent), purpose="sign_in", step=step, code=code)
    assert begins_session(again)
    assert reason(site.post("/session", email=email, password="not asked for")) == "wrong"


def test_no_account_begins_by_a_form_where_passwords_and_codes_are_off():
    site = Site("passkey")

    answer = site.post("/account", email=new_email(), password=PASSWORD)

    assert answer.status_code in (404, 405)
    assert site.mails == []


def test_address_is_restored_by_code_where_passwords_are_off():
    site = Site("code")
    email, cookie = site.user()
    session = site.before.open(Cookie.parse(cookie.partition("=")[2]))
    site.before.change_address(session, new_email(), 2)

    sent = site.post("/code", purpose="restore_address", email=email)
    step, code = step_in(sent), site.codes()[-1]
    answer = site.post(
        "/code/redeem", step_cookie(sent), purpose="restore_address", step=step, code=code
    )

    assert begins_session(answer)
    assert reason(site.post("/session", email=email, password=PASSWORD)) == "wrong"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/session", {"password": PASSWORD}),
        ("/account", {"password": PASSWORD}),
        ("/code", {"purpose": CodePurpose.SIGN_IN}),
        ("/code", {"purpose": CodePurpose.RESET_PASSWORD}),
        ("/code", {"purpose": CodePurpose.RESTORE_ADDRESS}),
    ],
)
@pytest.mark.parametrize("is_known", [True, False])
def test_address_of_a_provider_alone_is_led_there(path, form, is_known):
    site = Site("", oidc=OIDC, url="https://daybook.example")
    site.client.headers["origin"] = "https://daybook.example"
    email = f"{uuid4().hex}@only.example"
    if is_known:
        site.user(email)

    answer = site.post(path, email=email, **form)

    assert (reason(answer), begins_session(answer)) == ("other-sign-in", False)
    assert site.mails == []


def test_account_of_a_provider_is_not_taken_back_to_another_address():
    site = Site("", oidc=OIDC, url="https://daybook.example")
    site.client.headers["origin"] = "https://daybook.example"
    email, cookie = site.user()
    session = site.before.open(Cookie.parse(cookie.partition("=")[2]))
    site.before.change_address(session, f"{uuid4().hex}@only.example", 2)

    answer = site.post("/code", purpose="restore_address", email=email)

    assert (answer.status_code, reason(answer)) == (303, "")
    assert site.mails == []


@pytest.mark.parametrize("is_inside", [True, False])
def test_account_does_not_move_to_or_from_an_address_of_a_provider(is_inside):
    site = Site("", oidc=OIDC, url="https://daybook.example")
    site.client.headers["origin"] = "https://daybook.example"
    inside = f"{uuid4().hex}@only.example"
    _, cookie = site.user(inside if is_inside else None)
    new = new_email() if is_inside else inside

    answer = site.post("/code", cookie, purpose="new_address", email=new)

    assert reason(answer) == "other-sign-in"
    assert site.mails == []
    assert reason(site.post("/proof", cookie, password=PASSWORD)) == (
        "other-sign-in" if is_inside else "proved"
    )
