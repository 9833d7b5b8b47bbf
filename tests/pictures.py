"""The screenshots in README and docs: `python -m tests.pictures [FOLDER]`.

They are written to `build/pictures`, which git ignores. Run it after a change of the screen, look at every picture, and
copy them to `docs/screenshots`.
"""

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from playwright.sync_api import expect

from services.embedded.folders import choose_folders
from services.store.accounts import Cookie
from tests.chromium import chromium
from tests.fakes import choose
from tests.journeys.people import DESK, PASSWORD, PHONE, Person
from tests.journeys.seeds import converse, database, let_talk_fast, second_process
from tests.model_server import ModelServer
from tests.stack.apps import ROOT, App, running
from tests.stores import store_of

FOLDER = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "pictures"
EMAIL = "maya@daybook.test"
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


# --- scenes: the actions of *maya* before the picture -------------------------------------------------


def chat(maya, at):
    maya.visit(f"/?c={at.letters}")
    expect(maya.messages).to_have_count(2 * len(LETTERS))
    maya.sees_no_reply_coming()


def policy(maya, at):
    chat(maya, at)
    maya.page.locator(".st-key-memory-policy button").first.click()


def context(maya, at):
    chat(maya, at)
    maya.page.locator(".st-key-context-meter button").first.click()


def search(maya, at):
    chat(maya, at)
    maya.searches("box")
    expect(maya.found.locator('[role="option"] mark').first).to_be_visible()
    expect(maya.found).not_to_contain_text("Read so far")


def sidebar(maya, at):
    maya.visit()
    maya.is_welcome()
    maya.unfolds_the_sidebar()


def admin(maya, at):
    with database(at.app) as rows:  # stores the usage of a month
        rows.execute("""
            insert into private.ledger (at, user_id, turn_id, day, kind, outcome, purpose, model, tokens_in, tokens_cached,
              tokens_out, first_token_ms, micro)
            select now() - make_interval(days => n), id, gen_random_uuid(), (now() at time zone 'utc')::date - n, 'charge',
              case n % 11 when 5 then 'failed' else 'complete' end, 'reply',
              case n % 3 when 0 then 'gpt-5' else 'gpt-5-mini' end, 2200 + 170 * (n * 7 % 13), 900, 400 + 60 * (n * 5 % 11),
              240 + 55 * (n * 3 % 17), 21000 + 5300 * (n * 7 % 9)
            from auth.users, generate_series(0, 29) n where n % 7 not in (2, 3)
              and not exists (select from private.ledger where model = 'gpt-5')
        """)
    maya.visit("/admin")
    expect(maya.page.locator(".st-key-usage-chart").get_by_role("img")).to_be_visible()


def data(maya, at):
    chat(maya, at)  # gives the session a cached conversation, and the browser a draft
    maya.composer.fill("And the boxes from the attic?")
    maya.visit("/data")
    expect(maya.page.get_by_role("group", name="Where your data is")).to_contain_text("1 unsent")
    expect(maya.rows.first).to_be_visible()


def window_line(maya, at):
    maya.visit()
    maya.rows.filter(has_text="Question 1").first.click()
    expect(maya.banner).to_be_visible()
    maya.sees_no_reply_coming()
    maya.scrolls_up(3)  # scrolled by the user, because the page would otherwise return to its end
    maya.beginning.scroll_into_view_if_needed()


def temporary(maya, at):
    maya.visit()
    maya.turns_to_a_temporary_chat()
    at.model.script(reply="Start with the date, then what you saw, then what you ask for.")
    maya.asks("How do I write to my landlord about the damp wall?")
    maya.hears_all_of("Start with the date")


def unreadable(maya, at):
    with database(at.app) as rows:  # swaps the sealed texts of two replies
        rows.execute(
            """
            update public.messages set body = other.body from public.messages other
            where messages.conversation_id = %(id)s and other.conversation_id = %(id)s
              and (messages.seq, other.seq) in ((4, 6), (6, 4))""",
            {"id": at.letters},
        )
    maya.visit(f"/?c={at.letters}")
    maya.sees("failed its integrity check")
    maya.sees_no_reply_coming()


def noted(maya, at):
    maya.visit("/memory")
    maya.page.get_by_text("Remember things about me").click()
    maya.sees("Daybook saves what you say about yourself")
    maya.page.get_by_label("Add a memory").fill(
        "I prefer short answers, and to be told when you are not sure"
    )
    maya.page.keyboard.press("Enter")
    expect(maya.page.get_by_role("button", name="Edit: I prefer")).to_be_visible()
    maya.visit()
    maya.is_welcome()
    at.model.script(reply="Then the freight can wait for you on the quay.")
    at.model.script_facts(reply='{"add": ["Moves to Bergen in December."], "replace": []}')
    maya.asks("I move to Bergen in December. Can the boxes go before me?")
    maya.hears_all_of("on the quay")
    maya.begins_a_new_chat()  # leaving a chat notes its facts
    maya.page.go_back()
    maya.sees("Memory updated")


def memory(maya, at):
    maya.visit()
    maya.rows.first.click()
    maya.opens_the_facts()
    maya.notes_in_the_dialog("The carrier's number of this removal is 7781")
    maya.visit("/memory")
    expect(maya.page.get_by_role("button", name="Edit: Moves to Bergen")).to_be_visible()


def space(maya, at):
    maya.visit()
    maya.is_welcome()
    maya.makes_a_space("Latin with Astrid", "Be a patient tutor. Correct one mistake at a time.")


SIZES = {"desk": DESK, "phone": PHONE}
SCENES = {  # in this order, because the later scenes change stored data
    "chat-desk-light": chat,
    "chat-phone-dark": chat,
    "policy-desk-light": policy,
    "context-desk-light": context,
    "search-desk-light": search,
    "sidebar-phone-light": sidebar,
    "admin-desk-dark": admin,
    "data-desk-light": data,
    "window-line-desk-light": window_line,
    "temporary-desk-light": temporary,
    "unreadable-desk-light": unreadable,
    "noted-desk-light": noted,
    "memory-desk-light": memory,
    "space-desk-light": space,
}


# --- the studio -----------------------------------------------------------------------------------------


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        ModelServer() as model,
        running(chosen_app(Path(base), model)) as app,
        chromium() as browser,
    ):
        app.until_ready()
        at = SimpleNamespace(app=app, model=model, letters=write(app, browser))
        for name, scene in SCENES.items():
            size, theme = name.split("-")[-2:]
            looks = {"viewport": SIZES[size], "color_scheme": theme, "has_touch": size == "phone"}
            maya = Person(browser, app.url, "maya", **looks)
            form = {"email": EMAIL, "password": PASSWORD, "next": "/"}
            maya.context.request.post(f"{app.url}/session", form=form, max_redirects=0)
            scene(maya, at)
            maya.page.evaluate("document.fonts.ready")
            maya.page.mouse.move(5, 5)
            # waits for elements that fade in, for which there is no condition
            maya.page.wait_for_timeout(400)
            maya.page.screenshot(path=FOLDER / f"{name}.png")
            maya.leaves()
        draw_plain_files(browser, Path(base, "plain"), model)


def draw_plain_files(browser, base, model):
    """Take the picture of a Daybook for one user, in plain JSON files."""
    store = f"json-plain:{base / 'daybook'}"
    with running(chosen_app(base, model, DAYBOOK_STORE=store)) as app:
        app.until_ready()
        maya = Person(browser, app.url, "maya", color_scheme="light")
        maya.page.goto((app.keys / f"open-{app.port}.txt").read_text())
        maya.is_welcome()
        maya.page.evaluate("document.fonts.ready")
        maya.page.screenshot(path=FOLDER / "plain-desk-light.png")
        maya.leaves()


def chosen_app(base, model, **settings):
    return App(
        base,
        choose_folders(None, None).cache,
        environment=settings
        | {
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "scripted",
            "DAYBOOK_MODEL": "gpt-5-mini",
            "DAYBOOK_MODELS": "gpt-5,claude-sonnet-4-5",
            "DAYBOOK_CONTEXT_TOKENS": "4096",
        },
    )


def write(app, browser):
    """Store the conversations of a fortnight, the one about the letters last, and the account of another user."""
    first, second = (Person(browser, app.url, name) for name in ("maya", "jonas"))
    first.email, second.email = EMAIL, "jonas@daybook.test"
    first.arrives()
    second.arrives()
    let_talk_fast(app)
    with second_process(app) as sessions:
        (cookie,) = (c for c in first.context.cookies() if c["name"] == "__Host-sid")
        session = sessions.open(Cookie.parse(cookie["value"]))
        for title in OTHERS:
            converse(session, [(title, "Gladly.")])
        converse(session, [(f"Question {n}: which box?", f"Box {n}.") for n in range(1, 18)])
        letters = converse(session, LETTERS)
        store_of(session).conversations.rename(letters, "Moving the letters to Bergen")
        # otherwise the page would offer to note facts
        choose(store_of(session).profile, keeps_facts=False)
    first.leaves()
    second.leaves()
    return letters


if __name__ == "__main__":
    main()
