"""Screenshots of every screen and state of the running app: `python -m tests.pictures [FOLDER]`.

At a desk (1280 px) and on a phone (390 px), in light and dark, into `build/pictures`, which git ignores. Run
it after a change of what people see, and look at every picture; those that README and docs show are copied
to `docs/screenshots` by hand.
"""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from services import embedded
from services.store.conversations import Conversations
from services.store.profile import Profile
from services.store.sessions import Cookie
from tests.fakes import choose
from tests.journeys.conftest import CHROMIUM, FLAGS
from tests.journeys.people import DESK, PASSWORD, PHONE, Person
from tests.journeys.seeds import converse, database, let_talk_fast, second_process
from tests.model_server import ModelServer
from tests.stack.apps import ROOT, App, running, until

FOLDER = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "pictures"
LETTERS = [
    (
        "I have about four hundred letters in three boxes and a fortnight to move them. "
        "Where would you begin?",
        "Begin with the boxes, not the letters. Number each box, photograph it open, and write one line "
        "about what is on top. You now have an inventory of three entries, and everything later hangs "
        "from it.\n\nAfter that, sort by *correspondent* rather than by date: people are easier to "
        "recognise than years.",
    ),
    (
        "Some are water-damaged. Can they travel?",
        "Yes, if they are dry to the touch. Three rules are enough:\n\n1. **Interleave** each "
        "damp-stained sheet with blotting paper, and change it once after a day.\n2. **Keep them "
        "flat.** A folded wet letter sets along its crease.\n3. **Do not seal** anything in plastic; "
        "paper has to breathe.\n\nAnything that smells of mould goes in a box of its own.",
    ),
    (
        "Write me a small script that makes the inventory from the photographs' file names, like "
        "`box2_014_astrid.jpg`.",
        "The names already carry the three columns, so this only has to split them:\n\n```python\n"
        "from pathlib import Path\nimport csv, sys\n\n"
        'with open("inventory.csv", "w", newline="") as f:\n    out = csv.writer(f)\n'
        '    out.writerow(["box", "number", "from"])\n'
        '    for p in sorted(Path(sys.argv[1]).glob("box*_*.jpg")):\n'
        '        box, number, sender = p.stem.split("_", 2)\n'
        '        out.writerow([box.removeprefix("box"), int(number), sender])\n```\n\n'
        "A name that does not fit the pattern stops it with an error, which is what you want: better a "
        "loud stop than a letter missing from the list.",
    ),
    (
        "How should I send the boxes?",
        "Send the two dry boxes by ordinary freight and carry the damp one yourself. Freight is warm and "
        "still for days, which is precisely what mould likes.\n\nFor the label, write the **contents and "
        "the correct way up** on two sides, and put a copy of the inventory inside the lid.",
    ),
]
OTHERS = (
    "A gentler refusal to the committee",
    "Sourdough at 78 % hydration",
    "Why does Postgres pick a seq scan here",
    "Names for a small boat",
)


@contextmanager
def _swapped(app, conversation_id):
    """The sealed texts of two replies in the place of each other."""
    swap = """
      update public.messages set body = other.body from public.messages other
      where messages.conversation_id = %(id)s and other.conversation_id = %(id)s
        and (messages.seq, other.seq) in ((4, 6), (6, 4))"""
    with database(app) as rows:
        rows.execute(swap, {"id": conversation_id})
    yield
    with database(app) as rows:
        rows.execute(swap, {"id": conversation_id})


class Album:
    """The pictures of one size and one theme."""

    def __init__(self, person, suffix):
        self.person, self.suffix = person, suffix

    @property
    def is_phone(self):
        return self.suffix.startswith("phone")

    def take(self, name):
        page = self.person.page
        page.evaluate("document.fonts.ready")
        page.mouse.move(5, 5)
        page.wait_for_timeout(400)  # what fades in is there, and no condition says so
        page.screenshot(path=FOLDER / f"{name}-{self.suffix}.png")

    def opened(self, name, button):
        """What a click on *button* opens."""
        button.click()
        self.take(name)
        self.person.page.keyboard.press("Escape")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        ModelServer() as model,
        running(_app(Path(base), model)) as app,
        sync_playwright() as playwright,
    ):
        app.until_ready()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        first = Person(browser, app.url, "maya")
        first.email = "maya@daybook.test"
        first.arrives()
        letters = _write(app, first)
        for size, viewport in (("desk", DESK), ("phone", PHONE)):
            for theme in ("light", "dark"):
                looks = {
                    "viewport": viewport,
                    "color_scheme": theme,
                    "has_touch": size == "phone",
                }
                make = _somebody(browser, app, first, looks)
                suffix = f"{size}-{theme}"
                _photograph(suffix, app, make, model, letters, is_phone=size == "phone")
        browser.close()


def _app(base, model):
    return App(
        base,
        embedded.chosen(None, None).cache,
        environment={
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "scripted",
            "DAYBOOK_MODEL": "gpt-5-mini",
            "DAYBOOK_MODELS": "gpt-5,claude-sonnet-4-5",
            "DAYBOOK_CONTEXT_TOKENS": "4096",
        },
    )


def _write(app, person):
    """A fortnight's conversations, the one about the letters last."""
    let_talk_fast(app)
    with second_process(app) as sessions:
        (cookie,) = (c for c in person.context.cookies() if c["name"] == "__Host-sid")
        session = sessions.open(Cookie.parse(cookie["value"]))
        for title in OTHERS:
            converse(session, [(title, "Gladly.")])
        converse(session, [(f"Question {n}: which box?", f"Box {n}.") for n in range(1, 14)])
        letters = converse(session, LETTERS)
        (boat,) = Conversations(session).titled(OTHERS[-1])
        Conversations(session).set_model(boat.id, "gpt-4o")  # which was offered once
        Conversations(session).rename(letters, "Moving the letters to Bergen")
        choose(Profile(session), keeps_facts=False)  # or it would be offered
    return letters


def _sign_in(app, person):
    """In a new session, without its page."""
    form = {"email": person.email, "password": PASSWORD, "next": "/"}
    person.context.request.post(f"{app.url}/session", form=form, max_redirects=0)


def _somebody(browser, app, first, looks):
    def make(is_signed_in):
        person = Person(browser, app.url, "maya", **looks)
        person.email = first.email
        if is_signed_in:
            _sign_in(app, person)
        return person

    return make


def _photograph(suffix, app, make, model, letters, *, is_phone):
    stranger = make(False)
    album = Album(stranger, suffix)
    stranger.visit()
    stranger.is_asked_to_sign_in()
    album.take("sign-in")
    stranger.visit("/?reason=wrong")
    stranger.is_asked_to_sign_in()
    album.take("sign-in-wrong")
    stranger.leaves()

    maya = make(True)
    album, page = Album(maya, suffix), maya.page
    maya.visit()
    maya.is_welcome()
    album.take("new")
    maya.visit(f"/?c={letters}")
    expect(maya.messages).to_have_count(2 * len(LETTERS))
    maya.sees_no_reply_coming()
    album.take("chat")
    album.opened("policy", page.locator(".st-key-memory-policy button").first)
    album.opened("context", page.locator(".st-key-context-meter button").first)
    album.opened("model", page.locator(".st-key-model-picker button").first)
    album.opened("conversation-menu", page.locator(".st-key-conversation-menu button").first)

    _photograph_dialogs(album)
    page.locator(".st-key-conversation-menu button").first.click()
    page.get_by_role("menuitem", name="Delete").click()
    maya.is_welcome()
    expect(maya.messages).to_have_count(0)
    album.take("deleted")
    maya.undoes()
    expect(maya.messages).to_have_count(2 * len(LETTERS))

    _photograph_turns(album, model)
    _photograph_versions(album, model)
    _photograph_facts(album, model)
    _photograph_the_list(album, is_phone=is_phone)
    _photograph_a_space(album)
    _photograph_a_temporary_chat(album, model)
    _photograph_what_is_wrong(app, album, letters)
    maya.visit("/")
    maya.is_welcome()
    if is_phone:
        maya.unfolds_the_sidebar()
    page.locator('[class*="st-key-open-"] button').get_by_text("Question 1").click()
    expect(maya.banner).to_be_visible()
    maya.sees_no_reply_coming()
    album.take("window")
    maya.scrolls_up(3)  # by hand, or the page goes back to its end
    maya.beginning.scroll_into_view_if_needed()
    album.take("window-line")
    if is_phone:
        maya.unfolds_the_sidebar()
    page.locator('[class*="st-key-open-"] button').get_by_text(OTHERS[-1]).click()
    maya.sees("is no longer offered here.")
    maya.sees_no_reply_coming()
    album.take("model-gone")
    maya.visit("/admin")
    expect(page.locator(".st-key-usage-table canvas").first).to_be_visible()
    album.take("admin")
    if is_phone:
        maya.unfolds_the_sidebar()
        album.take("sidebar")
    album.opened("account", page.locator(".st-key-account-menu button").first)
    page.locator(".st-key-account-menu button").first.click()
    page.get_by_role("button", name="Keys").click()
    album.take("keys")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    _photograph_ways_in(app, album)
    maya.leaves()


def _photograph_dialogs(album):
    """What the model is told in one conversation, and the sign of it; then what it is told in all."""
    maya, page = album.person, album.person.page
    maya.instructs("Answer as an archivist would: short, and say when you are not sure.")
    album.take("instructed")
    maya.instructions_sign.click()
    expect(maya.dialog.get_by_role("textbox")).to_be_visible()
    album.take("instructions")
    maya.dialog.get_by_role("button", name="Use my own instead").click()
    expect(maya.instructions_sign).to_have_count(0)
    if album.is_phone:
        maya.unfolds_the_sidebar()
    maya.opens_preferences()
    expect(maya.dialog.locator(".st-key-default-model input")).to_be_visible()
    album.take("preferences")
    maya.dialog.get_by_role("button", name="Close").click()
    expect(maya.dialog).to_have_count(0)
    if album.is_phone:
        page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
        expect(page.locator(".st-key-new-chat button")).not_to_be_in_viewport()


def _photograph_turns(album, model):
    """A reply while it comes, stopped, and one that does not come."""
    maya = album.person
    maya.visit()
    maya.is_welcome()
    model.script(reply=LETTERS[1][1], rate=25)
    maya.asks("Some are water-damaged. Can they travel?")
    maya.hears("Interleave")
    album.take("streaming")
    maya.stops()
    album.take("stopped")
    model.script(status=500)
    maya.asks("And by sea?")
    maya.sees("Your message is saved.")
    maya.sees_no_reply_coming()
    album.take("failed")
    model.script()
    _leave_nothing(maya)


def _photograph_versions(album, model):
    """The second version of an earlier reply."""
    maya = album.person
    maya.visit()
    maya.is_welcome()
    model.script(reply=LETTERS[3][1])
    maya.asks(LETTERS[3][0])
    maya.hears_all_of("inside the lid")
    maya.asks("And by sea?")
    maya.hears_all_of("inside the lid")
    model.script(reply="By sea, in a tin-lined crate, and insured.")
    maya.page.get_by_role("button", name="Write again").first.click()
    maya.hears_all_of("tin-lined")
    maya.sees("2 / 2")
    album.take("versions")
    model.script()
    _leave_nothing(maya)


def _photograph_facts(album, model):
    """The page of what is kept, without anything and with some of it; and what was noted just now."""
    maya = album.person
    page = maya.page
    maya.visit("/memory")
    maya.sees("Nothing is kept about you")
    album.take("memory-empty")
    page.get_by_text("Keep facts about me").click()
    maya.sees("Daybook notes what you say about yourself")
    page.get_by_label("Add a fact").fill(
        "I prefer short answers, and to be told when you are not sure"
    )
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Edit: I prefer")).to_be_visible()
    maya.visit()
    maya.is_welcome()
    model.script(reply="Then the freight can wait for you on the quay.")
    model.script_facts(reply='{"add": ["Moves to Bergen in December."], "replace": []}')
    maya.asks("I move to Bergen in December. Can the boxes go before me?")
    maya.hears_all_of("on the quay")
    maya.sees("Daybook noted")
    album.take("noted")
    maya.opens_the_facts()
    maya.notes_in_the_dialog("The carrier's number of this removal is 7781")
    album.take("conversation-facts")
    page.keyboard.press("Escape")
    expect(maya.dialog).to_have_count(0)
    page.locator(".st-key-noted").get_by_role("link", name="Memory").click()
    expect(page.get_by_role("button", name="Edit: Moves to Bergen")).to_be_visible()
    album.take("memory")
    page.get_by_text("Keep facts about me").click()
    maya.sees("Nothing is noted")
    page.get_by_role("button", name="Delete all facts").click()
    album.take("memory-delete-all")
    maya.dialog.get_by_role("button", name="Delete all").click()
    maya.sees("Nothing is kept about you")
    page.go_back()
    maya.hears_all_of("on the quay")
    model.script()
    _leave_nothing(maya)


def _photograph_the_list(album, *, is_phone):
    """A reply that came while one looked elsewhere, and a title that is written anew."""
    maya = album.person
    maya.visit()
    maya.asks("A hotel in Bergen [[tokens=8 rate=12]]")
    maya.hears("word1")
    maya.visit()
    maya.is_welcome()
    if is_phone:
        maya.unfolds_the_sidebar()
    expect(maya.unread).to_have_count(1)
    album.take("unread")
    maya.chooses("Moving the letters to Bergen", "Rename")
    expect(maya.title_field).to_be_focused()
    album.take("rename")
    maya.page.keyboard.press("Escape")
    maya.unread.click()
    maya.hears_all_of("word8")
    _leave_nothing(maya)


def _photograph_a_space(album):
    """Its fresh page beside its list, and what holds in it."""
    maya, page = album.person, album.person.page
    maya.visit()
    maya.is_welcome()
    if album.is_phone:
        maya.unfolds_the_sidebar()
    maya.makes_a_space("Latin with Astrid", "Be a patient tutor. Correct one mistake at a time.")
    album.take("space")
    maya.edits_the_space()
    maya.notes_in_the_dialog("She has learned Latin for two years.")
    album.take("space-dialog")
    maya.dialog.get_by_role("button", name="Delete", exact=True).click()
    maya.dialog.get_by_role("button", name="Delete the space").click()
    expect(maya.dialog).to_have_count(0)
    expect(page.locator(".st-key-space-chooser")).to_have_count(0)
    if album.is_phone:
        page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").click()
        expect(page.locator(".st-key-new-chat button")).not_to_be_in_viewport()


def _photograph_a_temporary_chat(album, model):
    """What it means, before and while it is one."""
    maya = album.person
    maya.visit()
    maya.turns_to_a_temporary_chat()
    album.take("temporary-fresh")
    model.script(reply="Start with the date, then what you saw, then what you ask for.", times=1)
    maya.asks("How do I write to my landlord about the damp wall?")
    maya.hears_all_of("Start with the date")
    album.take("temporary")
    maya.visit()
    maya.is_welcome()


def _leave_nothing(maya):
    """Have the open conversation go again."""
    maya.page.locator(".st-key-conversation-menu button").first.click()
    maya.page.get_by_role("menuitem", name="Delete").click()
    maya.is_welcome()


def _photograph_what_is_wrong(app, album, letters):
    """What does not exist, is not found, may not be spent, cannot be read, and a database that is away."""
    maya = album.person
    maya.visit("/?c=nowhere")
    maya.sees("That conversation does not exist.")
    maya.sees_no_reply_coming()
    album.take("unknown")
    maya.visit()
    maya.is_welcome()
    if album.is_phone:
        maya.unfolds_the_sidebar()
    maya.filter.fill("zebra")
    maya.sees("No title")
    album.take("no-match")
    if album.is_phone:
        maya.page.locator('[data-testid="stSidebarCollapseButton"] button').click()
    for cap in ("daily", "monthly"):
        with _without(app, cap, maya):
            maya.visit()
            maya.is_welcome()
            maya.composer.fill("One more letter turned up. Where does it go?")
            maya.sends()
            maya.sees("budget is used up")
            maya.sees_no_reply_coming()
            album.take(f"cap-{cap}")
    maya.composer.fill("")
    with _swapped(app, letters):
        _sign_in(app, maya)  # who has read it already keeps what they read
        maya.visit(f"/?c={letters}")
        maya.sees("could not be verified")
        maya.sees_no_reply_coming()
        album.take("unreadable")
        maya.scrolls_up(3)
        maya.page.locator(".st-key-thread-top").get_by_role("alert").scroll_into_view_if_needed()
        album.take("unreadable-top")
    maya.visit(f"/?c={letters}")
    expect(maya.messages).to_have_count(2 * len(LETTERS))
    maya.sees_no_reply_coming()
    with app.frozen_database():  # nobody knows it yet
        maya.composer.fill("And the envelopes?")
        maya.sends()
        maya.page.keyboard.press("Control+Shift+O")
        maya.sees("It waits in the composer")
        album.take("unsent")
        maya.page.go_back()
        expect(maya.composer).to_have_value("And the envelopes?")
        expect(maya.outage).to_be_visible()
        maya.sees_no_reply_coming()
        album.take("outage")
        maya.composer.fill("And the stamps?")
        maya.sends()
        maya.sees("Nothing was lost")
        album.take("outage-sent")
    expect(maya.outage).to_have_count(0)
    maya.composer.fill("")


def _photograph_ways_in(app, album):
    """Somebody's first visit; a session that has ended; and one that nobody can open just now."""
    maya = album.person
    (cookie,) = (each for each in maya.context.cookies() if each["name"] == "__Host-sid")
    maya.context.request.post(f"{app.url}/session/end", max_redirects=0)
    maya.context.add_cookies([cookie])
    maya.visit()
    maya.sees("You were signed out.")
    maya.is_asked_to_sign_in()
    album.take("signed-out")
    with second_process(app) as sessions:
        unopened, _ = sessions.sign_in(maya.email, PASSWORD)
    with app.frozen_database():
        until(lambda: app.health()[1].get("database") == "away")
        maya.context.add_cookies([cookie | {"value": str(unopened)}])
        maya.visit()
        maya.sees("You are still signed in")
        album.take("one-moment")
        maya.context.clear_cookies()
        maya.visit("/?reason=unavailable")
        maya.is_asked_to_sign_in()
        album.take("sign-in-outage")
    until(lambda: app.health()[0] == 200)
    maya.email = f"new-{album.suffix}@daybook.test"
    maya.arrives()
    album.take("first")


@contextmanager
def _without(app, cap, person):
    """*person*'s daily or monthly cap used up, for a while."""
    with database(app) as rows:
        whose = "where user_id = (select id from auth.users where email = %s)"
        (before,) = rows.execute(
            f"select {cap}_cap_micro from private.budgets {whose}", [person.email]
        ).fetchone()
        rows.execute(f"update private.budgets set {cap}_cap_micro = 0 {whose}", [person.email])
    yield
    with database(app) as rows:
        rows.execute(
            f"update private.budgets set {cap}_cap_micro = %s {whose}", [before, person.email]
        )


if __name__ == "__main__":
    main()
