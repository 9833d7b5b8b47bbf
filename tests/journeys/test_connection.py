"""The page's notices about its connection: the script alone, on a page with a controlled clock."""

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS
from tests.stack.apps import until

PAGE = """
  <div class="stApp" data-test-connection-state="CONNECTED" data-test-script-state="notRunning"></div>
  <div class="st-key-composer"><textarea></textarea></div>
  <button data-testid="stChatInputSubmitButton">Send</button>
"""
# sends as Streamlit does, which does not know that the browser is offline
SENDS = """
  const field = document.querySelector("textarea");
  const send = (event) => { event.preventDefault(); field.value = ""; };
  document.querySelector("button").addEventListener("click", send);
  field.addEventListener("keydown", (event) => event.key === "Enter" && !event.ctrlKey && send(event));
  for (const note of ["noteSent", "noteDraftSent"]) daybook[note] = () => {};
"""
OFFLINE, UNANSWERED, RECONNECTING = (
    "Offline. Your unsent message is kept.",
    "No answer yet. Your message is kept.",
    "Reconnecting… Your unsent message is kept. You can go on typing.",
)


@pytest.fixture
def page(browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.clock.install(time=0)
        page.clock.pause_at(1000)  # stops the clock, which would otherwise run by itself
        page.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.goto("http://app.test/")
        for name in ("_shared.js", "connection.js", "send.js", "watch.js"):
            page.add_script_tag(content=f"{{{(_ASSETS / 'page' / name).read_text('utf-8')}}}")
        yield page


def is_in(page, state):
    """Set the script state that Streamlit reports."""
    page.evaluate("(now) => document.querySelector('.stApp').dataset.testScriptState = now", state)


def test_offline_browser_is_told_at_once(page):
    page.unroute("**/*")
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text(OFFLINE)

    page.route("**/*", lambda route: route.fulfill(body=PAGE))
    page.context.set_offline(False)

    expect(page.get_by_role("alert")).to_have_count(0)


def test_text_is_kept_while_the_browser_is_offline(page):
    page.evaluate(SENDS)
    field = page.locator("textarea")
    sends = (
        lambda: field.press("Enter"),
        lambda: field.press("Control+Enter"),
        lambda: page.get_by_role("button").click(),
    )
    page.unroute("**/*")
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text(OFFLINE)
    field.fill("Peas")

    for send in sends:
        send()
        expect(field).to_have_value("Peas")

    page.route("**/*", lambda route: route.fulfill(body=PAGE))
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_have_count(0)
    for send in sends:
        field.fill("Peas")
        send()
        expect(field).to_have_value("")


def test_app_on_this_machine_needs_no_network(page):
    page.evaluate(
        "Object.defineProperty(navigator, 'onLine', { value: false }); dispatchEvent(new Event('offline'))"
    )
    page.clock.run_for(3000)

    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("state", ["notRunning", "rerunRequested"])
def test_message_without_an_answer_for_two_seconds_is_said(page, state):
    page.evaluate("daybook.noteUnanswered()")
    is_in(page, state)
    page.clock.run_for(1900)
    expect(page.get_by_role("alert")).to_have_count(0)

    page.clock.run_for(200)
    expect(page.get_by_role("alert")).to_have_text(UNANSWERED)

    is_in(page, "running")
    page.clock.run_for(1000)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_answered_message_is_not_doubted_later(page):
    page.evaluate("daybook.noteUnanswered()")
    is_in(page, "running")
    page.clock.run_for(1000)
    is_in(page, "rerunRequested")  # a run after another kind of press
    page.clock.run_for(5000)

    expect(page.get_by_role("alert")).to_have_count(0)


def test_run_between_two_looks_answers_a_message(page):
    page.evaluate("daybook.noteUnanswered()")
    is_in(page, "running")
    is_in(page, "notRunning")
    page.clock.run_for(5000)

    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("sentence", [OFFLINE, RECONNECTING])
def test_server_that_hangs_is_asked_once_at_a_time(page, sentence):
    page.clock.run_for(1000)
    page.unroute("**/*")
    unanswered = []
    page.route("**/*", lambda route: unanswered.append(route))
    # counted in the page, because a request reaches the test some time after it was sent
    page.evaluate("""() => {
      window.ends = [];
      AbortSignal.timeout = () => {
        const one = new AbortController();
        ends.push(() => one.abort());
        return one.signal;
      };
    }""")
    if sentence == OFFLINE:
        page.context.set_offline(True)
    else:
        page.evaluate(
            "document.querySelector('.stApp').dataset.testConnectionState = 'DISCONNECTED'"
        )
    page.clock.run_for(3000)
    assert page.evaluate("ends.length") == 1

    page.evaluate("ends.forEach((end) => end())")

    expect(page.get_by_role("alert")).to_have_text(sentence)
    page.clock.run_for(1000)
    until(lambda: page.evaluate("ends.length") == 2)


def test_outage_is_told_once_no_dialog_is_open(page):
    asked = []

    def serve(route):
        asked.append(route)
        route.fulfill(json={"database": "away"})

    page.route("**/healthz", serve)
    page.evaluate("""
      window.told = [];
      document.body.insertAdjacentHTML("beforeend", '<div role="dialog"></div>');
      daybook.watchDatabase(false, (isAway) => told.push(isAway));
    """)

    def until_after_looks(what):
        # shorter than the shortest pause between two looks (6.4 s), so that a step holds at most one of them
        until(lambda: page.clock.run_for(5000) or what())

    until_after_looks(lambda: len(asked) >= 3)
    assert page.evaluate("told") == []

    page.evaluate("document.querySelector('[role=dialog]').remove()")
    until_after_looks(lambda: page.evaluate("told"))
    assert page.evaluate("told") == [True]


STATES = """(states) => states.forEach((state) => {
  document.querySelector(".stApp").dataset.testConnectionState = state;
})"""


def test_websocket_that_is_cut_is_told_within_ten_seconds(page):
    for _ in range(8):
        for state in ("CONNECTING", "CONNECTED", "PINGING_SERVER"):
            page.evaluate(STATES, [state])
        page.clock.run_for(1000)

    expect(page.get_by_role("alert")).to_contain_text("does not let websockets pass")

    page.evaluate(STATES, ["CONNECTING", "CONNECTED"])
    until(lambda: page.clock.run_for(1000) or page.get_by_role("alert").count() == 0)


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "Too many tabs"), (502, RECONNECTING)],
    ids=["refused", "restarting"],
)
def test_refusal_and_restart_are_no_cut_websocket(page, status, words):
    page.unroute("**/*")
    page.route("**/*", lambda route: route.fulfill(status=status, body="Too many tabs"))
    page.clock.run_for(1000)
    for _ in range(8):
        page.evaluate(STATES, ["CONNECTING", "PINGING_SERVER"])
        page.clock.run_for(1000)

    expect(page.get_by_role("alert")).to_have_text(words)


def test_composer_keeps_focus_and_caret_without_the_app(page):
    page.evaluate(SENDS)
    field = page.locator(".st-key-composer textarea")
    field.fill("Peas")
    field.press("ArrowLeft")

    page.evaluate(STATES, ["PINGING_SERVER"])
    # as Streamlit does
    page.evaluate("document.querySelector('textarea').disabled = true")
    page.evaluate("document.body.append('')")
    page.keyboard.type("n")
    page.keyboard.press("Enter")
    expect(field).to_have_value("Peans")

    page.evaluate(STATES, ["CONNECTING", "CONNECTED"])
    page.keyboard.type("!")
    expect(field).to_have_value("Pean!s")
    page.keyboard.press("Enter")
    expect(field).to_have_value("")


@pytest.fixture
def reruns(page):
    """Return a function that lets a second pass, and returns how often the page was rerun so far."""
    page.evaluate("""
      window.told = [];
      daybook.watchDatabase(false, (isAway) => told.push(isAway));
    """)

    def count():
        page.clock.run_for(1000)
        return page.evaluate("told.length")

    return count


def test_page_is_rerun_once_after_each_reconnection(page, reruns):
    for times in (1, 2):
        page.evaluate(STATES, ["PINGING_SERVER", "CONNECTING"])
        assert reruns() == times - 1
        page.evaluate(STATES, ["CONNECTED"])

        assert reruns() == times
        assert reruns() == times


def test_page_is_not_rerun_at_its_first_connection(page):
    page.evaluate(STATES, ["CONNECTING", "CONNECTED"])
    page.evaluate("""
      window.told = [];
      daybook.watchDatabase(false, (isAway) => told.push(isAway));
    """)
    page.clock.run_for(1000)

    assert page.evaluate("told") == []


@pytest.mark.parametrize("state", ["running", "rerunRequested"])
def test_run_that_streamlit_requests_is_enough_after_a_reconnection(page, reruns, state):
    page.evaluate(STATES, ["CONNECTING", "CONNECTED"])
    is_in(page, state)
    assert reruns() == 0

    is_in(page, "notRunning")

    assert reruns() == 0


@pytest.mark.parametrize(
    "content",
    [
        '<div role="dialog"></div>',
        '<div role="menu"></div>',
        '<div class="st-key-edit-prompt"></div>',
        '<div class="st-key-edit-reply"></div>',
        '<div class="st-key-editing-title"></div>',
        '<div class="st-key-temporary-sign"></div>',
        "<i hidden data-chosen></i>",
        '<div class="st-key-refusal-1"><p class="st-key-dismiss-1"></p></div>',
        '<div class="st-key-invitation-link"></div>',
    ],
)
def test_rerun_after_a_reconnection_waits_for_open_content(page, reruns, content):
    page.evaluate(f"document.body.insertAdjacentHTML('beforeend', '{content}')")
    for _ in range(2):
        page.evaluate(STATES, ["CONNECTING", "CONNECTED"])
        assert reruns() == 0

    page.evaluate("document.body.lastElementChild.remove()")

    assert reruns() == 1
    assert reruns() == 1


def test_hidden_tab_is_rerun_when_it_is_shown_again(page, reruns):
    hide = """(isHidden) => {
      Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.evaluate(STATES, ["CONNECTING", "CONNECTED"])
    assert reruns() == 0
    page.clock.run_for(1000)

    page.evaluate(hide, False)

    assert reruns() == 1
