"""Escape: one press closes the topmost overlay, and the focus returns to where it was."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from services.domain import Window
from tests.journeys.people import FOR_EVER, PASSWORD
from tests.journeys.seeds import converse, operate, second_process

_PAGES = Path(__file__).parents[2] / "pages"
_DIALOG = '[data-testid="stDialog"], dialog[open]'
_ABOVE = ":is([role=dialog], [role=menu], [role=listbox]):visible, dialog[open]"


def button(key):
    return f".st-key-{key} button"


def item(name):
    return f'role=menuitem[name="{name}"]'


MENU, ACCOUNT_MENU = button("conversation-menu"), button("account-menu")
ROW = ".db-row [data-options]"
MODEL, POLICY, METER = button("model-picker"), button("memory-policy"), button("context-meter")
# for each overlay, the elements to press in order; the first has the focus in the end
ACCOUNT = {
    "the account": [ACCOUNT_MENU],
    "preferences_dialog": [ACCOUNT_MENU, item("Preferences")],
    "about_dialog": [ACCOUNT_MENU, item("About")],
    "the shortcuts": [ACCOUNT_MENU, "[data-keys]"],
}
CHAT = {
    "the formats of an export": [button("export")],
    "the chat's menu": [MENU],
    "instructions_dialog": [MENU, item("Instructions")],
    "notes_dialog": [MENU, item("Chat notes")],
    "move_dialog": [MENU, item("Move to space")],
    "branches_dialog": [MENU, item("Keep only this branch")],
    "the models": [MODEL],
    "the policies": [POLICY],
    "the meter": [METER],
    "next_dialog": [METER, button("look-at-next")],
    "what is not sent": [button("unsent")],
    "ways to regenerate": ["[data-message][data-options]"],
    "seen_dialog": ['[data-act="seen"]'],
    "messages_dialog": ['[data-act="delete"]'],
    "a row's menu": [ROW],
    "instructions of a row": [ROW, item("Instructions")],
    "notes of a row": [ROW, item("Chat notes")],
    "move of a row": [ROW, item("Move to space")],
    "the spaces": [button("space-chooser")],
    "new_space_dialog": [button("space-chooser"), item("New space")],
}
SPACE = {
    "space_dialog": [button("edit-space")],
    "space_dialogs.delete_dialog": [button("edit-space"), button("danger-delete-space")],
}
TEMPORARY = {
    "a temporary chat's formats": [button("export")],
    "a temporary chat's meter": [METER],
    "a temporary chat's next_dialog": [METER, button("look-at-next")],
    "a temporary chat's messages_dialog": ['[data-act="delete"]'],
}
FRESH = {
    "instructions of a new chat": [button("new-instructions")],
    "the policies of a new chat": [POLICY],
    "the models of a new chat": [MODEL],
}
DEVICES = {"others_dialog": [button("end-others")]}
DATA = {
    "chats_dialog": [button("delete-chats")],
    "clear_dialog": [button("clear-browser")],
}
MEMORY = {"delete_all_dialog": [button("danger-ask")]}
ADMIN = {
    "suspend_dialog": [button("suspend")],
    "users.delete_dialog": [button("delete-user")],
}
# these need a passkey (test_passkeys.py, test_passkey_factor.py)
PASSKEYS = {"rename_passkey_dialog", "remove_passkey_dialog", "passkey_dialog"}
# these an identity (test_single_sign_on.py)
IDENTITIES = {"rename_identity_dialog", "remove_identity_dialog"}
# these a second factor (test_factor_setup.py)
FACTOR = {"replace_dialog", "codes_dialog", "remove_dialog", "factor_dialog"}
# and these an unset model, a chat with a summary, an invitation and a second model
ELSEWHERE = {
    *("connect_dialog", "summary_dialog", "revoke_dialog", "hide_dialog"),
    *FACTOR,
    *PASSKEYS,
    *IDENTITIES,
}


@pytest.fixture(scope="module")
def maya(shared_person):
    """A user without an open page, for all tests: her browser keeps the app's files."""
    maya = shared_person()
    maya.registers()
    return maya


def seed(app, person):
    """Make *person* an admin with a chat of which not all messages are sent; return the chat's id."""
    operate(app, "grant-admin", person.email)
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(person.email, PASSWORD)
        return converse(session, [(f"Peas {n}?", "Gladly.") for n in range(3)], Window(2))


def press_escape(page):
    page.keyboard.press("Escape")


def open_and_close(page, name, presses):
    """Open an overlay by *presses*, and close it by one Escape."""
    above = page.locator(_ABOVE)
    for press in presses:
        page.locator(press).first.press("Enter")
    # the element is in the closed overlay, or its dialog is not drawn yet
    for press in presses[1:]:
        expect(page.locator(press), name).to_have_count(0)
        expect(page.locator(_DIALOG), name).to_be_visible()
    expect(above, name).to_have_count(1)
    page.keyboard.press("Escape")
    expect(above, name).to_have_count(0)


def test_escape_closes_each_overlay_once_and_returns_the_focus(app, maya):
    page, above = maya.page, maya.page.locator(_ABOVE)

    def close_each(overlays):
        for name, presses in overlays.items():
            maya.sees_no_reply_coming()
            open_and_close(page, name, presses)
            maya.sees_no_reply_coming()
            expect(page.locator(presses[0]).first, name).to_be_focused()

    conversation = seed(app, maya)
    maya.visit("/")
    maya.is_welcome()
    expect(maya.composer).to_be_focused()  # no key may be pressed before it takes the focus
    close_each(FRESH | ACCOUNT)
    for press in ACCOUNT["about_dialog"]:
        page.locator(press).press("Enter")
    about, sheet = page.locator('[data-testid="stDialog"]'), page.locator(".db-keys")
    for close in (
        lambda: sheet.get_by_role("button", name="Close").click(),
        lambda: press_escape(page),
    ):
        about.locator("[data-keys]").click()
        expect(sheet.get_by_role("button", name="Close"), "the sheet over About").to_be_focused()
        sheet.get_by_role("heading").click()  # takes the focus from the sheet
        close()
        expect(sheet).to_be_hidden()
        expect(about).to_be_visible()
    press_escape(page)
    expect(above).to_have_count(0)
    expect(page.locator(ACCOUNT_MENU)).to_be_focused()
    for press in ACCOUNT["preferences_dialog"]:
        page.locator(press).press("Enter")
    maya.dialog.locator(".st-key-default-model input").press("ArrowDown")
    expect(page.get_by_role("listbox")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(above).to_have_count(0)
    expect(page.locator(ACCOUNT_MENU)).to_be_focused()
    for press in ACCOUNT["preferences_dialog"]:
        page.locator(press).press("Enter")
    expect(maya.dialog).to_be_visible()
    maya.sees_no_reply_coming()  # a run that goes on would open the dialog again
    page.locator("body").dispatch_event("keydown", {"key": "Escape", "bubbles": True})
    expect(above, "a dialog that has lost the focus").to_have_count(0)
    maya.makes_a_space("Latin", "")
    close_each(SPACE)
    maya.visit(f"/?c={conversation}")
    maya.hears("Gladly.")
    maya.sees_no_reply_coming()
    expect(maya.composer).to_be_focused()
    page.locator('[data-act="retry"]').last.press("Enter")
    maya.sees("2 / 2")
    close_each(CHAT)
    maya.visit("/memory")
    page.get_by_label("Add a memory").fill("I grow peas.")
    page.keyboard.press("Enter")
    maya.sees("I grow peas.")
    close_each(MEMORY)
    maya.visit("/data")
    close_each(DATA)
    maya.visit("/account")
    close_each(DEVICES)
    maya.visit("/admin?tab=Users")
    page.locator(".st-key-chosen-users input").fill(maya.email)
    page.get_by_role("option", name=maya.email).click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name=maya.email)).to_be_visible()
    close_each(ADMIN)
    maya.visit("/")
    maya.turns_to_a_temporary_chat()
    maya.asks("Roses?")
    close_each(TEMPORARY)


def test_escape_with_something_open_stops_no_reply(maya):
    maya.visit("/")
    maya.is_welcome()
    maya.asks(f"Peas {FOR_EVER}")
    maya.hears("word2")
    instructions, shortcuts = CHAT["instructions_dialog"], ACCOUNT["the shortcuts"]
    for presses in ([MENU], [ROW], [METER], [POLICY], instructions, shortcuts):
        open_and_close(maya.page, "while a reply streams", presses)
        expect(maya.stop_button).to_be_visible()
        expect(maya.page.locator(presses[0]).first).to_be_focused()
    maya.hears("word20")

    maya.page.keyboard.press("Escape")
    maya.sees("You stopped this reply.")


def test_each_dialog_is_in_the_table():
    every = FRESH | ACCOUNT | CHAT | SPACE | MEMORY | DATA | DEVICES | ADMIN | TEMPORARY
    tables = {name.rpartition(".")[2] for name in every} | ELSEWHERE
    for file in _PAGES.rglob("*.py"):
        made = re.findall(r"@st\.dialog\(.*\n(?:@.*\n)*def (\w+)", file.read_text("utf-8"))
        assert set(made) <= tables, file
