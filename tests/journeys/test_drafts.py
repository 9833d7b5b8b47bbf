"""Drafts in a browser: the scripts of the page alone, in tabs of one browser."""

import pytest

from services.web.page_assets import _ASSETS
from tests.stack.apps import until

PAGE = """
  <div class="stApp" data-test-script-state="notRunning" data-test-connection-state="CONNECTED"></div>
  <div class="st-key-composer"><textarea></textarea></div>
"""
NOT_FOUND = '<div class="st-key-way-out"></div>'
SCRIPTS = "_shared.js", "drafts.js"


class Tab:
    """A tab with the composer of a chat."""

    def __init__(self, context):
        self.page = context.new_page()
        self.page.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        self.page.goto("https://app.test/")

    def loads(self):
        for name in SCRIPTS:
            script = (_ASSETS / "page" / name).read_text("utf-8")
            self.page.add_script_tag(content=f"{{{script}}}")
        return self

    def arrives(self, place="garden", person="maya", prompts=(), given=None):
        if not self.page.evaluate("window.daybook?.keepDrafts !== undefined"):
            self.loads()
        data = {"place": place, "person": person, "given": given}
        data |= {"prompts": prompts, "count": len(prompts)}
        self.page.evaluate("(data) => daybook.keepDrafts(data)", data)
        return self

    def closes(self):
        """Close the tab, and wait until the browser releases the lock by which other tabs know that it is open."""
        watcher, held = (
            Tab(self.page.context).page,
            "navigator.locks.query().then((all) => all.held.length)",
        )
        before = watcher.evaluate(held)
        self.page.close()
        until(lambda: watcher.evaluate(held) < before)
        watcher.close()

    def types(self, text):
        self.page.locator("textarea").fill(text)

    def sends(self, text):
        """Send *text* as Streamlit does, which empties the composer."""
        self.types(text)
        self.page.evaluate("""() => {
          daybook.noteDraftSent();
          document.querySelector("textarea").value = "";
        }""")

    def ends_the_session(self):
        """Send Maya's form that ends the session, on a page without a composer."""
        self.page.evaluate("""() => {
          document.body.innerHTML = '<form data-person="maya"></form>';
          addEventListener("submit", (event) => event.preventDefault());
          document.forms[0].requestSubmit();
        }""")
        return self

    def opens_a_page(self, status):
        """Open another page, on which a poll is answered with *status* (None: not at all)."""
        answer = (
            (lambda route: route.fulfill(status=status)) if status else lambda route: route.abort()
        )
        self.page.route("**/poll", answer)
        self.page.reload()
        self.loads()
        # the answer to this poll comes after that to the script's poll
        self.page.evaluate("fetch('/poll').then(() => null, () => null)")
        return self

    def drafts(self):
        """Return the drafts that the browser stores."""
        stored = (
            "Object.entries(localStorage).filter(([name]) => name.startsWith('daybook-draft:'))"
        )
        return sorted(self.page.evaluate(f"{stored}.map(([, one]) => JSON.parse(one).text)"))

    def is_in(self, connection, script="notRunning"):
        """Set the states that Streamlit reports, and let five seconds pass."""
        set_states = """([connection, script]) => {
          const state = document.querySelector(".stApp").dataset;
          [state.testConnectionState, state.testScriptState] = [connection, script];
        }"""
        self.page.evaluate(set_states, [connection, script])
        self.page.clock.run_for(5000)

    def holds(self, text):
        until(lambda: self.page.locator("textarea").input_value() == text)

    def loses_the_composer(self, drawn=""):
        """Draw a page without a composer, and then an empty composer, for which the component is not called yet.

        *drawn*: what the page without a composer shows.
        """
        draw = """async (html) => {
          document.querySelector(".st-key-composer").innerHTML = html;
          for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
        }"""
        for html in (drawn, "<textarea></textarea>"):
            self.page.evaluate(draw, html)

    def waits(self):
        """Wait until a draft that this tab takes over would be shown."""
        self.page.evaluate(
            "navigator.locks.query().then(() => new Promise((done) => setTimeout(done)))"
        )


@pytest.fixture
def new_tab(browser):
    with browser.new_context() as context:
        yield lambda: Tab(context)


def test_two_tabs_do_not_share_what_is_typed(new_tab):
    first, second = new_tab().arrives(), new_tab().arrives()
    first.types("One")
    second.waits()
    second.holds("")

    second.types("Two")
    third = new_tab().arrives()

    third.waits()
    for tab, text in ((first, "One"), (second, "Two"), (third, "")):
        tab.holds(text)


def test_draft_of_a_closed_tab_comes_back(new_tab):
    first, second = new_tab().arrives(), new_tab().arrives()
    first.types("One")
    second.types("Two")
    first.closes()

    third = new_tab().arrives()

    third.holds("One")
    second.holds("Two")
    assert len(third.page.evaluate("Object.keys(localStorage)")) == 2


@pytest.mark.parametrize("answers", [[401], [200, 401], [503, 401], [None, 401]])
def test_ended_session_deletes_the_users_drafts(new_tab, answers):
    """The pages that follow have no composer. *answers*: their answers to a poll."""
    new_tab().arrives().types("One")
    new_tab().arrives(person="omar").types("Two")
    account = new_tab().loads().ends_the_session()

    for status in answers:
        account.opens_a_page(status)

    assert account.drafts() == ["Two"]


def test_refused_sign_out_keeps_the_users_drafts(new_tab):
    new_tab().arrives().types("One")
    account = new_tab().loads().ends_the_session()

    account.opens_a_page(200).arrives(person="maya")
    account.opens_a_page(401)  # much later, for another reason

    assert account.drafts() == ["One"]


@pytest.mark.parametrize(("minutes", "drafts"), [(0, []), (2, ["One"])])
def test_refused_sign_out_is_forgotten_by_a_later_page_of_any_tab(new_tab, minutes, drafts):
    """The tab of the sign-out is closed on a page without a composer."""
    new_tab().arrives().types("One")
    new_tab().loads().ends_the_session().page.close()
    other = new_tab()
    other.page.clock.install()
    other.page.clock.fast_forward(minutes * 60_000)
    other.opens_a_page(200).arrives(person="maya")

    other.opens_a_page(401)

    assert other.drafts() == drafts


def test_page_of_another_user_deletes_the_drafts_of_an_ended_session(new_tab):
    new_tab().arrives().types("One")
    account = new_tab().loads().ends_the_session().opens_a_page(503)

    account.opens_a_page(200).arrives(person="omar")

    assert account.drafts() == []


def test_tab_that_loads_during_a_sign_out_does_not_keep_the_drafts(new_tab):
    new_tab().arrives().types("One")
    account, other = new_tab().loads().ends_the_session(), new_tab()
    other.opens_a_page(200).arrives(person="maya")

    account.opens_a_page(401)

    assert account.drafts() == []


def test_each_tab_has_its_draft_after_a_reload(new_tab):
    first, second = new_tab().arrives(), new_tab().arrives()
    first.types("One")
    second.types("Two")

    for tab in (first, second):
        tab.page.reload()
        tab.arrives()

    first.holds("One")
    second.holds("Two")


def test_copy_of_a_tab_gets_a_draft_of_its_own(new_tab):
    first, copy = new_tab().arrives(), new_tab()
    first.types("One")
    name = first.page.evaluate("sessionStorage.daybookTab")
    copy.page.evaluate("(name) => { sessionStorage.daybookTab = name }", name)
    copy.arrives()
    until(lambda: copy.page.evaluate("sessionStorage.daybookTab") != name)

    copy.types("Two")

    drafts = "Object.values(localStorage).map((one) => JSON.parse(one).text).sort()"
    until(lambda: first.page.evaluate(drafts) == ["One", "Two"])


def test_sent_message_of_a_closed_tab_does_not_come_back(new_tab):
    first = new_tab().arrives()
    first.types("One")
    first.page.evaluate("daybook.noteDraftSent()")
    first.closes()

    # the second prompt was sent on another device
    second = new_tab().arrives(prompts=[(3, "One"), (3, "Two")])

    until(lambda: second.page.evaluate("localStorage.length") == 0)
    second.holds("")


def test_draft_is_not_given_to_another_user(new_tab):
    tab = new_tab().arrives()
    tab.types("One")

    tab.arrives(person="omar")
    tab.waits()

    tab.holds("")
    tab.arrives(person="maya")
    tab.holds("One")


def test_refused_message_stands_above_what_was_typed_since(new_tab):
    tab = new_tab().arrives()
    tab.types("One")
    tab.page.evaluate("daybook.noteDraftSent()")
    tab.types("Two")

    tab.page.locator("textarea").evaluate("one => { one.value = 'One' }")  # Streamlit sets the text
    tab.arrives(given="One")

    tab.holds("One\n\nTwo")
    tab.page.reload()
    tab.arrives().holds("One\n\nTwo")


@pytest.mark.parametrize(("place", "stored"), [("garden", 1), ("temporary", 0)])
@pytest.mark.parametrize("typed", ["", "Two"])
def test_message_that_a_lost_connection_swallowed_comes_back(new_tab, place, stored, typed):
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives(place)
    tab.sends("One")
    tab.types(typed)
    for states in ("DISCONNECTED",), ("CONNECTED", "running"):
        tab.is_in(*states)
        tab.holds(typed)

    tab.is_in("CONNECTED")

    tab.holds("One\n\nTwo" if typed else "One")
    assert tab.page.evaluate("localStorage.length") == stored


def test_swallowed_message_comes_back_alone_after_another_was_answered(new_tab):
    tab = new_tab().arrives()
    tab.sends("One")
    for n, text in enumerate(["Two", "Three"], start=1):
        tab.sends(text)
        tab.arrives(prompts=[(3, "Two"), (5, "Three")][:n])

    tab.page.reload()

    tab.arrives(prompts=[(3, "Two"), (5, "Three")]).holds("One")


def test_swallowed_message_that_repeats_a_prompt_comes_back(new_tab):
    said = [(5, "Go on"), (3, "Two")]
    tab = new_tab().arrives(prompts=said)
    tab.sends("Go on")

    tab.page.reload()
    tab.arrives(prompts=said).holds("Go on")

    tab.sends("Go on")
    tab.page.reload()
    tab.arrives(prompts=[*said, (5, "Go on"), (4, "Four")]).holds("")


@pytest.mark.parametrize("typed", ["", "Two"])
@pytest.mark.parametrize("place", ["garden", "temporary"])
def test_message_that_came_back_goes_if_it_is_answered_after_all(new_tab, place, typed):
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives(place)
    tab.sends("One")
    tab.is_in("DISCONNECTED")
    tab.is_in("CONNECTED")
    tab.holds("One")
    if typed:
        tab.types(f"One\n\n{typed}")

    tab.arrives(place, prompts=[(3, "One")]).holds(typed)
    tab.types("One")
    tab.arrives(place, prompts=[(3, "One")]).holds("One")  # typed again


def test_message_that_came_back_to_a_new_chat_goes_if_it_began_one(new_tab):
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives("new")
    tab.sends("One")
    tab.is_in("DISCONNECTED")
    tab.is_in("CONNECTED")
    tab.holds("One")

    tab.arrives("garden", prompts=[(3, "One")]).holds("")

    tab.arrives("new").holds("")


def test_draft_of_the_new_chat_stays_beside_anothers_message_that_came_back(new_tab):
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives("new").types("One")
    tab.arrives("garden").sends("One")
    tab.is_in("DISCONNECTED")
    tab.is_in("CONNECTED")
    tab.holds("One")

    tab.arrives("roses", prompts=[(3, "One")])

    tab.arrives("new").holds("One")


def test_new_chats_message_that_repeats_the_prompt_before_comes_back(new_tab):
    """The prompts of a new chat are those with which the tab began conversations."""
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives("new", prompts=[(3, "One")])
    tab.sends("One")
    tab.is_in("DISCONNECTED")

    tab.arrives("new", prompts=[(3, "One")])
    tab.is_in("CONNECTED")

    tab.holds("One")


def test_message_that_was_answered_does_not_come_back(new_tab):
    for place in "garden", "temporary":
        tab = new_tab()
        tab.page.clock.install()
        tab.arrives(place)
        tab.sends("One")
        tab.arrives(place, prompts=[(3, "One")])

        tab.is_in("DISCONNECTED")
        tab.is_in("CONNECTED")

        tab.holds("")


def test_message_does_not_come_back_while_its_answer_is_late(new_tab):
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives()
    tab.is_in("DISCONNECTED")
    tab.is_in("CONNECTED")
    tab.sends("One")

    tab.page.clock.run_for(60_000)

    tab.holds("")


def test_message_of_an_ended_temporary_chat_does_not_come_back(new_tab):
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives("temporary")
    tab.sends("One")
    tab.arrives("new").holds("")

    tab.arrives("temporary")
    tab.is_in("DISCONNECTED")
    tab.is_in("CONNECTED")

    tab.holds("")


def test_two_messages_before_an_answer_are_both_kept(new_tab):
    tab = new_tab().arrives()
    tab.sends("One")
    tab.sends("Two")

    tab.page.reload()

    tab.arrives().holds("One\n\nTwo")


def test_text_typed_on_the_next_page_belongs_to_its_place(new_tab):
    tab = new_tab().arrives("roses")
    tab.types("Two")
    tab.arrives("garden").types("One")

    tab.loses_the_composer()
    tab.types("Three")
    tab.arrives("roses")

    tab.holds("Two\n\nThree")
    tab.arrives("garden").holds("One")
    tab.arrives("roses").holds("Two\n\nThree")


@pytest.mark.parametrize("draft", ["", "One"])
def test_text_typed_while_a_chat_is_drawn_belongs_to_it(new_tab, draft):
    tab = new_tab().arrives("garden")
    tab.types(draft)
    tab.page.evaluate("history.pushState(null, '', '?c=roses')")

    tab.types(f"{draft}T")
    tab.types(f"{draft}Two")
    assert tab.drafts() == [f"{draft}Two"]  # a reload does not lose it

    tab.arrives("roses").holds("Two")
    tab.types("Two, and more")
    tab.arrives("garden").holds(draft)
    tab.arrives("roses").holds("Two, and more")


def test_message_sent_while_a_chat_is_drawn_comes_back(new_tab):
    tab = new_tab()
    tab.page.clock.install()
    tab.arrives("garden")
    tab.page.evaluate("history.pushState(null, '', '?c=roses')")
    tab.sends("Two")

    tab.is_in("DISCONNECTED")
    tab.is_in("CONNECTED")

    tab.holds("Two")


def test_temporary_chat_leaves_the_draft_of_the_chat_before(new_tab):
    tab = new_tab().arrives("garden")
    tab.types("One")

    tab.arrives("temporary").holds("")

    tab.arrives("garden").holds("One")


def test_text_of_a_new_chat_goes_along_to_a_temporary_chat(new_tab):
    tab = new_tab().arrives("new")
    tab.types("One")

    tab.arrives("temporary").holds("One")

    assert tab.page.evaluate("localStorage.length") == 0


def test_sent_text_of_a_new_chat_is_not_its_draft_later(new_tab):
    tab = new_tab().arrives("new")
    tab.types("One")
    tab.page.evaluate("daybook.noteDraftSent()")
    tab.loses_the_composer()

    tab.arrives("garden", prompts=[(3, "One")]).holds("")

    tab.arrives("new").holds("")


@pytest.mark.parametrize("typed", ["", "Two"])
def test_draft_of_a_deleted_chat_goes_to_the_new_chat(new_tab, typed):
    tab = new_tab().arrives("new")
    tab.types("One")
    tab.page.evaluate("history.replaceState(null, '', '?c=garden')")
    tab.arrives("garden")
    tab.types(typed)

    tab.loses_the_composer(NOT_FOUND)
    tab.arrives("new")

    tab.holds("One\n\nTwo" if typed else "One")
    assert tab.page.evaluate("localStorage.length") == 1


def test_draft_stays_while_another_chat_is_not_found(new_tab):
    tab = new_tab().arrives("garden")
    tab.types("One")
    tab.page.evaluate("history.replaceState(null, '', '?c=roses')")

    tab.loses_the_composer(NOT_FOUND)

    tab.arrives("new").holds("")
    tab.arrives("garden").holds("One")


class EditingTab(Tab):
    """A tab with a chat whose messages have buttons that edit them."""

    def loads(self):
        super().loads()
        self.page.evaluate("daybook.leavePlace = daybook.noteSent = daybook.isAway = () => {}")
        for name in "edit.js", "send.js":
            script = (_ASSETS / "page" / name).read_text("utf-8")
            self.page.add_script_tag(content=f"{{{script}}}")
        self.page.evaluate("document.body.append(document.createElement('main'))")
        return self

    def draws(self, html):
        self.page.evaluate(
            """async (html) => {
              document.querySelector("main").innerHTML = html;
              for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
            }""",
            html,
        )

    def shows(self, *messages):
        """Draw a chat with an Edit button for each of *messages*."""
        self.draws(
            "".join(
                f'<button data-act="edit" data-message="{one}">{one}</button>' for one in messages
            )
        )
        return self

    def edits(self, message):
        """Press Edit below *message*, and draw the field; return the text that the field shows."""
        self.shows(message)
        self.page.get_by_role("button", name=message).click()
        self.draws(f"""
          <div class="st-key-edit-prompt">
            <div class="st-key-text-of-{message}"><textarea>Shade?</textarea></div>
            <div class="st-key-send-message"><button>Send</button></div>
            <div class="st-key-leave-message"><button>Cancel</button></div>
          </div>
        """)
        return self.field.input_value()

    @property
    def field(self):
        return self.page.locator("main textarea")

    def stored(self):
        """Return all that the browser stores, as one text."""
        return self.page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")


@pytest.fixture
def new_editing_tab(browser):
    with browser.new_context() as context:
        yield lambda: EditingTab(context)


@pytest.mark.parametrize("place", ["garden", "temporary"])
def test_edited_texts_stay_until_they_are_sent(new_editing_tab, place):
    """The server closes the field when another message is edited, or when the tab gets a new session."""
    tab = new_editing_tab().arrives(place)
    tab.edits("m1")
    tab.field.fill("Half shade?")
    assert tab.edits("m2") == "Shade?"
    tab.field.fill("")
    tab.shows("m1", "m2")

    assert tab.edits("m1") == "Half shade?"
    assert tab.edits("m2") == ""
    assert ("Half shade?" in tab.stored()) is (place == "garden")


def test_edited_text_is_not_stored_before_the_chat_is_known(new_editing_tab):
    tab = new_editing_tab().loads()
    tab.edits("m1")
    tab.field.fill("Half shade?")

    assert "Half shade?" not in tab.stored()
    assert tab.edits("m1") == "Half shade?"


def test_page_with_the_sign_of_a_temporary_chat_stores_no_edited_text(new_editing_tab):
    """The component that says which chat is shown has not been called yet for a temporary chat brought back."""
    tab = new_editing_tab().arrives("garden")
    tab.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<i class=\"st-key-temporary-sign\"></i>')"
    )
    tab.edits("m1")
    tab.field.fill("Half shade?")

    assert "Half shade?" not in tab.stored()


def test_edited_text_stays_after_a_reload_of_its_tab(new_editing_tab):
    tab = new_editing_tab().arrives()
    tab.edits("m1")
    tab.field.fill("Half shade?")
    other = new_editing_tab().arrives()

    tab.page.reload()
    tab.arrives()

    assert tab.edits("m1") == "Half shade?"
    assert other.edits("m1") == "Shade?"
    assert other.arrives("m1").page.locator(".st-key-composer textarea").input_value() == ""


def test_ended_session_deletes_edited_texts(new_editing_tab):
    tab = new_editing_tab().arrives()
    tab.edits("m1")
    tab.field.fill("Half shade?")

    new_editing_tab().loads().ends_the_session().opens_a_page(401)

    until(lambda: "Half shade?" not in tab.stored())  # another process of the browser sees it later


@pytest.mark.parametrize("press", ["Escape", "Cancel"])
def test_left_field_forgets_its_text(new_editing_tab, press):
    tab = new_editing_tab().arrives()
    tab.edits("m1")
    tab.field.fill("Half shade?")
    if press == "Escape":
        tab.field.press("Escape")
    else:
        tab.page.get_by_role("button", name="Cancel").click()

    assert "Half shade?" not in tab.stored()
    assert tab.edits("m1") == "Shade?"


def test_escape_waits_for_the_button_that_leaves_the_field(new_editing_tab):
    tab = new_editing_tab().arrives()
    tab.edits("m1")
    tab.field.fill("Half shade?")
    leave = "document.querySelector('.st-key-leave-message')"
    tab.page.evaluate(f"(window.later = {leave}).remove()")
    tab.field.press("Escape")
    assert "Half shade?" in tab.stored()

    tab.page.evaluate("document.querySelector('.st-key-edit-prompt').append(window.later)")

    until(lambda: "Half shade?" not in tab.stored())


@pytest.mark.parametrize("press", ["Control+Enter", "Send"])
@pytest.mark.parametrize("stop", ["", '<div class="st-key-stop"></div>'])
def test_sent_edited_text_is_forgotten_once_its_version_is_shown(new_editing_tab, press, stop):
    """While its reply streams, a script runs, and there is a Stop button."""
    tab = new_editing_tab().arrives()
    tab.edits("m1")
    tab.field.fill("Half shade?")
    if press == "Send":
        tab.page.get_by_role("button", name="Send").click()
    else:
        tab.field.press(press)
    if stop:
        tab.page.evaluate("document.querySelector('.stApp').dataset.testScriptState = 'running'")
    tab.draws('<i hidden data-stored-edit="m1"></i>' + stop)

    assert "Half shade?" not in tab.stored()
    assert tab.edits("m1") == "Shade?"


def test_sent_edited_text_that_the_server_did_not_take_stays(new_editing_tab):
    tab = new_editing_tab().arrives()
    for after in "its message", "later messages", "another chat", "the sign-in page":
        tab.edits("m1")
        tab.field.fill("Half shade?")
        tab.page.get_by_role("button", name="Send").click()
        match after:
            case "its message":
                tab.shows("m1")
            case "later messages":  # a new session does not draw the earlier ones
                tab.shows("m7")
            case "another chat":  # opened after the server has refused the text
                tab.page.evaluate("history.replaceState(null, '', '?c=roses')")
                tab.shows("m5")
            case _:
                tab.page.evaluate("document.querySelector('.st-key-composer').remove()")
                tab.draws("<p></p>")
                tab.page.reload()
                tab.arrives()

        assert tab.edits("m1") == "Half shade?", after


FULL = """() => {
  let name = "x", part = "x".repeat(1 << 20);
  for (; part.length; part = part.slice(0, part.length / 2)) {
    try { while (true) localStorage.setItem(name += "x", part); } catch {}
  }
}"""  # fills the local storage of the site


def test_drafts_are_kept_apart_in_memory_while_local_storage_is_full(new_tab):
    tab = new_tab().arrives("garden")
    tab.types("One")
    tab.page.evaluate(FULL)

    tab.types("One, and more than was stored")
    tab.arrives("garden", prompts=[(3, "Two")])
    tab.arrives("roses").holds("")
    tab.sends("Three")
    tab.types("Four")
    tab.arrives("roses", prompts=[(5, "Three")]).holds("Four")

    tab.arrives("garden").holds("One, and more than was stored")
    tab.arrives("roses", prompts=[(5, "Three")]).holds("Four")
    assert "One" not in tab.drafts()


def test_edited_text_is_kept_in_memory_while_local_storage_is_full(new_editing_tab):
    tab = new_editing_tab().arrives()
    tab.page.evaluate(FULL)
    tab.edits("m1")
    tab.field.fill("Half shade?")

    assert tab.edits("m2") == "Shade?"
    assert tab.edits("m1") == "Half shade?"


def test_ended_session_deletes_the_users_drafts_if_local_storage_is_full(new_tab):
    new_tab().arrives().types("One")
    new_tab().arrives(person="omar").types("Two")
    account = new_tab().loads()
    account.page.evaluate(FULL)

    account.ends_the_session()

    assert account.drafts() == ["Two"]


def test_theme_that_cannot_be_stored_leaves_the_other_scripts_alone(new_tab):
    tab = new_tab()
    tab.page.evaluate(FULL)
    tab.loads()
    script = (_ASSETS / "page" / "theme.js").read_text("utf-8")
    tab.page.evaluate("daybook.isPosting = () => false")
    tab.page.add_script_tag(content=f"{{{script}; window.isWhole = true}}")
    drawn = """async () => {
      window.isHere = true;
      let count = 0;
      daybook.onDraw(() => count++);
      document.body.insertAdjacentHTML("beforeend", '<i data-theme="dark"></i>');
      for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
      return [count > 0, window.isWhole];
    }"""

    assert tab.page.evaluate(drawn) == [True, True]
    tab.page.wait_for_timeout(300)  # in which a reload would happen
    assert tab.page.evaluate("window.isHere")


def test_error_of_one_function_does_not_stop_the_others_of_a_frame(new_tab):
    tab = new_tab().loads()
    errors = []
    tab.page.on("pageerror", lambda error: errors.append(str(error)))
    is_called = tab.page.evaluate("""async () => {
      let isCalled = false;
      daybook.onDraw(() => { throw new Error("a bug"); });
      daybook.onDraw(() => isCalled = true);
      document.body.append(document.createElement("p"));
      for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
      return isCalled;
    }""")

    assert is_called
    assert errors == ["a bug"]


@pytest.mark.parametrize("leave", ["Escape", "Cancel"])
def test_edited_text_that_is_too_long_does_not_reach_the_server(new_editing_tab, leave):
    """Streamlit sends the text of the field with a press of Send, Cancel or Ctrl+Enter."""
    tab = new_editing_tab().arrives()
    tab.edits("m1")
    tab.page.evaluate("""() => {
      window.sent = [];
      const text = document.querySelector("main textarea");
      document.querySelector("main").addEventListener("click", ({ target }) =>
        sent.push([target.textContent, text.value.length]));
      text.addEventListener("keydown", ({ key }) => key === "Enter" && sent.push([key, text.value.length]));
    }""")
    words = "This message is too long (200,001 of 200,000 bytes). Send it in parts."
    tab.field.fill("x" * 200_001)

    tab.page.get_by_role("button", name="Send").click()
    assert tab.page.get_by_role("alert").text_content() == words
    tab.field.press("Control+Enter")
    assert tab.page.get_by_role("alert").text_content() == words
    assert tab.page.evaluate("sent") == []
    tab.field.fill("x" * 200_000)
    tab.page.get_by_role("button", name="Send").click()
    tab.field.press("Control+Enter")
    assert tab.page.evaluate("sent") == [["Send", 200_000], ["Enter", 200_000]]

    tab.field.fill("x" * 200_001)
    if leave == "Escape":
        tab.field.press("Escape")
    else:
        tab.page.get_by_role("button", name="Cancel").click()
    until(lambda: tab.page.evaluate("sent").pop() == ["Cancel", 0])
    assert tab.edits("m1") == "Shade?"
