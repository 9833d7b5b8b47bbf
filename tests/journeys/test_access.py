"""Accessibility: the app without a mouse, with a screen reader, enlarged, on a small screen, without motion.

With DAYBOOK_PICTURES=FOLDER each journey saves there what it checks, in both themes.
"""

import os
import re
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import expect

from tests.journeys.people import DESK, FOR_EVER, PASSWORD, PHONE
from tests.journeys.seeds import (
    age_proofs,
    converse,
    let_talk_fast,
    let_talk_no_more,
    operate,
    second_process,
    swap_messages,
    tell,
)
from tests.runs import IS_WHOLE
from tests.stack.apps import until

SIZES = {"desk": {"viewport": DESK}, "phone": {"viewport": PHONE, "has_touch": True}}
# a plain run has the journeys on a desktop, whose states it also checks on a small screen, though not on one that is touched
EACH_SIZE = ["desk", pytest.param("phone", marks=pytest.mark.long_run)]
ENLARGED = {"width": DESK["width"] // 2, "height": DESK["height"] // 2}
PICTURES = os.environ.get("DAYBOOK_PICTURES")
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
RICH = """## A heading

Some text with `code` and a [link](https://example.org/).

| Sown | in |
|---|---|
| peas | March |

```python
def sow(what: str) -> None:
    print(f"sow {what}", 3)  # soon
```

> Said by another.

$$ e = mc^2 $$
"""


_NEXT_FRAMES = "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
# the whole result also lists each rule that is met, and takes as long to send as some rules to run
_VIOLATIONS = "(rules) => axe.run(rules).then(({ violations }) => violations)"
_RULES = {"resultTypes": ["violations"]}
# the contrast takes most of axe's time; contrast.js finds all but a text over an element that does not contain it
_WITHOUT_CONTRAST = _RULES | {"rules": {"color-contrast": {"enabled": False}}}
PAPER = {"light": "rgb(251, 249, 244)", "dark": "rgb(30, 27, 24)"}  # of assets/style.css


class Look:
    """Checks the page by axe in the light theme, on a desktop without axe in the dark one, or by turns the other way round.

    A theme's colours are the same on a phone. *sizes*: of screens that each state is also checked on, in the other theme, which a
    desktop then has with DAYBOOK_TESTS=all alone, and by axe with DAYBOOK_TESTS=all alone, without its contrast. *found*: the problems. *is_on*: False checks nothing, where another run
    of the journey does. *has_contrast*: False leaves axe's contrast to another run of the journey; a plain run has it nowhere.
    """

    def __init__(self, person, *sizes, is_on=True, has_contrast=True):
        self._page, self._is_on = person.page, is_on
        self._rules = _RULES if has_contrast and IS_WHOLE else _WITHOUT_CONTRAST
        self._size, self._sizes = self._page.viewport_size, sizes
        self._themes = ["light"]
        if self._size == DESK or PICTURES:
            self._themes.append("dark")
        self.found = []

    def at(self, name):
        if not self._is_on:
            return
        if not self._page.evaluate("'axe' in window"):
            self._page.evaluate(AXE_SCRIPT)
        first, *others = self._themes
        self._check(name, first, self._rules)
        for theme in others if IS_WHOLE or PICTURES or not self._sizes else ():
            self._check(name, theme)
        for size in self._sizes:
            self._page.set_viewport_size(size)
            for theme in reversed(self._themes) if PICTURES else self._themes[-1:]:
                self._check(name, theme, _WITHOUT_CONTRAST if IS_WHOLE else None)
        if self._sizes:
            self._page.set_viewport_size(self._size)
        self._themes.reverse()  # the next state begins with the theme that is drawn

    def _check(self, name, theme, rules=None):
        """Check the page in *theme*, by axe only if there are *rules*."""
        self._page.emulate_media(color_scheme=theme)
        if self._page.locator(".db-plain").count():
            expect(self._page.locator("html")).to_have_css("background-color", PAPER[theme])
        else:
            expect(self._page.locator(".stApp")).to_have_css("color-scheme", theme)
        self._page.evaluate(_NEXT_FRAMES)
        width = self._page.viewport_size["width"]
        where = f"{name}, {width} px, {theme}"
        violations = self._page.evaluate(_VIOLATIONS, rules) if rules else []
        self.found += [
            f"{where}: {each['impact']} {each['id']}: {node['html'][:200]}"
            for each in violations
            for node in each["nodes"]
            if each["impact"] in ("serious", "critical")
        ]
        self.found += [f"{where}: contrast {each}" for each in self._page.evaluate(CONTRAST)]
        if self._page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            self.found.append(f"{where}: wider than the screen")
        if PICTURES:
            self._save(f"{name} {width} {theme}")

    def _save(self, name):
        """Save a picture of the page, with what would have to be scrolled to unless a dialog is open."""
        page, size = self._page, self._page.viewport_size
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition("/")[2].partition("[")[0]
        path = Path(PICTURES) / (re.sub(r"\W+", "-", f"{test} {name}") + ".png")
        height = page.evaluate("document.querySelector('.stMain')?.scrollHeight ?? 0")
        if not page.get_by_role("dialog").count():
            page.set_viewport_size(size | {"height": max(height, size["height"])})
        page.wait_for_timeout(400)  # elements that fade in, for which there is no condition
        page.screenshot(path=path, full_page=True)
        page.set_viewport_size(size)

    def behind(self, button, name):
        """Check the element that *button* opens."""
        button.click()
        expect(button).to_have_attribute("aria-expanded", "true")
        self.at(name)
        self._page.keyboard.press("Escape")
        expect(button).to_have_attribute("aria-expanded", "false")


def seed(app, person, *conversations):
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(person.email, PASSWORD)
        return [converse(session, turns) for turns in conversations]


def test_whoever_is_signed_out_meets_no_barrier(person):
    maya = person(reduced_motion="reduce")
    look = Look(maya, PHONE)

    maya.visit()
    maya.is_asked_to_sign_in()
    look.at("sign in")
    maya.page.get_by_role("tab", name="Create account").click()
    expect(maya.page.locator("form[action='/account']")).to_be_visible()
    look.at("create account")
    for reason, words in (
        ("wrong", "Wrong email or password"),
        ("weak&code=sign_up", "At least"),
        ("confirm", "Confirm your"),
    ):
        maya.visit(f"/?reason={reason}")
        maya.sees(words)
        look.at(f"sign in, {reason}")

    assert look.found == []


@pytest.mark.parametrize("size", EACH_SIZE)
def test_a_conversation_holds_no_barrier(app, model, person, size):
    maya = person(reduced_motion="reduce", **SIZES[size])
    maya.arrives()
    let_talk_fast(app)
    rich, long = seed(
        app,
        maya,
        [("What do I sow?", RICH), ("And then?", RICH)],
        [(f"Question {n}", f"Answer {n}.") for n in range(16)],
    )
    look, page = _look_at(maya, size), maya.page

    look.at("a fresh page")
    maya.visit(f"/?c={rich}")
    expect(maya.messages).to_have_count(4)
    maya.sees_no_reply_coming()
    look.at("a conversation")
    for key in ("model-picker", "memory-policy", "context-meter", "export", "conversation-menu"):
        look.behind(page.locator(f".st-key-{key} button").first, key)
    page.locator(".st-key-conversation-menu button").click()
    page.get_by_role("menuitem", name="Rename").click()
    expect(page.locator("main").get_by_label("Title")).to_be_visible()
    look.at("renaming")

    maya.visit(f"/?c={long}")
    expect(maya.banner).to_be_visible()
    maya.sees_no_reply_coming()
    look.at("the window's banner")
    maya.beginning.scroll_into_view_if_needed()
    look.at("where the model reads from")

    maya.asks(f"Go on {FOR_EVER}")
    maya.hears("word3")
    look.at("a reply that comes")
    page.locator(".st-key-context-meter button").first.click()
    assert page.evaluate(MOVING) == []
    assert page.evaluate(LONGEST_TRANSITION) < 0.001
    page.keyboard.press("Escape")
    maya.stops()
    look.at("a reply that was stopped")
    maya.asks("Why? [[thoughts=9 thinks_as=reasoning tokens=9]]")
    maya.hears_all_of("word9")
    page.locator('[class*="st-key-thoughts-"] summary').click()
    look.at("what the model thought")
    page.get_by_role("button", name="Edit reply", include_hidden=True).last.dispatch_event("click")
    expect(page.locator(".st-key-edit-reply textarea")).to_be_focused()
    look.at("a reply that is edited")
    page.keyboard.press("Escape")
    model.script(status=500, times=9)
    maya.asks("And by sea?")
    maya.sees("Your message is saved")
    maya.sees_no_reply_coming()
    model.script()
    look.at("a reply that does not come")
    let_talk_no_more(app, maya.email)
    maya.asks_in_vain("Once more?")
    look.at("a prompt that was refused")
    maya.visit("/?c=nowhere")
    maya.sees("This chat does not exist.")
    look.at("no such conversation")

    assert look.found == []


@pytest.mark.parametrize("size", EACH_SIZE)
def test_beside_a_conversation_is_no_barrier(app, person, size):
    maya = person(reduced_motion="reduce", **SIZES[size])
    maya.arrives()
    peas, _, roses = seed(
        app, maya, *([(f"{name}?", "Gladly.")] for name in ("Peas", "Beans", "Roses"))
    )
    swap_messages(app, maya.email, of=peas, into=roses)
    look, page = _look_at(maya, size), maya.page

    def unfolds():
        if size == "phone":
            maya.unfolds_the_sidebar()

    maya.visit(f"/?c={roses}")
    maya.sees("failed its integrity check")
    maya.sees_no_reply_coming()
    look.at("messages that were changed")
    maya.visit("/")
    maya.is_welcome()
    unfolds()
    expect(maya.rows).to_have_count(3)
    look.at("the list")
    look.behind(page.locator(".st-key-account-menu button").first, "the account")
    page.locator(".st-key-account-menu button").first.click()
    page.get_by_role("menuitem", name="Keyboard shortcuts").click()
    look.at("the keys")
    page.keyboard.press("Escape")
    maya.opens_preferences()
    expect(page.get_by_role("dialog", name="Preferences")).to_be_visible()
    look.at("the preferences")
    _look_at_rings(maya)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Preferences")).to_have_count(0)
    page.locator(f'[data-act="open"][data-chat="{peas}"]').hover()
    look.behind(page.locator(f'[data-options][data-chat="{peas}"]'), "a row's menu")
    maya.chooses("Peas?", "Pin")
    maya.sees_no_reply_coming()  # the reply has ended, and the row is pinned
    maya.chooses("Beans?", "Archive")
    maya.sees("Archived “Beans?”")
    look.at("the bar")
    expect(maya.rows).to_have_count(2)
    maya.turns_to_the_archive()
    expect(maya.rows).to_have_count(1)
    look.at("the archive")
    maya.turns_back_to_all()
    maya.filter.fill("nothing")
    maya.sees("No titles match.")
    look.at("no match")
    _look_at_search(maya, look)
    maya.filter.fill("")
    expect(maya.rows).to_have_count(2)
    _look_at_spaces(maya, look)
    maya.visit("/")
    maya.is_welcome()
    unfolds()
    maya.deletes("Peas?")
    look.at("what was deleted")

    assert look.found == []


def _look_at_search(maya, look):
    page = maya.page
    page.get_by_role("button", name="Search in messages").click()
    expect(maya.found).to_contain_text("Nothing found.")
    look.at("nothing found")
    page.get_by_role("combobox", name="Search chats").fill("Gladly")
    expect(maya.found.locator('[role="option"]').first).to_contain_text("Gladly")
    page.get_by_text("Filters", exact=True).click()
    look.at("search")
    page.keyboard.press("Escape")
    expect(maya.found).to_have_count(0)


def test_other_pages_hold_no_barrier(app, person):
    maya = person(reduced_motion="reduce")
    maya.arrives()
    operate(app, "grant-admin", maya.email)
    seed(app, maya, [("Peas?", "Gladly.")])
    look, page = Look(maya, PHONE), maya.page

    maya.visit("/admin")
    expect(page.locator(".st-key-usage-chart").get_by_role("img")).to_be_visible()
    look.at("the overview")
    maya.visit("/admin?tab=Users")
    expect(page.locator(".st-key-usage-table canvas").first).to_be_visible()
    look.at("users")
    for tab in ("Models", "Sign-ups"):
        maya.visit(f"/admin?tab={tab}")
        expect(page.get_by_test_id("stForm")).to_be_visible()
        look.at(f"the tab {tab}")
    maya.visit("/usage")
    expect(page.locator(".st-key-usage-chart").get_by_role("img")).to_be_visible()
    look.at("the usage")
    maya.visit("/data")
    expect(page.get_by_role("group", name="Where your data is")).to_be_visible()
    look.at("the data")
    for query, words in (
        ("", "Change password"),
        ("?reason=wrong", "Wrong password."),
        ("?reason=changed", "Password changed."),
        ("?then=end&reason=email", "Your account was not deleted."),
    ):
        maya.visit(f"/account{query}")
        maya.sees(words)
        look.at(f"the account{query}")
    tell(app, maya.email, "new_device", "password_changed", "factor_removed", "operator")
    tell(app, maya.email, "wrong_factors")
    maya.is_told("Wrong codes at sign-in", "/account")
    # on a phone the sidebar covers them, and keys reach them
    page.get_by_role("button", name="and 4 more", include_hidden=True).dispatch_event("click")
    page.locator(".st-key-show-activity input").dispatch_event("click")
    maya.sees("Account created")
    look.at("the account with notices")
    page.locator('[class*="st-key-dismiss-notices"] button').dispatch_event("click")
    expect(page.locator('[class*="st-key-notice-"]')).to_have_count(0)
    age_proofs(app)
    maya.visit("/account?then=password")
    maya.sees("Confirm that it is you")
    look.at("the account, without a proof")

    assert look.found == []


def _look_at(maya, size):
    return Look(maya, PHONE) if size == "desk" else Look(maya, has_contrast=False)


# what moves, and the longest transition in seconds
MOVING = """() => document.getAnimations().filter((each) => {
  const { duration, iterations } = each.effect.getComputedTiming();
  return duration * iterations > 1;
}).map((each) => each.effect.target.outerHTML.slice(0, 200))"""
LONGEST_TRANSITION = """() => Math.max(...[...document.querySelectorAll("*")].flatMap((each) =>
  getComputedStyle(each).transitionDuration.split(",").map(parseFloat)))"""


def _look_at_rings(maya):
    """Check that each field of the open preferences has a ring of focus; in both themes with DAYBOOK_TESTS=all."""
    fields = maya.dialog.locator("input, textarea")
    for theme in ("light", "dark") if IS_WHOLE else ("dark",):
        maya.page.emulate_media(color_scheme=theme)
        expect(maya.page.locator(".stApp")).to_have_css("color-scheme", theme)

        # two lists, three numbers, three themes, three choices for Enter, a switch, a text
        expect(fields).to_have_count(14)
        for field in fields.all():
            maya.page.keyboard.press("Tab")  # a focus ring is shown only after a key press
            field.focus()
            until(lambda: maya.page.evaluate(_FOCUSED)["isRinged"])
            assert maya.page.evaluate(CONTRAST) == []
        maya.dialog.locator(".st-key-title-in-tab label").hover()
        maya.page.wait_for_timeout(400)  # Streamlit fades what is under the pointer
        assert maya.page.evaluate(CONTRAST) == []


def _look_at_spaces(maya, look):
    """Check a new space, the conversations in it, and the ways to open and leave it."""
    page = maya.page
    maya.makes_a_space("Latin", "Be a tutor.", before=lambda: look.at("a new space"))
    look.at("the fresh page of a space")
    look.behind(page.locator(".st-key-space-chooser button"), "the spaces")
    maya.edits_the_space()
    maya.notes_in_the_dialog("She reads Caesar.")
    look.at("a space")
    page.get_by_role("button", name="Edit: She reads").click()
    expect(maya.dialog.get_by_label("Note", exact=True)).to_be_visible()
    look.at("a fact that is edited")
    maya.dialog.get_by_role("button", name="Delete space").click()
    expect(maya.dialog).to_contain_text("its chats are kept")
    expect(maya.dialog.get_by_role("button", name="Delete space")).to_be_visible()
    look.at("a space that is deleted")
    maya.dialog.get_by_role("button", name="Close").click()
    expect(maya.dialog).to_have_count(0)
    maya.chooses_space("All chats")
    maya.chooses("Peas?", "Move to space")
    expect(maya.dialog).to_be_visible()
    look.at("moving")
    maya.moves_to("Latin")
    maya.sees("to “Latin”")
    maya.rows.filter(has_text="Peas?").click()
    expect(page.locator(".st-key-space-sign")).to_be_visible()
    maya.sees_no_reply_coming()
    look.at("a conversation of a space")


# --- by keyboard --------------------------------------------------------------------------------

_FOCUSED = """() => {
  const here = document.activeElement;
  const key = here.closest('[class*="st-key-"]')?.className.match(/st-key-([a-z-]+)/)?.[1] ?? "";
  const { x, y, width, height } = here.getBoundingClientRect();
  // a field's ring is around its icons, too; the composer's around its tools, a switch's around its label
  const fields = "[data-testid=stTextInputRootElement], [data-testid=stNumberInputContainer], [data-testid=stTextAreaRootElement]";
  const around = `${fields}, .react-aria-ComboBox > div, [data-testid=stBottomBlockContainer] > *, label`;
  const ringed = here.matches("input, textarea") ? here.closest(around) : here;
  const { outlineStyle, outlineWidth, borderWidth } = getComputedStyle(ringed);
  return {
    tag: here.tagName,
    key: key.replace(/-[0-9a-f]*-?$/, ""),
    isSeen: x + width > 0 && y + height > 0 && x < innerWidth && y < innerHeight,
    isRinged: outlineStyle === "solid"
      && parseFloat(outlineWidth) + (ringed === here ? 0 : parseFloat(borderWidth)) >= 2,
  };
}"""


# the composer has the focus; Tab begins at the element that had it, or at its former position
_BEGIN = """() => {
  const first = document.createElement("button");
  document.body.prepend(first);
  first.focus();
  first.remove();
}"""


def tabbed(page):
    """Return the elements that Tab focuses, from the top of the page to the end."""
    page.evaluate(_BEGIN)
    stops = []
    while True:
        page.keyboard.press("Tab")
        stop = page.evaluate(_FOCUSED)
        if stop["tag"] == "BODY":
            return stops
        stops.append(stop)
        assert len(stops) < 200


def test_tab_leads_through_the_page_as_it_is_read(app, maya):
    (garden,) = seed(app, maya, [("What do I sow?", "Peas.\n\n```python\nsow(peas)\n```")])
    maya.visit(f"/?c={garden}")
    maya.hears("Peas.")
    maya.sees_no_reply_coming()
    expect(maya.rows).to_have_count(1)
    for drawn in (maya.page.locator(".st-key-new-chat button"), maya.filter):
        expect(
            drawn
        ).to_be_visible()  # rows are plain HTML, drawn before Streamlit has loaded its widgets
    # waits for the focus, which the composer would otherwise take later
    expect(maya.composer).to_be_focused()

    stops = tabbed(maya.page)

    assert [(stop["tag"], stop["key"]) for stop in stops] == [
        ("A", ""),  # the link to the main content
        ("BUTTON", ""),  # the button that folds the sidebar
        *(
            ("BUTTON", "new-chat"),
            ("BUTTON", "sidebar-top"),
            ("INPUT", "search"),
        ),  # the second: Search chats
        *[("BUTTON", "conversation-list")] * 2,  # a row and its menu
        *[("BUTTON", "account")] * 2,  # the archive, a new space
        ("BUTTON", "account-menu"),
        ("MAIN", ""),  # the page itself, which the arrow keys scroll
        *(("BUTTON", "find-here"), ("BUTTON", "export"), ("BUTTON", "conversation-menu")),
        *[("BUTTON", "exchange")] * 3,  # buttons of the prompt: copy, edit, delete
        # the code block, wrap, copy
        *(("DIV", "exchange"), ("BUTTON", "exchange"), ("BUTTON", "exchange")),
        *[("BUTTON", "exchange")] * 5,  # copy, edit, regenerate, the menu of regenerating, context
        *(("TEXTAREA", "composer"), ("BUTTON", "memory-policy")),
        *(("BUTTON", "context-meter"), ("BUTTON", "model-picker")),
    ]
    assert [stop for stop in stops if not (stop["isSeen"] and stop["isRinged"])] == []

    maya.sidebar.hover()
    maya.page.get_by_test_id("stSidebarCollapseButton").locator("button").click()
    expect(maya.filter).not_to_be_visible()
    beside = {stop["key"] for stop in tabbed(maya.page)}
    assert "composer" in beside
    assert beside & {"new-chat", "search", "conversation-list", "account", "account-menu"} == set()


def test_a_day_without_a_mouse(person):
    maya = person()
    maya.visit()
    maya.is_asked_to_sign_in()
    keys = maya.page.keyboard

    def reaches(place, key="Tab"):
        def is_there():
            keys.press(key)
            return place.evaluate("(element) => element === document.activeElement")

        until(is_there)

    reaches(maya.page.get_by_role("tab", name="Sign in"))
    keys.press("ArrowRight")
    reaches(maya.page.locator("form[action='/account'] [name='email']"))
    keys.type(maya.email)
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    maya.is_welcome()
    expect(maya.page.locator(".st-key-account-menu")).to_be_visible()

    expect(maya.composer).to_be_focused()
    keys.type("When do I sow peas?")
    maya.sends()
    maya.hears_all_of("You said: When do I sow peas?")

    reaches(maya.page.get_by_role("button", name="More: When do I sow peas?"), "Shift+Tab")
    keys.press("Enter")
    menu = maya.page.get_by_role("menu", name="More: When do I sow peas?", exact=True)
    reaches(menu.get_by_role("menuitem", name="Delete"), "ArrowDown")
    keys.press("Enter")
    expect(maya.messages).to_have_count(0)
    reaches(maya.page.get_by_role("button", name="Undo"))
    keys.press("Enter")
    maya.is_in("When do I sow peas?")

    maya.composer.focus()
    policy = maya.page.locator(".st-key-memory-policy button").first
    reaches(policy)
    keys.press("Enter")
    chosen = maya.page.get_by_test_id("stPopoverBody").locator("input:checked")
    expect(chosen).to_be_focused()
    keys.press("ArrowDown")
    expect(policy).to_have_text(re.compile("Smart recall"))
    expect(chosen).to_be_focused()  # though the page was drawn again
    keys.press("Escape")
    expect(policy).to_be_focused()

    keys.press("Control+,")
    expect(maya.page.get_by_role("menuitem", name="Preferences")).to_be_focused()
    keys.press("u")
    keys.press("Enter")
    expect(maya.page.get_by_role("heading", name="Usage", level=1)).to_be_visible()
    maya.sees_no_reply_coming()
    keys.press("Alt+PageDown")
    maya.is_in("When do I sow peas?")
    keys.press("Control+Shift+O")
    expect(maya.messages).to_have_count(0)


_CONTROLS = "a[href], button, input, select, summary, textarea, [role=tab]"
# the controls that no key reached; arrow keys reach the other radio buttons and tabs of a group
_MISSED = """([place, controls]) => [...document.querySelector(place).querySelectorAll(controls)].filter((each) => {
  const { width, height } = each.getBoundingClientRect();
  const isThere = width && height && each.checkVisibility({ visibilityProperty: true }) && !each.disabled;
  const group = each.closest("[role=radiogroup], [role=tablist]") ?? each;
  // a canvas with keys of its own; the arrows of lists and numbers, which the arrow keys press in their fields
  const isElsewhere = each.closest(".stDataFrame, [aria-hidden=true], button[tabindex='-1']");
  return isThere && !isElsewhere && ![...reached].some((one) => group.contains(one));
}).map((each) => each.outerHTML.slice(0, 200))"""
_REACH = """() => {
  window.reached = new Set();
  addEventListener("focusin", ({ target }) => reached.add(target));
}"""
ADMIN_TABS = ("Users", "Models", "Sign-ups", "Settings", "Audit", "Health")
_OPENERS = '.stApp button:is([aria-haspopup="menu"], [aria-haspopup="dialog"]):visible'


def go_round(page, place, key):
    """Press *key* until the focus is where it was, or has left the page; fail if it leaves *place* before."""
    inside = "(place) => document.querySelector(place).contains(document.activeElement)"
    first = page.evaluate_handle("document.activeElement")
    for _ in range(200):
        page.keyboard.press(key)
        if page.evaluate("(first) => document.activeElement === first", first):
            return
        assert page.evaluate(inside, place)
    pytest.fail("the keys go round for ever")


def reach_everything(page, name):
    """Reach each control of the page by Tab, then each one of its menus and popovers, from which Escape leads back."""
    page.evaluate(_REACH)
    tabbed(page)
    assert page.evaluate(_MISSED, [".stApp", _CONTROLS]) == [], name
    for opener in page.locator(_OPENERS).all():
        opener.press("Enter")
        expect(opener, name).to_have_attribute("aria-expanded", "true")
        is_menu = opener.get_attribute("aria-haspopup") == "menu"
        place = ".db-popover" if is_menu else '[data-testid="stPopoverBody"]'
        expect(page.locator(f"{place} :focus"), name).to_have_count(1)
        go_round(page, place, "ArrowDown" if is_menu else "Tab")
        assert page.evaluate(_MISSED, [place, _CONTROLS]) == [], name
        page.keyboard.press("Escape")
        expect(opener, name).to_be_focused()


@pytest.mark.long_run
def test_keys_reach_every_control_of_every_page(app, maya):
    operate(app, "grant-admin", maya.email)
    chat, _ = seed(app, maya, [("Peas?", RICH), ("Why?", "For soup.")], [("Beans?", "Gladly.")])
    places = {
        f"/?c={chat}": "For soup.",
        "/": "Ask anything.",
        "/memory": "Remember things about me",
        "/usage": "Usage",
        "/data": "This browser",
        "/account": "Change password",
        "/admin": "Active users",
        **{f"/admin?tab={tab}": tab for tab in ADMIN_TABS},
        "/account?": "Change password",
    }
    signed_out = {
        "/": "Forgot your password?",
        "/?code=invitation": "Use your invitation",
        "/?invite=pear": "This invitation cannot be used.",
        "/?reason=weak&code=sign_up": "At least",
    }

    for address, words in places.items():
        if address == "/account?":
            age_proofs(app)
        maya.visit(address)
        maya.sees(words)
        # drawn once Streamlit has loaded its widgets
        expect(maya.page.locator(".st-key-new-chat button")).to_be_visible()
        expect(maya.filter).to_be_visible()
        expect(maya.rows).to_have_count(2)
        maya.sees_no_reply_coming()
        reach_everything(maya.page, address)
        if address == "/memory":
            maya.makes_a_space("Latin", "")  # the next pages have the menu of spaces
    maya.signs_out()
    for address, words in signed_out.items():
        maya.visit(address)
        maya.sees(words)
        # a redraw would take the focus away
        expect(maya.page.locator('.stApp[data-test-script-state="notRunning"]')).to_have_count(1)
        reach_everything(maya.page, address)


# --- screen readers -----------------------------------------------------------------------------

_LISTEN = """() => {
  window.heard = [];
  const live = '[aria-live]:not([aria-live="off"]), [role="status"], [role="alert"], [role="log"]';
  new MutationObserver((changes) => {
    for (const change of changes) {
      const target = change.target.nodeType === 3 ? change.target.parentElement : change.target;
      const text = target?.closest(live)?.textContent;
      if (text && heard.at(-1) !== text) heard.push(text);
    }
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def test_screen_readers_hear_that_a_reply_comes_and_ends(maya, model):
    maya.asks("Hello")
    maya.hears_all_of("You said: Hello")
    expect(maya.page.locator(".db-heard")).to_have_text("The reply is complete.")
    maya.page.evaluate(_LISTEN)

    def hears_aloud(*sentences):
        until(lambda: maya.page.evaluate("heard.length") >= len(sentences))
        assert maya.page.evaluate("heard.splice(0)") == list(sentences)

    maya.asks("Tell me more [[tokens=30 held=3]]")
    maya.hears("word3")
    hears_aloud("A reply is coming.")
    model.go_on()
    maya.hears_all_of("word30")
    hears_aloud("The reply is complete.")

    maya.asks(f"Go on {FOR_EVER}")
    maya.hears("word3")
    maya.stops()
    hears_aloud("A reply is coming.", "You stopped this reply. The partial reply is saved.")

    model.script(status=500, times=9)
    maya.asks("And by sea?")
    maya.sees("Your message is saved")
    maya.sees_no_reply_coming()
    expect(maya.page.locator(".db-heard")).to_contain_text("Your message is saved; try again.")
    model.script(tokens=30, rate=12)  # slow enough to be drawn while the reply streams
    maya.page.evaluate(_LISTEN)

    maya.retries()

    until(lambda: "A reply is coming." in maya.page.evaluate("heard"))
    maya.hears_all_of("word30")
    model.script()


def test_names_and_copies_hold_no_markup(maya):
    """Streamlit names elements by the Markdown of their labels."""
    page, account = maya.page, maya.page.locator(".st-key-account-menu button").first
    expect(maya.temporary_switch).to_have_accessible_name("Temporary chat")
    expect(page.locator('span[role="img"]').first).to_have_attribute("aria-hidden", "true")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    maya.picker.click()
    expect(page.get_by_test_id("stPopoverBody")).to_have_accessible_name("scripted")
    page.keyboard.press("Escape")
    account.click()
    expect(page.get_by_role("menu")).to_have_accessible_name(maya.email.partition("@")[0])
    page.locator(".db-popover").get_by_text("@").select_text()
    page.keyboard.press("Control+C")
    until(lambda: page.evaluate("navigator.clipboard.readText()").strip() == maya.email)
    page.keyboard.press("Escape")


# --- enlarged, and on a small screen ------------------------------------------------------------

_COVERED = """(place) => [...place.querySelectorAll("button, a, input, textarea")].filter((each) => {
  const size = each.getBoundingClientRect();
  const isThere = size.width > 1 && size.height > 1 && getComputedStyle(each).visibility === "visible";
  if (!isThere || each.disabled) return false;
  each.scrollIntoView({ block: "center", behavior: "instant" });
  const { x, y, width, height } = each.getBoundingClientRect();
  const hit = document.elementFromPoint(x + width / 2, y + height / 2);
  return !each.contains(hit) && !hit?.contains(each);
}).map((each) => each.outerHTML.slice(0, 200))"""


def test_nothing_is_covered_at_double_size(app, person):
    maya = person(viewport=ENLARGED, device_scale_factor=2)
    maya.arrives()
    (rich,) = seed(app, maya, [("What do I sow?", RICH)])

    def fits(place):
        assert maya.page.evaluate("document.documentElement.scrollWidth") <= ENLARGED["width"]
        until(lambda: place.evaluate(_COVERED) == [])  # elements that slide in have arrived

    main = maya.page.locator("main")
    fits(main)
    maya.visit(f"/?c={rich}")
    maya.hears("A heading")
    maya.sees_no_reply_coming()
    fits(main)
    maya.visit("/?c=nowhere")
    maya.sees("This chat does not exist.")
    fits(main)
    maya.unfolds_the_sidebar()
    fits(maya.sidebar)  # the sidebar covers the page, as on a phone
    maya.signs_out()
    fits(main)


_SMALL = """(least) => [...document.querySelectorAll(
  "button, a, input, textarea, [role=menuitem], [role=tab], label:has([type=radio])"
)].filter((each) => {
  const { width, height } = each.getBoundingClientRect();
  const isThere = width > 1 && height > 1 && getComputedStyle(each).visibility === "visible";
  const isElsewhere = each.closest('p, [href="#stMain"], [type="radio"]'); // in a text, or in its label
  return isThere && !isElsewhere && (width < least || height < least);
}).map((each) => each.outerHTML.slice(0, 200))"""


def test_what_a_finger_touches_is_large_enough(app, person):
    maya = person(**SIZES["phone"], is_mobile=True)
    maya.visit()
    maya.is_asked_to_sign_in()

    def is_large():
        until(lambda: maya.page.evaluate(_SMALL, 40) == [])  # elements that slide in have arrived

    is_large()
    maya.arrives()
    (rich,) = seed(app, maya, [("What do I sow?", RICH), ("And then?", "Beans.")])
    maya.visit(f"/?c={rich}")
    maya.hears("Beans.")
    maya.sees_no_reply_coming()
    is_large()
    for key in ("model-picker", "memory-policy", "context-meter", "export", "conversation-menu"):
        opener = maya.page.locator(f".st-key-{key} button").first
        opener.click()
        expect(opener).to_have_attribute("aria-expanded", "true")
        is_large()
        maya.page.keyboard.press("Escape")
        expect(opener).to_have_attribute("aria-expanded", "false")
    maya.unfolds_the_sidebar()
    is_large()
    maya.makes_a_space("Latin", "")
    is_large()
    maya.page.locator(".st-key-account-menu button").first.click()
    expect(maya.page.get_by_role("menuitem", name="Sign out")).to_be_visible()
    is_large()
