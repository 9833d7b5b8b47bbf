"""Documents that dialogs edit: shown where another tab changed them, and kept in the field where they are refused."""

from uuid import UUID

import pytest

from pages._parts.memory import summary_dialog
from pages._parts.preferences import instructions_dialog, preferences_dialog
from pages._parts.space_dialogs import space_dialog
from services.domain import RunningSummary, Space, SpaceId, Summary
from services.errors import StoreUnavailable
from tests.fakes import NOON, choose
from tests.pages.conftest import in_dialog, press

SPACE = SpaceId(UUID(int=7))


@pytest.fixture(params=["instructions", "preferences", "space", "summary"])
def document(request, maya, database):
    """A dialog with its arguments, the key of its field, and functions that read and replace the text."""
    profile, spaces = maya.store.profile, maya.store.spaces
    garden = database.hold("Garden", *["One", "Two"] * 4, policy=Summary())

    def set_summary(text):
        summary = RunningSummary(text=text, from_seq=1, up_to_seq=4, made_at=NOON)
        database.conversations.set_summary(database.thread(garden), summary)

    def set_space(text):
        space = Space(id=SPACE, name="Latin", instructions=text, created_at=NOON)
        spaces.keep(space, replaces=spaces.find(SPACE))

    set_summary("Before.")
    set_space("Before.")
    conversation = database.thread(garden).conversation
    return {
        "instructions": (
            (instructions_dialog, conversation),
            f"instructions-{garden}",
            lambda: database.thread(garden).instructions,
            lambda text: database.conversations.set_instructions(garden, text),
        ),
        "preferences": (
            (preferences_dialog,),
            "my-instructions",
            lambda: profile.preferences().instructions,
            lambda text: choose(profile, instructions=text),
        ),
        "space": (
            (space_dialog, spaces.find(SPACE)),
            f"space-instructions-{SPACE}",
            lambda: spaces.find(SPACE).instructions,
            set_space,
        ),
        "summary": (
            (summary_dialog, garden),
            f"summary-{garden}",
            lambda: database.thread(garden).summary.text,
            set_summary,
        ),
    }[request.param]


def test_document_of_another_tab_is_shown_before_replacing(open_app, maya, document):
    dialog, key, read, change = document
    app = in_dialog(open_app(maya), *dialog).run()
    change("Answer in verse.")
    app.text_area(key=key).set_value("Answer in prose.")

    press(in_dialog(app, *dialog), "Save")
    assert read() == "Answer in verse."
    assert ["changed in another tab" in warning.value for warning in app.warning] == [True]
    assert "Answer in verse." in app.code[0].value
    assert app.text_area(key=key).value == "Answer in prose."

    press(in_dialog(app, *dialog), "Save")
    assert read() == "Answer in prose."


def test_document_that_cannot_be_stored_stays_typed(open_app, maya, database, document):
    dialog, key, _, _ = document
    app = in_dialog(open_app(maya), *dialog).run()
    database.rows.failures["put_document"] = StoreUnavailable()
    app.text_area(key=key).set_value("A long thought.")

    press(in_dialog(app, *dialog), "Save")

    assert [error.value for error in app.error] == [StoreUnavailable.public]
    assert app.text_area(key=key).value == "A long thought."
