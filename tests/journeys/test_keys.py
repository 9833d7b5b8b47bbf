"""Keyboard shortcuts: the list of them, and the way to a conversation without a mouse."""

import re
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import expect

from services.domain import Full
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, hold, let_talk_fast, second_process

_SCRIPTS = Path(__file__).parents[2] / "assets" / "page"


def page_with(browser, script, content, platform="Linux"):
    """Open a page of *content* with one of our scripts, and without Streamlit."""
    page = browser.new_page()
    page.add_init_script(
        f"Object.defineProperty(navigator, 'platform', {{ get: () => '{platform}' }})"
    )
    page.route("**/*", lambda route: route.fulfill(body=content, content_type="text/html"))
    page.goto("https://app.test/")
    add_scripts(page, *script.split())
    return page


def add_scripts(page, *names):
    for name in ("_shared.js", *names):
        # in a block, as services/web/page_assets.py joins the scripts
        page.add_script_tag(content=f"{{{(_SCRIPTS / name).read_text('utf-8')}}}")


@pytest.mark.parametrize(
    ("state", "after", "stops"),
    [
        ("running", [], True),
        ("running", ["x"], True),
        ("running", ["Enter"], False),
        ("notRunning", [], False),
    ],
)
def test_escape_is_kept_until_stop_is_drawn(browser, state, after, stops):
    page = page_with(
        browser, "stop.js", f'<div class="stApp" data-test-script-state="{state}"></div>'
    )

    for key in ("Escape", *after):
        page.keyboard.press(key)
    stopped = page.evaluate("""async () => {
      let stopped = false;
      document.body.innerHTML += '<div class="st-key-stop"><button></button></div>';
      document.querySelector("button").onclick = () => stopped = true;
      for (let frames = 0; frames < 3; frames++) await new Promise(requestAnimationFrame);
      return stopped;
    }""")

    assert stopped is stops
    page.close()


FILTER = '<div class="st-key-search"><input></div><main tabindex="0">Chat</main>'


def test_thing_to_try_is_put_into_the_composer_once(browser):
    page = page_with(
        browser,
        "welcome.js",
        """<div class="st-key-composer"><textarea>Dear all</textarea></div>
           <button data-prompt="Why?"><span>Try</span></button>""",
    )

    for _ in range(2):
        page.get_by_role("button", name="Try").click()

    expect(page.locator("textarea")).to_have_value("Dear all\n\nWhy?")
    expect(page.locator("textarea")).to_be_focused()
    page.close()


def test_escape_stops_no_reply_of_a_later_run(browser):
    page = page_with(
        browser, "stop.js", '<div class="stApp" data-test-script-state="running"></div>'
    )
    page.keyboard.press("Escape")
    stopped = page.evaluate("""async () => {
      let stopped = false;
      const draw = async (state, stop) => {
        document.querySelector(".stApp").dataset.testScriptState = state;
        document.body.insertAdjacentHTML("beforeend", stop);
        for (let frames = 0; frames < 3; frames++) await new Promise(requestAnimationFrame);
      };
      document.addEventListener("click", () => stopped = true);
      await draw("notRunning", "<p></p>");
      await draw("running", '<div class="st-key-stop"><button></button></div>');
      return stopped;
    }""")

    assert stopped is False
    page.close()


MENUS = """
  <button data-options="Pin|Rename|Instructions|Chat notes|Move to space|Archive|Export|Delete">One</button>
  <button data-options="Pin">Two</button>
"""


def test_last_item_of_a_long_menu_can_be_reached(browser):
    page = page_with(browser, "menu.js", MENUS)
    page.set_viewport_size({"width": 390, "height": 280})
    page.add_style_tag(path=_SCRIPTS.parent / "style.css")
    page.add_style_tag(
        content=".db-menu button { display: block; height: 2.5rem }"
    )  # as touch screens
    page.get_by_role("button", name="One").click()

    page.keyboard.press("End")

    last = page.get_by_role("menuitem", name="Delete")
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport(ratio=1)
    page.close()


def test_menu_button_is_collapsed_once_another_menu_opens(browser):
    page = page_with(browser, "menu.js", MENUS)
    one, two = (page.get_by_role("button", name=name) for name in ("One", "Two"))
    one.click()
    expect(one).to_have_attribute("aria-expanded", "true")

    two.dispatch_event("click")

    expect(one).to_have_attribute("aria-expanded", "false")
    expect(two).to_have_attribute("aria-expanded", "true")
    page.close()


def test_menu_opens_again_right_after_escape(browser):
    page = page_with(browser, "menu.js", MENUS)
    one = page.get_by_role("button", name="One")
    one.click()
    expect(page.get_by_role("menu")).to_be_visible()

    # in one task: the browser has not told yet that the menu was closed
    one.evaluate("""(button) => {
      dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
      button.click();
    }""")

    expect(one).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("menuitem", name="Delete")).to_be_visible()
    page.close()


def focused(page):
    return page.evaluate("document.activeElement.textContent.trim()")


def test_letters_lead_through_a_menu(browser):
    page = page_with(browser, "menu.js", MENUS)
    page.evaluate("void (window.keys = [], onkeydown = ({ key }) => keys.push(key))")
    page.get_by_role("button", name="One").press("Enter")

    reached = []
    for key in "mPrRcx":
        page.keyboard.press(key)
        reached.append(focused(page))

    assert reached == ["Move to space", "Pin", "Rename", "Rename", "Chat notes", "Chat notes"]
    assert page.evaluate("keys") == ["Enter"]  # no letter reaches a shortcut of Streamlit
    page.close()


ACCOUNT = """
  <button>Maya</button>
  <template>
    <p>Spent today: nothing</p>
    <button data-act="preferences">Preferences</button><a href="/memory">Memory</a>
    <button data-submits="out">Sign out</button>
  </template>
  <form id="out" hidden></form><button>After it</button>
"""


def test_menu_has_items_alone_and_gives_the_focus_back(browser):
    page = page_with(browser, "menu.js", ACCOUNT)
    page.evaluate("void (onsubmit = (event) => { event.preventDefault(); document.title = 'Out' })")
    maya, menu = page.get_by_role("button", name="Maya"), page.get_by_role("menu", name="Maya")
    maya.press("Enter")

    assert focused(page) == "Preferences"
    assert menu.locator("> *").count() == menu.locator("> [role=menuitem]").count() == 3
    expect(page.get_by_text("Spent today: nothing")).to_be_visible()
    page.keyboard.press("Escape")
    expect(menu).to_have_count(0)
    expect(maya).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(menu).to_have_count(0)
    assert focused(page) == "After it"
    maya.press("Enter")
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(page).to_have_title("Out")
    page.close()


@pytest.mark.parametrize(
    ("key", "path"),
    [("", "/memory"), (" ", "/memory"), ("ctrlKey", "/"), ("metaKey", "/"), ("shiftKey", "/")],
)
def test_link_of_a_menu_opens_its_page(browser, key, path):
    page = browser.new_page()
    page.route("**/*", lambda route: route.fulfill(body=ACCOUNT, content_type="text/html"))
    page.goto("http://app.test/")
    add_scripts(page, "menu.js")
    page.get_by_role("button", name="Maya").press("Enter")
    page.evaluate("""() => {
      window.heard = [];
      onpopstate = () => heard.push("popstate"); // by which Streamlit opens the page
      addEventListener("click", (event) => {
        if (!event.defaultPrevented) heard.push("left to the browser");
        event.preventDefault();
      });
    }""")

    memory = page.get_by_role("menuitem", name="Memory")
    if key == " ":
        memory.press(key)
    else:
        memory.dispatch_event("click", {key: True} if key else {})

    expect(page).to_have_url(f"http://app.test{path}")
    assert page.evaluate("heard") == ["left to the browser" if key.strip() else "popstate"]
    page.close()


POPOVER = """
  <button>Opener</button><button>Behind it</button>
  <div data-testid="stPopoverBody" role="dialog"><div class="st-key-clear"><button>Clear</button></div></div>
"""
# Streamlit draws radio buttons after other elements
RADIOS = """(body) => body.insertAdjacentHTML("afterbegin",
  '<label><input type="radio" name="p" tabindex="-1">All</label><label><input type="radio" name="p" checked>Some</label>')"""


def test_popover_takes_the_focus_and_keeps_it(browser):
    page = page_with(browser, "dialog.js", "<button autofocus>Opener</button>")
    page.evaluate("(html) => void (document.body.innerHTML = html)", POPOVER)
    body, some = page.get_by_test_id("stPopoverBody"), page.get_by_label("Some")
    clear = page.get_by_role("button", name="Clear")
    expect(clear).to_be_focused()
    body.evaluate(RADIOS)
    expect(some).to_be_focused()

    for key, reached in (("Tab", clear), ("Tab", some), ("Shift+Tab", clear)):
        page.keyboard.press(key)
        expect(reached).to_be_focused()
    body.evaluate("(body) => void (body.innerHTML = body.innerHTML)")
    expect(clear).to_be_focused()
    page.locator(".st-key-clear").evaluate("(place) => place.remove()")
    expect(some).to_be_focused()
    page.close()


@pytest.mark.parametrize(("platform", "search"), [("Linux", "Ctrl K"), ("MacIntel", "⌘ K")])
def test_control_and_slash_open_the_shortcuts(browser, platform, search):
    page = page_with(browser, "keys.js", FILTER, platform)
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")

    page.locator("input").press_sequentially("Why?")
    page.locator("main").press("?")
    expect(sheet).to_have_count(0)
    page.locator("input").press("Control+/")
    expect(sheet).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.locator("main").press("Control+/")
    expect(sheet).to_contain_text(f"Search chats{search}")
    expect(sheet.get_by_text("Send", exact=True)).to_have_count(1)
    page.evaluate("() => { daybook.openSearch = () => { throw new Error('behind the dialog') } }")
    page.keyboard.press("Control+k")  # the page behind the dialog must not receive the key
    expect(sheet).to_be_visible()
    page.close()


KEYS_OF_SEARCH = [  # key, code, and whether that is K
    *(("k", "KeyK", True), ("K", "KeyK", True), ("k", "KeyV", True)),
    *(("л", "KeyK", True), ("κ", "KeyK", True), ("ל", "KeyK", True), ("ن", "KeyK", True)),
    *(("t", "KeyK", False), ("л", "KeyL", False), ("Unidentified", "KeyK", False)),
]
PRESS = "(event) => dispatchEvent(new KeyboardEvent('keydown', event))"


@pytest.mark.parametrize(
    ("platform", "ours"),
    [
        ("Linux", "ctrlKey"),
        ("MacIntel", "metaKey"),
    ],  # on a Mac, Ctrl+K deletes to the end of the line
)
def test_search_is_found_on_every_keyboard(browser, platform, ours):
    page = page_with(browser, "keys.js", FILTER, platform)
    page.evaluate("() => { daybook.openSearch = () => { window.opened += 1 } }")

    for control, (key, code, is_k) in product(("ctrlKey", "metaKey"), KEYS_OF_SEARCH):
        page.evaluate("() => { window.opened = 0 }")
        page.evaluate(PRESS, {"key": key, "code": code, control: True, "bubbles": True})
        is_opened = page.evaluate("window.opened")
        assert is_opened == (is_k and control == ours), (control, key, code)
    page.close()


@pytest.mark.parametrize(("key", "is_slash"), [("/", True), ("ظ", True), ("-", False)])
def test_shortcuts_open_on_every_keyboard(browser, key, is_slash):
    page = page_with(browser, "keys.js", FILTER)
    event = {"key": key, "code": "Slash", "ctrlKey": True, "bubbles": True}

    page.evaluate(PRESS, event)

    assert page.get_by_role("dialog", name="Keyboard shortcuts").count() == is_slash
    page.close()


CHATS = (
    FILTER
    + """
  <aside data-testid="stSidebar">
    <span data-testid="stSidebarCollapseButton"><button>Fold</button></span>
    <button data-act="open">Roses</button><button data-act="open" aria-current="true">Peas</button>
    <button data-act="open">Beans</button><button data-act="open">Leeks</button>
    <div class="st-key-account-menu"><button>Maya</button></div>
  </aside>
  <div class="st-key-thread">
    <button data-copy="" title="Copy message">Copy</button><button data-copy="" title="Copy reply">Copy 1</button>
    <button data-copy="" title="Copy reply">Copy 2</button>
  </div>"""
)
PRESSES = """() => {
  window.pressed = [];
  daybook.copy = ({ textContent }) => pressed.push(textContent);
  addEventListener("click", ({ target }) => pressed.push(target.textContent));
}"""


SHORTCUTS = [  # key, code, what else of the event, and what it presses
    *((",", "Comma", {}, ["Maya"]), (".", "Period", {}, ["Fold"])),
    *((";", "Semicolon", {}, ["Copy 2"]), (";", "Comma", {"shiftKey": True}, ["Copy 2"])),
    *(("ö", "Semicolon", {}, ["Copy 2"]), ("ב", "Comma", {}, ["Maya"])),
    (";", "Semicolon", {"altKey": True}, []),  # AltGr
    *((",", "Comma", {"ctrlKey": False}, []), (",", "Comma", {"metaKey": True}, [])),
    *(("PageDown", "PageDown", {}, []), ("PageDown", "PageDown", {"altKey": True}, [])),
]


@pytest.mark.parametrize("platform", ["Linux", "MacIntel"])
def test_shortcuts_act_on_every_keyboard(browser, platform):
    page = page_with(browser, "keys.js", CHATS, platform)
    page.evaluate(PRESSES)

    for key, code, about, presses in SHORTCUTS:
        page.evaluate(PRESS, {"key": key, "code": code, "ctrlKey": True} | about)
        assert page.evaluate("pressed.splice(0)") == presses, (key, code, about)
    page.close()


@pytest.mark.parametrize("platform", ["Linux", "MacIntel"])
@pytest.mark.parametrize(("key", "chat"), [("PageUp", "Roses"), ("PageDown", "Beans")])
def test_page_keys_open_the_chats_beside(browser, platform, key, chat):
    page = page_with(browser, "keys.js", CHATS, platform)
    page.evaluate(PRESSES)

    page.evaluate(PRESS, {"key": key, "code": key, "altKey": True})

    assert page.evaluate("pressed") == [chat]
    page.close()


@pytest.mark.parametrize(
    ("replies", "is_copied", "told"),
    [
        (1, True, "Reply copied."),
        (1, False, "Copy failed."),
        (0, True, "There is no reply to copy."),
    ],
)
def test_copy_shortcut_says_what_it_did(browser, replies, is_copied, told):
    reply = '<button data-copy="" title="Copy reply">Copy</button>' * replies
    page = page_with(
        browser,
        "keys.js",
        f'{FILTER}<div class="stMainBlockContainer"><p class="st-key-thread">{reply}</p></div>',
    )
    page.evaluate("(isCopied) => (daybook.copy = async () => isCopied)", is_copied)

    for _ in range(2):
        page.keyboard.press("Control+;")

    expect(page.get_by_role("alert")).to_have_text([told])
    page.close()


def test_next_chat_goes_on_until_the_last(browser):
    page = page_with(browser, "keys.js", CHATS)
    page.evaluate(PRESSES)

    for _ in range(4):
        page.keyboard.press("Alt+PageDown")

    assert page.evaluate("pressed") == ["Beans", "Leeks"]
    page.close()


def test_account_shortcut_unfolds_the_sidebar(browser):
    page = page_with(browser, "keys.js", CHATS)
    page.evaluate("""() => {
      const sidebar = document.querySelector("aside").style;
      document.querySelector("aside").prepend(document.querySelector(".st-key-search"));
      sidebar.position = "fixed", sidebar.left = "-30rem", sidebar.transition = "left 0.3s";
      document.querySelector("main").innerHTML = '<span data-testid="stExpandSidebarButton">Unfold</span>';
      document.querySelector("main").addEventListener("click", () => (sidebar.left = "8px"));
      document.querySelector(".st-key-account-menu button").addEventListener("click", ({ target }) =>
        (document.title = target.getBoundingClientRect().left >= 8 ? "In place" : "Too early"));
    }""")

    page.keyboard.press("Control+,")

    expect(page).to_have_title("In place")
    page.close()


@pytest.mark.parametrize("script", ["edit.js", "keys.js"])
@pytest.mark.parametrize("key", ["Enter", "Escape"])
def test_key_that_composes_a_letter_is_no_key(browser, key, script):
    page = page_with(browser, script, FILTER)
    page.locator("input").fill("Pea")
    composed = """(field, key) => {
      let isHeard = false;
      field.addEventListener("keydown", () => isHeard = true);
      field.dispatchEvent(new KeyboardEvent("keydown", { key, isComposing: true, bubbles: true }));
      return isHeard;
    }"""

    assert not page.locator("input").evaluate(composed, key)
    expect(page.locator("input")).to_have_value("Pea")
    page.close()


def test_arrows_and_enter_open_what_the_filter_finds(app, maya):
    long = "What I sowed, " + "and sowed, " * 8 + "@beans"
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        hold(session, ["Peas in March", long, "Peas in April"])
    maya.page.reload()
    expect(maya.rows).to_have_count(3)
    press = maya.page.keyboard.press

    maya.jumps_to_the_filter()
    maya.page.keyboard.type("peasx")
    maya.sees("No titles match.")
    press("Escape")
    expect(maya.rows).to_have_count(3)
    expect(maya.filter).to_have_value("")
    expect(maya.filter).to_be_focused()
    maya.page.keyboard.type("peas")
    expect(maya.rows).to_have_text(["Peas in April", "Peas in March"])
    press("ArrowDown")
    expect(maya.rows.first).to_be_focused()
    press("ArrowDown")
    expect(maya.rows.last).to_be_focused()
    in_messages = maya.page.get_by_role("button", name="Search in messages")
    for _ in range(2):
        press("ArrowDown")
        expect(in_messages).to_be_focused()
    for _ in range(3):
        press("ArrowUp")
    expect(maya.filter).to_be_focused()
    press("ArrowDown")
    press("ArrowDown")
    press("Enter")
    expect(maya.page.locator(".st-key-chat-head h1")).to_have_text("Peas in March")

    maya.jumps_to_the_filter()
    maya.page.keyboard.type("@bean")
    press("Enter")  # pressed before the conversation is found
    expect(maya.page.locator(".st-key-chat-head h1")).to_have_text(
        re.compile("^What I sowed, .* @.?beans$")
    )


def test_reply_that_ends_takes_no_focus_from_a_field(maya, model):
    maya.asks("Go on [[tokens=20 held=2]]")
    maya.hears("word2")
    maya.chooses("Go on [[tokens=20 held=2]]", "Rename")
    expect(maya.title_field).to_be_focused()
    maya.page.keyboard.type("Sweet")
    model.go_on()
    maya.hears_all_of("word20")
    expect(maya.composer).to_be_enabled()
    maya.page.keyboard.type(" peas")
    maya.page.keyboard.press("Enter")
    maya.is_in("Sweet peas")
    expect(maya.composer).to_have_value("")

    maya.asks("And then?")
    maya.hears_all_of("You said: And then?")
    expect(maya.composer).to_be_focused()  # the composer had the focus before


def test_pressed_button_that_is_redrawn_keeps_the_focus(app, maya):
    let_talk_fast(app)
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        hold(session, [f"Letter {n}" for n in range(61)])
        converse(session, [(f"Prompt {n}", f"Reply {n}") for n in range(21)], Full())
    maya.page.reload()
    expect(maya.rows).to_have_count(30)

    def press(name, within=maya.page):
        button = within.get_by_role("button", name=name, exact=True)
        button.press("Enter")
        return button

    expect(maya.composer).to_be_focused()  # no key may be pressed before it takes the focus
    more = press("Show more")
    expect(maya.rows).to_have_count(60)
    expect(more).to_be_focused()
    maya.page.keyboard.press("Enter")
    expect(maya.rows).to_have_count(62)
    expect(maya.rows.nth(60)).to_be_focused()
    archived = press("Archived")
    back = maya.page.get_by_role("button", name="Back", exact=True)
    expect(back).to_be_focused()
    maya.page.keyboard.press("Enter")
    expect(archived).to_be_focused()
    archived.click()  # the pointer leaves the keys to the composer
    expect(back).to_be_visible()
    maya.page.keyboard.type("Peas")
    expect(maya.composer).to_have_value("Peas")
    maya.composer.fill("")
    maya.turns_back_to_all()

    maya.opens("Prompt 0")
    expect(maya.messages).to_have_count(20)
    expect(maya.composer).to_be_focused()
    earlier = press("Earlier messages")
    expect(maya.messages).to_have_count(40)
    expect(earlier).to_be_focused()
    maya.sees_no_reply_coming()
    maya.page.keyboard.press("Enter")
    expect(maya.messages).to_have_count(42)
    # the button of the message that was the first before
    expect(maya.page.get_by_role("button", name="Edit message").nth(1)).to_be_focused()

    maya.page.get_by_role("button", name="Regenerate", exact=True).last.press("Enter")
    maya.sees("2 / 2")
    maya.sees_no_reply_coming()
    versions = maya.page.get_by_role("group", name="Versions of this reply")
    press("Previous version", versions)
    maya.sees("1 / 2")
    following = versions.get_by_role("button", name="Next version")
    expect(following).to_be_focused()
    maya.page.keyboard.press("Enter")
    maya.sees("2 / 2")
    expect(versions.get_by_role("button", name="Previous version")).to_be_focused()


def test_press_between_two_pages_reaches_the_second(browser):
    page = page_with(browser, "acts.js", '<button data-act="open" data-chat="7">Peas</button>')

    told = page.evaluate("""() => {
      const told = [];
      const leave = daybook.hearActs(() => told.push("the page before"));
      leave();
      document.querySelector("button").click();
      daybook.hearActs(({ act, chat }) => told.push([act, chat]));
      return told;
    }""")

    assert told == [["open", "7"]]
    page.close()
