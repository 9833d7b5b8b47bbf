"""The composer: its focus, and files that are dropped or pasted."""

import pytest
from playwright.sync_api import expect

from pages._parts.passkey_forms import name_field
from services.web.page_assets import _ASSETS
from tests.journeys.people import FOR_EVER
from tests.stack.apps import until


def test_composer_has_the_focus_wherever_a_page_begins(person):
    maya = person()
    maya.arrives()
    press = maya.page.keyboard.press
    expect(maya.composer).to_be_focused()

    maya.turns_to_a_temporary_chat()
    expect(maya.temporary_switch).to_be_focused()
    maya.page.keyboard.type("Is it on?")
    expect(maya.composer).to_have_value("Is it on?")
    maya.sees_no_reply_coming()
    expect(maya.temporary_switch).to_be_checked()
    maya.composer.fill("")
    maya.temporary_switch.focus()
    press("Space")
    expect(maya.temporary_switch).not_to_be_checked()
    maya.sees("Ask anything.")
    maya.composer.focus()

    maya.page.keyboard.type("Peas")
    press("Control+Enter")
    maya.hears_all_of("You said: Peas")
    maya.page.locator(".st-key-new-chat button").click()
    expect(maya.messages).to_have_count(0)
    expect(maya.composer).to_be_focused()

    maya.page.locator("#stMain").click(position={"x": 20, "y": 200})
    expect(maya.composer).not_to_be_focused()
    maya.page.keyboard.type("Roses?")
    expect(maya.composer).to_have_value("Roses?")
    maya.composer.fill("")

    maya.jumps_to_the_filter()
    maya.page.keyboard.type("pea")
    press("Enter")
    maya.is_in("Peas")
    expect(maya.filter).to_have_value("")
    expect(maya.composer).to_be_focused()

    beside = maya.new_tab()
    beside.visit(f"/?c={maya.conversation_id}")
    beside.hears_all_of("You said: Peas")
    beside.asks("Beans")
    beside.hears_all_of("You said: Beans")
    maya.comes_back()
    maya.hears_all_of("You said: Beans")


# draws the choice of Preferences, and waits until the script has taken it
CHOOSE = """async (chosen) => {
  document.body.insertAdjacentHTML("beforeend", `<i hidden data-enter="${chosen}"></i>`);
  for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);
}"""
# draws a title with a limit as Streamlit does, and collects the values of fields of which Streamlit hears
LIMITED = """(most) => {
  document.body.insertAdjacentHTML("beforeend", `<div data-testid="stTextInput"><input aria-label="Title">
    <p data-testid="InputInstructions"><span>0/${most}</span></p></div><textarea aria-label="Copied"></textarea>`);
  window.heard = [];
  document.body.addEventListener("input", ({ target, inputType }) => {
    if (inputType === "insertText" || inputType === "insertFromPaste") heard.push(target.value);
  });
}"""


COMPOSER = """<div data-testid="stBottom">
  <div class="st-key-composer"><textarea></textarea></div>
  <button data-testid="stChatInputSubmitButton">Send</button>
</div>"""


@pytest.fixture
def page(browser):
    """A page with a composer alone; it counts the texts that count as sent, and those that reach Streamlit."""
    with browser.new_context() as context:
        yield opened(context, "_shared", "send")


def opened(context, *scripts):
    page = context.new_page()
    page.route("**/*", lambda route: route.fulfill(body=COMPOSER, content_type="text/html"))
    page.goto("https://app.test/")
    for name in scripts:
        script = (_ASSETS / "page" / f"{name}.js").read_text("utf-8")
        page.add_script_tag(content=f"{{{script}}}")
    page.evaluate("""() => {
          window.sent = window.reached = 0;
          daybook.noteSent = () => (sent += 1);
          daybook.isAway = daybook.noteDraftSent = daybook.noteUnanswered = () => false;
          const field = document.querySelector("textarea");
          field.addEventListener("keydown", ({ key, ctrlKey }) => key === "Enter" && !ctrlKey && (reached += 1));
          document.querySelector("button").addEventListener("click", () => (reached += 1));
        }""")
    return page


def test_empty_text_does_not_count_as_sent(page):
    composer = page.get_by_role("textbox")

    composer.press("Enter")
    assert page.evaluate("sent") == 0

    composer.fill("Peas")
    composer.press("Enter")
    assert page.evaluate("sent") == 1


@pytest.mark.parametrize("send", ["Enter", "Control+Enter", "Send"])
def test_text_that_is_too_long_does_not_reach_streamlit(page, send):
    composer, refused = page.get_by_role("textbox"), page.get_by_role("alert")

    def sends():
        if send == "Send":
            page.get_by_role("button", name="Send").click()
        else:
            composer.press(send)

    composer.fill("é" * 100_001)
    sends()
    expect(refused).to_have_text(
        "This message is too long (200,002 of 200,000 bytes). Send it in parts."
    )
    expect(composer).to_have_value("é" * 100_001)
    assert page.evaluate("[sent, reached]") == [0, 0]

    composer.fill("é" * 100_000)
    sends()
    expect(refused).to_have_count(0)
    assert page.evaluate("[sent, reached]") == [1, 1]


def test_sent_text_is_no_draft_whatever_fails_then(page):
    page.evaluate("""() => {
      window.noted = 0;
      daybook.noteDraftSent = () => (noted += 1);
      daybook.noteSent = () => undefined.checkVisibility();
    }""")
    page.get_by_role("textbox").fill("Peas")

    page.get_by_role("textbox").press("Enter")

    assert page.evaluate("noted") == 1


@pytest.mark.parametrize(
    ("chosen", "sends"), [("always", True), ("never", False), ("device", True), (None, True)]
)
def test_enter_sends_if_the_preferences_say_so(page, chosen, sends):
    composer = page.get_by_role("textbox")
    if chosen:
        page.evaluate(CHOOSE, chosen)

    composer.fill("Peas")
    composer.press("Enter")
    assert page.evaluate("[sent, reached]") == [sends, sends]

    composer.press("Control+Enter")
    assert page.evaluate("[sent, reached]") == [1 + sends, 1 + sends]


@pytest.mark.parametrize("chosen", ["always", "device"])
def test_tablet_says_which_keys_send(browser, chosen):
    tablet = {"viewport": {"width": 1024, "height": 768}, "has_touch": True, "is_mobile": True}
    with browser.new_context(**tablet) as context:
        page = opened(context, "_shared", "send")
        page.evaluate(CHOOSE, chosen)
        page.get_by_role("textbox").fill("Peas")
        page.get_by_role("textbox").press("Enter")

        told = "Ctrl+Enter sends. Preferences can make Enter send, too."
        assert page.get_by_role("alert").all_inner_texts() == [told] * (chosen == "device")
        assert page.evaluate("sent") == (chosen == "always")


@pytest.mark.parametrize("chosen", ["always", "never", "device"])
def test_enter_sends_an_edited_message_if_chosen(browser, chosen):
    with browser.new_context() as context:
        page = opened(context, "_shared", "send", "edit", "names")
        page.evaluate(CHOOSE, chosen)
        page.evaluate("""() => {
          daybook.keepEdited = daybook.leavePlace = daybook.isTooLong = () => {};
          daybook.edited = () => ({});
          document.body.insertAdjacentHTML("beforeend", `<div class="st-key-edit-reply">
            <div class="st-key-text-of-1"><textarea aria-label="Edit"></textarea></div>
            <p data-testid="InputInstructions"><span>Press Ctrl+Enter to submit form</span></p></div>`);
          window.keys = [];
          document.querySelector("[aria-label]").addEventListener("keydown", ({ ctrlKey }) => keys.push(ctrlKey));
        }""")
        edited = page.get_by_label("Edit")
        keys = "Enter" if chosen == "always" else "Ctrl+Enter"
        expect(page.get_by_text(f"{keys} to save")).to_be_visible()

        edited.press("Enter")
        edited.press("Shift+Enter")

        # what Streamlit gets: Ctrl+Enter, which submits, instead of Enter
        assert page.evaluate("keys.filter((isControl) => isControl)") == [True] * (
            chosen == "always"
        )
        assert edited.input_value() == ("\n" if chosen == "always" else "\n\n")


FAMILY = "👨‍👩‍👧‍👦"  # one character as people see it, eleven as JavaScript counts


@pytest.mark.parametrize(
    ("before", "pasted", "after"),
    [
        ("", "x" * 40, "x" * 30),
        ("", FAMILY * 4, FAMILY * 2),
        ("ab|yz", FAMILY * 4, f"ab{FAMILY * 2}|yz"),
        ("", "x" * 29 + "e\u0301", "x" * 29),
        ("", "x" * 30, "x" * 30),
    ],
)
def test_pasted_text_is_cut_at_whole_characters(browser, before, pasted, after):
    with browser.new_context() as context:
        page = opened(context, "_shared", "paste")
        page.evaluate(LIMITED, 30)
        field, begin = page.get_by_label("Title"), before.find("|")
        field.fill(before.replace("|", ""))
        field.evaluate("(field, at) => field.setSelectionRange(at, at)", max(begin, 0))

        page.keyboard.insert_text(pasted)

        expect(field).to_have_value(after.replace("|", ""))
        assert page.evaluate("heard.at(-1)") == after.replace("|", "")
        at = after.find("|") if "|" in after else len(after)
        end = len(after[:at].encode("utf-16-le")) // 2
        assert field.evaluate("(field) => field.selectionStart") == end
        told = "Shortened to 30 characters, the maximum."
        is_cut = len((before + pasted).encode("utf-16-le")) // 2 > 30
        assert page.get_by_role("alert").all_inner_texts() == [told] * is_cut


def test_narrow_field_has_the_limit_of_the_page(browser):
    with browser.new_context() as context:
        page = opened(context, "_shared", "paste")
        page.evaluate("""() => {
          document.body.insertAdjacentHTML("beforeend", `<div class="st-key-editing-title"><i data-most="30"></i>
            <div data-testid="stTextInput"><input aria-label="Title"></div></div>`);
        }""")

        page.get_by_label("Title").fill("x" * 40)

        expect(page.get_by_label("Title")).to_have_value("x" * 30)


def test_field_of_a_form_of_our_own_says_that_a_text_was_cut(browser):
    with browser.new_context() as context:
        page = opened(context, "_shared", "paste")
        page.evaluate(
            """(form) => (document.body.innerHTML += form)""", f"<form>{name_field('Key')}</form>"
        )

        page.get_by_label("Name").fill("x" * 80)

        expect(page.get_by_label("Name")).to_have_value("x" * 60)
        expect(page.get_by_role("alert")).to_have_text("Shortened to 60 characters, the maximum.")


def test_long_text_is_pasted_at_once_in_its_direction(browser):
    with browser.new_context() as context:
        page = opened(context, "_shared", "paste", "text")
        page.evaluate(LIMITED, 0)
        lines = "۱۲۳ سطر\n" * 2500
        page.get_by_label("Copied").evaluate("(field, text) => { field.value = text; }", lines)
        page.get_by_label("Copied").press("Control+A")
        page.keyboard.press("Control+C")
        composer = page.locator(".st-key-composer textarea")
        composer.fill("A and B")
        composer.press("Control+A")
        expect(composer).to_have_attribute("dir", "ltr")

        page.keyboard.press("Control+V")

        assert (
            page.evaluate("heard.length") == 2
        )  # by Streamlit: of the text before, and of this text
        is_whole = composer.evaluate("(field, text) => field.value === text", lines)
        assert is_whole, "not as it was copied"
        expect(composer).to_have_attribute("dir", "rtl")
        composer.fill("1 + 1 = 2 " * 101 + "سطر")
        expect(composer).to_have_attribute("dir", "ltr")


def test_files_are_declined_and_pasted_text_is_taken(person, tmp_path):
    maya = person()
    maya.arrives()
    maya.context.grant_permissions(["clipboard-read", "clipboard-write"])
    declined = maya.page.get_by_text("Files can't be attached yet")
    file = tmp_path / "notes.html"
    file.write_text("Beans")

    drops_file(maya.page, file, at=(700, 300))
    expect(declined).to_be_visible()
    maya.page.keyboard.type("Peas ")
    expect(declined).to_have_count(0)

    pastes(maya.page, "image/png")
    expect(declined).to_be_visible()
    maya.composer.click()
    pastes(maya.page, "image/png", "text/plain")
    expect(maya.composer).to_have_value("Peas table")
    expect(declined).to_have_count(0)
    assert "notes" not in maya.page.url


# presses Send right after the browser was busy for longer than the page waits between two polls for a reply elsewhere:
# the poll is due, and runs before the timer in which Streamlit sends the press
PRESS = """() => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => document.querySelector("[data-testid=stChatInputSubmitButton]").click();
  port2.postMessage(null);
  for (const until = performance.now() + 700; performance.now() < until; );
}"""


def test_prompt_is_sent_once_while_another_reply_streams(person):
    maya = person()
    maya.arrives()
    maya.asks(f"Peas {FOR_EVER}")
    maya.hears("word2")
    maya.begins_a_new_chat()
    maya.sees_no_reply_coming()
    maya.composer.fill("Beans")

    maya.page.evaluate(PRESS)

    maya.hears_all_of("You said: Beans")
    maya.begins_a_new_chat()
    maya.sees_no_reply_coming()
    expect(maya.rows).to_have_text(["Beans", f"Peas {FOR_EVER}"])


@pytest.mark.long_run
def test_text_that_is_too_long_is_kept_and_never_sent(person):
    maya, sent = person(), []
    maya.page.on(
        "websocket", lambda tab: tab.on("framesent", lambda frame: sent.append(len(frame)))
    )
    maya.arrives()
    long, longest = "é" * 100_001, "é" * 100_000
    words = "This message is too long (200,002 of 200,000 bytes). Send it in parts."
    refused = maya.page.get_by_role("alert").filter(has_text=words)

    for send in (
        lambda: maya.composer.press("Enter"),
        lambda: maya.composer.press("Control+Enter"),
        lambda: maya.page.get_by_test_id("stChatInputSubmitButton").click(),
    ):
        maya.composer.fill(long)
        send()
        expect(refused).to_be_visible()
        expect(maya.composer).to_have_value(long)
    expect(maya.messages).to_have_count(0)
    assert 0 < max(sent) < 64_000

    maya.composer.fill(longest)
    maya.composer.press("Enter")
    maya.sees("Your message is too long for the model")  # the message is too long for this model
    assert max(sent) > 200_000
    expect(refused).to_have_count(0)


def drops_file(page, file, at):
    """Drop *file* through the browser's own input: a synthetic event would not test the browser."""
    browser = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    page.evaluate("addEventListener('dragover', (event) => (window.over = event.defaultPrevented))")

    def drags(kind):
        place = {"x": at[0], "y": at[1]}
        browser.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})

    def is_heard():
        drags("dragOver")
        return page.evaluate("window.over === true")

    drags("dragEnter")
    until(is_heard)  # a browser opens a file that is dropped before the page has accepted it
    drags("drop")


def pastes(page, *kinds):
    """Paste by keyboard: a clipboard with an image, and one like a spreadsheet's with text and an image."""
    page.evaluate(
        """async (kinds) => {
          const canvas = new OffscreenCanvas(4, 4);
          canvas.getContext("2d");
          const image = await canvas.convertToBlob();
          const values = { "image/png": image, "text/plain": new Blob(["table"], { type: "text/plain" }) };
          await navigator.clipboard.write([new ClipboardItem(Object.fromEntries(kinds.map((k) => [k, values[k]])))]);
        }""",
        kinds,
    )
    page.keyboard.press("Control+v")


def test_composer_stays_open_while_a_reply_streams(person, model):
    maya = person()
    maya.arrives()
    press = maya.page.keyboard.press
    maya.composer.press_sequentially("Peas [[tokens=20 held=2]]")
    press("Enter")
    maya.page.keyboard.type("And ")  # typed at once
    maya.hears("word2")
    expect(maya.stop_button).to_be_visible()
    maya.page.keyboard.type("beans?")
    expect(maya.composer).to_have_value("And beans?")
    maya.page.locator("#stMain").click(position={"x": 20, "y": 200})
    expect(maya.page.locator("#stMain:focus-visible")).to_have_count(0)

    maya.composer.focus()
    press("Enter")
    maya.sees("Wait for the reply to finish")
    maya.page.get_by_test_id("stChatInputSubmitButton").click()
    maya.sees("Wait for the reply to finish")
    expect(maya.composer).to_have_value("And beans?")
    model.go_on()
    maya.hears_all_of("word20")
    expect(maya.messages).to_have_count(2)
    maya.page.reload()
    expect(maya.composer).to_have_value("And beans?")

    maya.composer.fill("")
    maya.asks(f"Roses {FOR_EVER}")
    maya.hears("word2")
    maya.page.keyboard.type("Next")
    press("Escape")
    maya.sees_no_reply_coming()
    expect(maya.composer).to_have_value("Next")
    expect(maya.composer).to_be_focused()
