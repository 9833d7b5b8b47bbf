"""The routes that set and clear the session cookie, over the embedded stack."""

import threading
from contextlib import nullcontext
from types import SimpleNamespace
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services import errors
from services.domain.addresses import new_placeholder
from services.domain.mails import Notice, NoticeKind
from services.domain.sign_in_methods import BY_CODE
from services.domain.turns import StopCause
from services.errors import StoreUnavailable
from services.store.accounts import Accounts, Cookie
from services.store.administration import UserAccess
from services.users.devices import Devices
from services.web.attempts import Attempts
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.session_start import SessionStart
from services.web.sign_in_routes import SignInRoutes
from tests.confirmed import confirm
from tests.stack.apps import until
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conformance.talk import begun_with
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, store_of

pytestmark = pytest.mark.usefixtures("cheap_passwords")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/19.0 Safari/605.1.15"
OURS = {"origin": "http://localhost", "sec-fetch-site": "same-origin", "user-agent": FIREFOX}


class Lanes:
    """Lanes that are free, and keep for whom they were asked."""

    def __init__(self, error=None):
        self.error, self.asked = error, []

    async def run(self, work, *, client, user_id):
        self.asked.append((client, user_id is not None))
        if self.error:
            raise self.error
        return work()


class Mails:
    """The mailer of a process, which keeps what it is given."""

    def __init__(self):
        self.sent, self.outdated = [], []
        self.send = self.sent.append


def browser(
    session_cache,
    url=None,
    stop_turns=lambda _: None,
    lanes=None,
    address=None,
    mails=None,
    is_alone=False,
    **limits,
):
    sessions = session_cache.accounts
    limits, stopped = {"sign_ups_an_hour": 100} | limits, []

    def ending(is_meant, _):
        stopped.append(is_meant)
        return nullcontext()

    shared = SimpleNamespace(
        session_cache=session_cache,
        backend=sessions.backend,
        store_of=lambda own, _: store_of(own),
        stop_turns_of=lambda cause, _: stop_turns(cause),
        user_of=lambda own: SimpleNamespace(devices=Devices(own, ending)),
        outdate_sign_in_details=lambda user_id: mails.outdated.append(user_id) if mails else None,
    )
    attempts, lanes = Attempts(sessions.root_keys, **limits), lanes or HashingLanes()
    origin = Origin(url, 0, is_alone)
    notices = Notices(attempts, origin, mails.send if mails else None)
    start = SessionStart(lambda: shared, attempts, origin, 3600, notices)
    app = Starlette(routes=SignInRoutes(start, lanes).routes())
    app.state.stopped = stopped
    return TestClient(
        app,
        base_url="http://localhost",
        client=(address or f"host-{uuid4()}", 50000),
        headers=OURS | ({"origin": url} if url else {}),
        follow_redirects=False,
    )


def form(email, password=PASSWORD, target="/?c=1"):
    return {"email": email, "password": password, "next": target}


def sent(cookie):
    return {"cookie": f"__Host-sid={cookie}"}


def cookie_in(client, answer):
    client.cookies.clear()  # over http the test's client would send no Secure cookie back
    return Cookie.parse(answer.headers["set-cookie"].split(";")[0].split("=", 1)[1])


def test_password_managers_find_the_page_account(session_cache):
    client = browser(session_cache)
    answer = client.get("/.well-known/change-password")

    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    other = "resource-that-should-not-exist-whose-status-code-should-not-be-200"
    assert client.get(f"/.well-known/{other}").status_code == 404


@pytest.fixture
def account(session_cache):
    """A browser that has signed up, the account's address, and the cookie."""
    client, email = browser(session_cache), new_email()
    client.app.state.newest = {}  # cookies of proofs, by the cookie of before
    return client, email, cookie_in(client, client.post("/account", data=form(email)))


@pytest.fixture
def fail(monkeypatch):
    def fail(method, error):
        def raise_error(*_):
            raise error

        monkeypatch.setattr(Accounts, method, raise_error)

    return fail


def test_sign_up_sets_the_cookie_and_redirects(session_cache):
    client = browser(session_cache)

    answer = client.post("/account", data=form(new_email()))

    assert (answer.status_code, answer.headers["location"]) == (303, "/?c=1")
    session, device = answer.headers.get_list("set-cookie")
    assert session.startswith("__Host-sid=")
    assert "Max-Age=3600" in session
    assert device.startswith("__Host-device=")
    for cookie in (session, device):
        for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
            assert flag in cookie
        assert "Domain" not in cookie
    assert session_cache.find(cookie_in(client, answer))


def test_safari_on_plain_http_gets_an_insecure_cookie(session_cache):
    agent = {"user-agent": SAFARI}
    http, https = (
        browser(session_cache, url).post("/account", data=form(new_email()), headers=agent)
        for url in (None, "https://daybook.example")
    )

    assert http.headers["set-cookie"].startswith("sid=")
    assert "Secure" not in http.headers["set-cookie"]
    assert https.headers["set-cookie"].startswith("__Host-sid=")


def test_session_has_the_browser_that_began_it(session_cache, account):
    client, email, cookie = account
    agent = {"user-agent": SAFARI}
    client.post("/session", data=form(email), headers=agent)

    devices = Devices(session_cache.find(cookie), lambda *_: nullcontext()).all()

    assert {one.browser for one in devices} == {"Firefox on Linux", "Safari on Mac"}


def test_sign_in_on_an_unknown_device_is_told_once_an_hour(session_cache):
    mails = Mails()
    client, email = browser(session_cache, mails=mails), new_email()
    known = client.post("/account", data=form(email)).headers.get_list("set-cookie")[1]
    client.cookies.clear()
    device = {"cookie": known.split(";")[0]}
    client.post("/session", data=form(email))
    client.cookies.clear()
    until(lambda: all(one.name != "notice" for one in threading.enumerate()))
    assert not mails.sent  # the mailbox of an address that is not confirmed may be a stranger's
    confirm(session_cache.accounts, session_cache.accounts.sign_in_with(email, PASSWORD)[1])
    client.post("/session", data=form(email), headers=device)
    client.post("/session", data=form(email, "not the password"))
    assert not mails.sent

    for _ in range(2):
        client.post("/session", data=form(email))
        client.cookies.clear()

    until(lambda: all(one.name != "notice" for one in threading.enumerate()))
    [mail] = mails.sent
    assert (mail.address, mail.content) == (email, Notice(NoticeKind.NEW_DEVICE))
    assert mail.browser == "Firefox on Linux"


def test_users_who_take_turns_in_one_browser_get_no_notice(session_cache):
    client, emails, device = browser(session_cache), (new_email(), new_email()), ""
    first_sessions = []

    for path in ("/account", "/session"):
        for email in emails:
            answer = client.post(path, data=form(email), headers={"cookie": device})
            device = answer.headers.get_list("set-cookie")[1].split(";")[0]
            if path == "/account":
                first_sessions.append(session_cache.find(cookie_in(client, answer)))

    until(lambda: all(one.name != "notice" for one in threading.enumerate()))
    assert [session.backend.account().notices for session in first_sessions] == [(), ()]


@pytest.mark.parametrize("mails", [Mails(), None], ids=["mail", "no mail"])
def test_user_of_a_placeholder_is_led_to_where_it_can_be_changed(session_cache, mails):
    client, email = browser(session_cache, mails=mails), new_placeholder()
    client.post("/account", data=form(email))

    answer = client.post("/session", data=form(email))

    assert answer.headers["location"] == ("/account" if mails else "/?c=1")


@pytest.mark.parametrize("agent", [FIREFOX, SAFARI], ids=["firefox", "safari"])
def test_session_begins_without_the_steps_of_before(session_cache, agent):
    client, email = browser(session_cache), new_email()
    name = "step" if agent is SAFARI else "__Host-step"
    step = {"user-agent": agent, "cookie": f"{name}={Cookie.new()}"}

    began = client.post("/account", data=form(email), headers=step)
    refused = client.post("/session", data=form(email, "wrong"), headers=step)
    without = client.post("/session", data=form(email))

    *_, dropped = began.headers.get_list("set-cookie")
    assert dropped.startswith(f'{name}="";')
    assert "Max-Age=0" in dropped
    assert "set-cookie" not in refused.headers
    assert "step" not in str(without.headers.get_list("set-cookie"))


def test_sign_out_ends_the_session_and_clears_the_cookie(session_cache, account):
    client, email, first = account
    cookie = cookie_in(client, client.post("/session", data=form(email), headers=sent(first)))
    assert session_cache.find(first) is None  # the browser's previous session
    assert session_cache.find(cookie)

    answer = client.post("/session/end", headers=sent(cookie))

    assert (answer.status_code, answer.headers["location"]) == (303, "/?reason=left")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert session_cache.find(cookie) is None


@pytest.mark.parametrize(
    ("error", "query"),
    [
        (errors.WrongCredentials(), "reason=wrong"),
        (errors.Suspended(), "reason=suspended"),
        (errors.TooManyAttempts(61), "reason=slow&wait=61"),
        (errors.WeakPassword("common"), "reason=weak&why=common"),
        (StoreUnavailable(), "reason=unavailable"),
        (errors.Tampered(), "reason=tampered"),
        (errors.NewerVersion(), "reason=newer"),
        (errors.SignInBroken(), "reason=repair"),
        (errors.RateLimited(), "reason=busy"),
    ],
)
def test_refusal_redirects_with_its_reason_only(session_cache, fail, error, query):
    fail("find", error)
    target = "/usage?reason=old&why=old&wait=1&x=1"

    answer = browser(session_cache).post("/session", data=form(new_email(), target=target))

    assert answer.headers["location"] == f"/usage?x=1&{query}"
    assert "set-cookie" not in answer.headers


def test_refused_invitation_is_not_typed_again(session_cache, fail):
    fail("find_for_sign_up", errors.InvitationRefused())
    given = form(new_email(), target="/?c=1&invite=old") | {"invite": " a code "}

    answer = browser(session_cache).post("/account", data=given)

    assert answer.headers["location"] == "/?c=1&code=sign_up&invite=a+code&reason=invitation"


@pytest.mark.parametrize(
    ("path", "email", "password", "reason"),
    [
        ("/session", "nobody@daybook.test", PASSWORD, "wrong"),
        ("/session", "maya@daybook.test", "", "wrong"),
        ("/account", "new@daybook.test", "short", "weak&why=short"),
        ("/account", "new@daybook.test", "1qaz2wsx3edc", "weak&why=common"),
        ("/account", "new@daybook.test", "new@daybook.test", "weak&why=address"),
        ("/account", "new@daybook.test", "a\u0301" * 2_000, "weak&why=long"),
        ("/account", "no address", PASSWORD, "address"),
        ("/session", "v\u00edctim@daybook.test", PASSWORD, "letters"),
        ("/session", "a\u0301" * 2_000 + "@daybook.test", PASSWORD, "letters"),
    ],
)
def test_refusal_repeats_nothing_that_was_entered(session_cache, path, email, password, reason):
    answer = browser(session_cache).post(path, data=form(email, password, "/"))

    code = "code=sign_up&" if path == "/account" else ""
    assert answer.headers["location"] == f"/?{code}reason={reason}"


def test_known_device_signs_in_while_its_account_is_throttled(session_cache):
    email, known = new_email(), browser(session_cache, tries_of_an_account=1)
    device = known.post("/account", data=form(email)).headers.get_list("set-cookie")[1]
    known.cookies.clear()

    def sign_in(**headers):
        answer = known.post("/session", data=form(email, target="/"), headers=headers)
        known.cookies.clear()
        return answer.headers["location"]

    stranger = browser(session_cache, tries_of_an_account=1)
    for _ in range(2):
        stranger.post("/session", data=form(email, "x" * 12))

    assert sign_in().startswith("/?reason=slow&wait=")
    assert sign_in(cookie=device.split(";")[0]) == "/"


def test_device_is_known_to_the_account_of_its_cookie_alone(session_cache):
    lanes, address = Lanes(), "2001:db8:0:7::1"
    emails = new_email(), new_email()
    client = browser(session_cache, lanes=lanes, address=address)
    mayas, omars = (
        client.post("/account", data=form(email)).headers.get_list("set-cookie")[1].split(";")[0]
        for email in emails
    )
    lanes.asked.clear()

    for device in (mayas, omars, "__Host-device=forged"):
        client.cookies.clear()
        answer = client.post("/session", data=form(emails[0]), headers={"cookie": device})
        assert answer.headers["location"] == "/?c=1"

    network = "2001:db8::/56"
    assert lanes.asked == [(network, True), (network, False), (network, False)]


@pytest.mark.parametrize("path", ["/account", "/session"])
def test_attempt_without_a_lane_is_told_that_daybook_is_busy(session_cache, path):
    client = browser(session_cache, lanes=Lanes(errors.RateLimited()))

    answer = client.post(path, data=form(new_email()))

    code = "code=sign_up&" if path == "/account" else ""
    assert answer.headers["location"] == f"/?c=1&{code}reason=busy"


@pytest.mark.parametrize(
    "target",
    ["https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)", "", "/\n"],
)
def test_redirect_stays_on_this_site(session_cache, target):
    answer = browser(session_cache).post("/account", data=form(new_email(), target=target))

    assert answer.headers["location"] == "/"


def test_failed_sign_out_keeps_the_cookie_and_says_so(session_cache, account, fail):
    client, _, cookie = account
    fail("end", StoreUnavailable())

    answer = client.post("/session/end", headers=sent(cookie))

    assert answer.status_code == 303
    assert answer.headers["location"] == "/account?reason=still-signed-in"
    assert "set-cookie" not in answer.headers


def test_sign_in_works_when_the_previous_session_cannot_end(session_cache, account, fail):
    client, email, first = account
    fail("end", StoreUnavailable())

    answer = client.post("/session", data=form(email), headers=sent(first))

    assert answer.headers["location"] == "/?c=1"
    assert session_cache.find(cookie_in(client, answer))


def test_redirect_leads_to_no_other_users_conversation(session_cache, account):
    """A session ended in mid-conversation; the next user of that browser may be another."""
    client, omar, _ = account
    maya = new_email()
    cookie = cookie_in(client, client.post("/account", data=form(maya)))
    store = store_of(session_cache.find(cookie))
    garden = begun_with(store, "Garden").conversation.id
    place, before = f"/?c={garden}", sent(Cookie.new())

    def location(email, target, headers=None):
        client.cookies.clear()
        answer = client.post("/session", data=form(email, target=target), headers=headers)
        return answer.headers["location"]

    assert location(maya, place, before) == place
    assert location(omar, place, before) == "/"
    assert location(omar, "/admin", before) == "/admin"
    assert location(omar, place) == place  # a link that was sent: the page says that it has none


def sender(account, path, **entered):
    """Return what sends a form of the signed-in user, as *entered* or with other fields and headers."""
    client, _, cookie = account

    def send(headers=(), **fields):
        headers = sent(client.app.state.newest.get(cookie, cookie)) | dict(headers)
        answer = client.post(path, data=entered | fields, headers=headers)
        if path == "/proof" and "set-cookie" in answer.headers:
            client.app.state.newest[cookie] = cookie_in(client, answer)
        return answer

    return send


# --- changing a password ------------------------------------------------------------------------

NEW_PASSWORD = "another horse, another battery"


@pytest.fixture
def change(account):
    """Sends the form that changes the password, as its user or with other fields."""
    return sender(account, "/account/password", password=NEW_PASSWORD)


@pytest.fixture
def prove(account):
    """Sends the form that proves who is signed in."""
    return sender(account, "/proof", password=PASSWORD)


def test_proof_by_the_password_leads_back(prove):
    for page in ("/account", "https://evil.example", "//evil.example", "/admin", ""):
        assert prove(next=page).headers["location"] == "/account?reason=proved"
    then = prove(then="//evil.example?reason=moved").headers["location"]
    assert then == "/account?then=%2F%2Fevil.example%3Freason%3Dmoved&reason=proved"
    assert prove({"cookie": ""}).headers["location"] == "/account"


def test_proof_brings_a_new_cookie(session_cache, account, prove):
    client, _, cookie = account
    session = session_cache.find(cookie)

    proven = client.post("/proof", data={"password": PASSWORD}, headers=sent(cookie))

    [answered] = proven.headers.get_list("set-cookie")
    for word in ("__Host-sid=", "HttpOnly", "Secure", "SameSite=lax", "Max-Age=86400", "Path=/"):
        assert word in answered
    assert session_cache.find(cookie_in(client, proven)) is session
    assert session_cache.find(cookie) is None
    assert not session_cache.accounts.backend.is_alive(cookie.hash)


def test_refused_proof_brings_no_cookie(session_cache, account, prove):
    refused = prove(password="not this one")

    assert "set-cookie" not in refused.headers
    assert session_cache.find(account[2])


def test_of_two_proofs_of_a_browser_one_brings_a_cookie(session_cache, account):
    """The browser ends with it, whichever answer comes last."""
    client, _, cookie = account
    proof = {"password": PASSWORD}

    def prove():
        return client.post("/proof", data=proof, headers=sent(cookie))

    with client:  # one event loop for both
        answers = at_once(prove, prove)

    brought = [one for one in answers if "set-cookie" in one.headers]
    assert [one.headers["location"] for one in brought] == ["/account?reason=proved"]
    assert {one.headers["location"] for one in answers} == {"/account", "/account?reason=proved"}
    assert session_cache.find(cookie_in(client, brought[0]))


def test_proof_is_that_of_the_session_alone(session_cache, account, stack, prove, change):
    client, email, cookie = account
    other = cookie_in(client, client.post("/session", data=form(email)))
    session = session_cache.find(cookie)
    age(stack, session)
    assert change().headers["location"] == "/account?reason=prove"
    proof = {"password": PASSWORD}
    proven = client.post("/proof", data=proof, headers=sent(other))
    assert proven.headers["location"] == "/account?reason=proved"
    client.cookies.clear()
    assert change().headers["location"] == "/account?reason=prove"

    assert prove().headers["location"] == "/account?reason=proved"

    assert change().headers["location"] == "/account?reason=changed"


def test_guesses_at_a_proof_are_throttled_and_prove_nothing(account, session_cache, stack, prove):
    age(stack, session_cache.find(account[2]))
    answers = [prove(password="not this one").headers["location"] for _ in range(11)]

    assert set(answers[:10]) == {"/account?reason=wrong"}
    assert answers[10].startswith("/account?reason=slow")
    assert not any(one.is_proven for one in session_cache.find(account[2]).backend.devices())


def age(stack, session):
    """Let the proof of *session* get too old."""
    with stack.connect() as database:
        older = "update private.app_sessions set proved_at = now() - interval '10 minutes' where id = %s"
        database.execute(older, [session.id])


def test_changed_password_replaces_the_old_one(account, change):
    client, email, _ = account

    answer = change()

    assert (answer.status_code, answer.headers["location"]) == (303, "/account?reason=changed")
    old, new = (
        client.post("/session", data=form(email, password)).headers["location"]
        for password in (PASSWORD, NEW_PASSWORD)
    )
    assert (old, new) == ("/?c=1&reason=wrong", "/?c=1")


def test_passwords_are_hashed_ten_times_in_a_quarter_of_an_hour(change):
    """A hash takes long, and a session alone, without a proof, must not keep others from theirs."""
    answers = [change(password="short") for _ in range(11)]

    said = [answer.headers["location"].partition("reason=")[2][:4] for answer in answers]
    assert said == ["weak"] * 10 + ["slow"]


def test_copied_cookie_uses_up_no_password_changes(session_cache, account, stack, prove, change):
    age(stack, session_cache.find(account[2]))
    for _ in range(11):
        assert change().headers["location"] == "/account?reason=prove"

    prove()

    assert change().headers["location"] == "/account?reason=changed"


def test_change_of_the_password_ends_all_other_sessions(session_cache, account, change):
    client, email, cookie = account
    other = cookie_in(client, client.post("/session", data=form(email)))
    accounts = session_cache.accounts
    ended = accounts.open(other)

    change()

    assert accounts.open(cookie).email == email
    with pytest.raises(errors.SignedOut):
        accounts.open(other)
    [is_meant] = client.app.state.stopped  # their replies are stored first
    assert is_meant(ended)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"password": "short"}, "weak&why=short"),
        ({"password": "1qaz2wsx3edc"}, "weak&why=common"),
    ],
)
def test_refused_change_of_a_password_says_why_and_changes_nothing(account, change, wrong, reason):
    client, email, _ = account

    assert change(**wrong).headers["location"] == f"/account?reason={reason}"
    again = sender(account, "/account/password?then=password", password=NEW_PASSWORD)(**wrong)
    assert again.headers["location"] == f"/account?then=password&reason={reason}"

    assert client.post("/session", data=form(email)).headers["location"] == "/?c=1"


def test_password_is_changed_in_a_session_alone(account, change):
    client, email, _ = account

    assert change({"cookie": ""}).headers["location"] == "/account"
    assert client.post("/session", data=form(email)).headers["location"] == "/?c=1"


# --- deleting an account ------------------------------------------------------------------------


@pytest.fixture
def delete(account):
    """Sends the form that deletes the account, as its user or with other fields."""
    return sender(account, "/account/end", address=account[1])


def test_deleting_an_account_ends_its_session_and_clears_the_cookies(
    session_cache, account, delete
):
    client, email, cookie = account
    assert session_cache.find(cookie)

    answer = delete(address=email.upper())

    assert (answer.status_code, answer.headers["location"]) == (303, "/?reason=deleted")
    assert ["Max-Age=0" in one for one in answer.headers.get_list("set-cookie")] == [True, True]
    assert session_cache.find(cookie) is None
    assert "reason=" in client.post("/session", data=form(email)).headers["location"]


def test_account_is_not_deleted_without_its_address(session_cache, account, delete):
    answer = delete(address="omar@daybook.test")

    assert answer.headers["location"] == "/account?reason=email"
    assert "set-cookie" not in answer.headers
    assert session_cache.find(account[2])


def test_account_is_not_deleted_by_an_old_proof(session_cache, account, stack, delete, prove):
    session = session_cache.find(account[2])
    age(stack, session)

    assert delete().headers["location"] == "/account?reason=prove"

    assert session_cache.accounts.ended([session]) == {}
    prove()
    assert delete().headers["location"] == "/?reason=deleted"


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_deletion_is_mailed_to_a_confirmed_address_alone(session_cache, is_confirmed):
    accounts, email = session_cache.accounts, new_email()
    cookie, session = accounts.sign_up_with(email, PASSWORD)
    if is_confirmed:
        confirm(accounts, session)
        cookie, session = accounts.sign_in_with(email, PASSWORD)
    session_cache.add(cookie, session)
    mails = Mails()

    browser(session_cache, mails=mails).post(
        "/account/end", data={"address": email}, headers=sent(cookie)
    )

    told = [(mail.address, mail.content) for mail in mails.sent]
    assert told == ([(email, Notice(NoticeKind.ACCOUNT_DELETED))] if is_confirmed else [])


def test_first_password_is_added_and_ends_no_session(session_cache):
    accounts, email = session_cache.accounts, new_email()
    cookie, session = accounts.sign_up(accounts.find_for_sign_up(email, NOT_COUNTED), None)
    found = accounts.find(email, NOT_COUNTED)
    other = accounts.sign_in(found.opened(found.stored, found.credentials, BY_CODE))[1]
    session_cache.add(cookie, session)
    mails = Mails()
    client = browser(session_cache, mails=mails)

    answer = client.post("/account/password", data={"password": NEW_PASSWORD}, headers=sent(cookie))

    assert answer.headers["location"] == "/account?reason=password-added"
    assert accounts.ended([session, other]) == {}
    assert mails.outdated[-1] == session.user_id
    assert accounts.find(email, NOT_COUNTED).checked(NEW_PASSWORD).stored.user_id == session.user_id


def test_account_without_sign_in_is_deleted_by_a_typed_word(session_cache):
    accounts, email = session_cache.accounts, new_email()
    cookie, session = accounts.sign_up(accounts.find_for_sign_up(email, NOT_COUNTED), None)
    session_cache.add(cookie, session)
    client = browser(session_cache, is_alone=True)

    def delete(word):
        entered = {"address": email, "word": word}
        answer = client.post("/account/end", data=entered, headers=sent(cookie))
        return answer.headers["location"]

    assert [delete(word) for word in ("", "no")] == ["/data?reason=email"] * 2
    assert session_cache.find(cookie)
    assert delete(" Delete ") == "/?reason=deleted"
    assert session_cache.find(cookie) is None
    assert client.post("/proof", data={"password": PASSWORD}).status_code == 404
    assert client.get("/account").headers["location"] == "/data"


def test_turns_stop_after_the_proof_and_before_the_sessions(session_cache, stack):
    alive = []

    def stop(cause):
        alive.append((cause, sessions.backend.is_alive(cookie.hash)))

    client = browser(session_cache, stop_turns=stop)
    sessions, email = session_cache.accounts, new_email()
    cookie = cookie_in(client, client.post("/account", data=form(email)))

    def delete():
        client.post("/account/end", data={"address": email}, headers=sent(cookie))
        client.cookies.clear()

    age(stack, session_cache.find(cookie))
    delete()
    assert alive == []
    proof = {"password": PASSWORD}
    cookie = cookie_in(client, client.post("/proof", data=proof, headers=sent(cookie)))
    client.cookies.clear()
    delete()

    assert alive == [(StopCause.USER, True)]
    assert not sessions.backend.is_alive(cookie.hash)


def test_deleted_account_leaves_no_session_in_this_process(session_cache, account, delete):
    other = session_cache.accounts.sign_in_with(account[1], PASSWORD)
    session_cache.add(*other)

    assert delete().headers["location"] == "/?reason=deleted"

    assert session_cache.count == 0


def test_last_admin_is_told_why_the_account_stays(delete, monkeypatch):
    def refuse(*_):
        raise errors.LastAdmin

    monkeypatch.setattr(UserAccess, "delete", refuse)

    assert delete().headers["location"] == "/account?reason=last-admin"


def test_account_is_deleted_in_a_session_alone(session_cache, account, delete):
    assert delete({"cookie": ""}).headers["location"] == "/account"
    assert session_cache.find(account[2])
