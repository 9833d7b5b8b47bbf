"""Earlier messages that are not sent, the summary, the meter, and the context of a request."""

import re
from dataclasses import replace
from uuid import uuid4

import pytest

from pages._parts.inspector import seen_dialog
from pages._parts.memory import summary_dialog
from services.domain import (
    Full,
    MemoryPolicy,
    MessageId,
    Purpose,
    Retrieval,
    RunningSummary,
    Summary,
    Usage,
    Window,
)
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.errors import NewerVersion
from services.llm import Offer
from tests.chats import done
from tests.fakes import INFO, NOON, FakePerson, ScriptedModel, choose
from tests.pages.conftest import captions, html, in_composer, in_dialog, press, replace_the_run
from tests.pages.test_chat_page import pairs, send
from tests.stack.apps import until


@pytest.fixture
def garden(database):
    """A conversation with a summary of four messages."""
    garden = database.hold("Garden", *pairs(4), policy=Summary())
    summary = RunningSummary(text="They sow peas.", from_seq=1, up_to_seq=4, made_at=NOON)
    database.conversations.set_summary(database.thread(garden), summary)
    return garden


def test_banner_leads_to_the_summary(open_app, maya, garden):
    app = open_app(maya, c=str(garden))

    assert "**4 earlier messages** are sent as a summary." in captions(app)
    assert "Summary of 4 messages" in html(app)
    app.button(key="read-summary-banner").click().run()

    assert app.text_area(key=f"summary-{garden}").value == "They sow peas."
    assert "Summary of 4 messages (" in captions(app)
    assert not re.search(r"\((.+) to \1\)", captions(app))


def test_dialogs_are_about_the_branch_on_screen(open_app, maya, garden, database):
    messages = database.thread(garden).messages
    done(maya.chat.edit_prompt(garden, messages[0].id, "Kumquats?"))
    app = open_app(maya, c=str(garden), m=str(messages[-1].id))

    app.button(key="read-summary-banner").click().run()
    assert "Summary of 4 messages" in captions(app)
    app.run().button(key="look-at-next").click().run()
    assert "They sow peas." in {code.value for code in app.code}


@pytest.mark.parametrize(
    ("policy", "chip"),
    [
        (Window(4), "4 earlier messages not sent"),
        (Summary(), "4 earlier messages summarized"),
        (Full(), None),
    ],
)
def test_chip_by_the_composer_names_what_is_not_sent(
    open_app, maya, garden, database, policy, chip
):
    database.conversations.set_policy(garden, policy)

    app = open_app(maya, c=str(garden))

    chips = [one for one in app.get("popover") if "earlier" in one.proto.popover.label]
    assert [one.proto.popover.label for one in chips] == [chip] * bool(chip)
    for one in chips:
        assert bool(one.button) == policy.kind.needs_summary
        one.radio[0].set_value("Everything").run()
        assert database.thread(garden).conversation.policy == Full()


def test_summary_is_edited(open_app, maya, garden, database):
    app = open_app(maya, c=str(garden))
    app.button(key="read-summary-banner").click().run()

    app.text_area(key=f"summary-{garden}").set_value("They sow kumquats.")
    press(in_dialog(app, summary_dialog, garden), "Save")

    kept = database.thread(garden).summary
    assert (kept.text, kept.is_edited) == ("They sow kumquats.", True)


def test_summary_that_is_emptied_can_be_restored(open_app, maya, garden, database):
    old = database.thread(garden).summary
    app = open_app(maya, c=str(garden))

    app.button(key="read-summary-banner").click().run()
    app.text_area(key=f"summary-{garden}").set_value(" ")
    press(in_dialog(app, summary_dialog, garden), "Save")
    assert database.thread(garden).summary is None
    press(app.run(), "Undo")

    assert database.thread(garden).summary == old


def test_deleted_summary_can_be_restored(open_app, maya, garden, database):
    edited = replace(database.thread(garden).summary, is_edited=True)
    database.conversations.set_summary(database.thread(garden), edited)
    app = open_app(maya, c=str(garden))

    app.button(key="read-summary-banner").click().run()
    database.rows.after["put_document"] = replace_the_run  # the dialog is closed meanwhile
    press(in_dialog(app, summary_dialog, garden), "Delete summary")
    assert database.thread(garden).summary is None
    next(button for button in app.run().button if button.label == "Undo").click().run()

    assert database.thread(garden).summary == edited


def test_old_summary_can_be_restored_after_regenerate(open_app, maya, garden, database, model):
    old = database.thread(garden).summary
    app = open_app(maya, c=str(garden))

    app.button(key="read-summary-banner").click().run()
    press(in_dialog(app, summary_dialog, garden), "Regenerate")
    until(lambda: not maya.chat.coming(Purpose.SUMMARY))
    assert database.thread(garden).summary != old
    press(app.run(), "Undo")

    assert database.thread(garden).summary == old


def test_summary_that_is_being_made_deletes_none(open_app, maya, garden, database, monkeypatch):
    old = database.thread(garden).summary
    app = open_app(maya, c=str(garden))
    monkeypatch.setattr(maya.chat.tasks.registry, "claim", lambda *given, **named: False)

    app.button(key="read-summary-banner").click().run()
    app = press(in_dialog(app, summary_dialog, garden), "Regenerate").run()

    assert database.thread(garden).summary == old
    assert "Undo" not in {button.label for button in app.button}


def test_failed_summary_is_reported(open_app, maya, database):
    garden = database.hold("Garden", *pairs(4), policy=Summary())
    prompt_id, user_id = database.thread(garden).messages[-2].id, maya.database.user_id
    assert maya.chat.tasks.registry.claim(Purpose.SUMMARY, user_id, garden, prompt_id)
    maya.chat.tasks.registry.end(Purpose.SUMMARY, garden, error=ModelUnavailable(ModelFailure.BUSY))

    app = open_app(maya, c=str(garden))

    assert "The last summary failed. The model is busy (rate limit)." in captions(app)
    assert "Your message is saved" not in captions(app)
    assert "earlier messages" not in captions(app)
    app.button(key="summarize-banner").click().run()
    assert maya.chat.tasks.registry.failure(Purpose.SUMMARY, garden) is None


def test_switch_of_a_full_chat_starts_its_summary(open_app, maya, database):
    long = (f"{half} {n} " + "peas " * 300 for n in range(10) for half in ("prompt", "reply"))
    garden = database.hold("Garden", *long, policy=Full())

    open_app(maya, c=str(garden)).button(key="full-to-summary").click().run()
    until(lambda: not maya.chat.coming(Purpose.SUMMARY))

    assert database.thread(garden).summary


@pytest.mark.parametrize(
    ("policy", "words", "chip"),
    [
        (Window(4), "are not sent because “Recent only” sends the last 4 to 6.", "not sent"),
        (Retrieval(), "are sent only if related to your question.", "sent if related"),
    ],
)
def test_banner_says_how_earlier_messages_are_sent(open_chat, policy, words, chip):
    long = [f"{who} {n} " + "word " * 300 for n in range(12) for who in ("prompt", "reply")]
    app, _ = open_chat(*long, policy=policy)

    assert words in captions(app)
    labels = [one.proto.popover.label for one in app.get("popover")]
    assert any(label.endswith(f"earlier messages {chip}") for label in labels)


def test_context_of_next_and_sent_request_is_shown(open_app, maya, database):
    garden = database.hold("Garden", *pairs(2), policy=Full())
    maya.model.pieces = ("In March.", Usage(60, 34, 40))
    app = send(open_app(maya, c=str(garden)), "New prompt")
    reply = database.thread(garden).messages[-1]

    app.button(key="look-at-next").click().run()
    assert "6 recent messages" in [each.label for each in app.expander]

    in_dialog(app, seen_dialog, garden, reply.id).run()
    assert "4 recent messages" in [each.label for each in app.expander]
    assert "You: prompt 0" in html(app)
    assert "<td>-" not in html(app), "the provider counted fewer tokens than the app"
    assert "Counted by the provider: 60 input tokens, 40 of them cached." in captions(app)


def test_next_request_says_where_instructions_stand(open_app, maya, database):
    choose(maya.store.profile, instructions="Be kind.")
    garden = database.hold("Garden", *pairs(2))
    merged = "This model takes no system instructions: they are sent in front of the first message."
    app = open_app(maya, c=str(garden))
    app.button(key="look-at-next").click().run()
    assert merged not in captions(app)

    maya.model.merges_instructions = True
    app.button(key="look-at-next").click().run()

    assert merged in captions(app)


@pytest.mark.parametrize(("name", "is_said"), [(INFO.name, True), ("other", False)])
def test_receipt_says_where_this_models_instructions_stand(open_app, maya, database, name, is_said):
    choose(maya.store.profile, instructions="Be kind.")
    garden = database.hold("Garden", *pairs(2))
    send(open_app(maya, c=str(garden)), "And now?")
    reply_id = database.thread(garden).messages[-1].id
    first = Offer(replace(INFO, name=name), ScriptedModel(merges_instructions=True))

    app = open_app(FakePerson(database, ScriptedModel(), first=first), c=str(garden))
    in_dialog(app, seen_dialog, garden, reply_id).run()

    assert ("sent in front of the first message." in captions(app)) is is_said


def test_message_recalled_from_another_chat_is_marked(open_app, maya, database):
    choose(maya.store.profile, recalls_elsewhere=True)
    database.hold("Trees", "My kumquat tree is called Zebedee.", "I see.")
    garden = database.hold("Garden", *pairs(2), policy=Retrieval())
    send(open_app(maya, c=str(garden)), "What is my kumquat tree called?")

    app = open_app(maya, c=str(garden))
    in_dialog(app, seen_dialog, garden, database.thread(garden).messages[-1].id).run()

    assert "My kumquat tree is called Zebedee." in html(app)
    assert "from another chat, matched “kumquat, tree" in html(app)


def test_reply_without_a_receipt_says_so(open_chat, database):
    app, garden = open_chat(*pairs(2))

    in_dialog(app, seen_dialog, garden, database.thread(garden).messages[-1].id).run()

    assert "No context was recorded for this reply" in captions(app)


def test_context_of_a_deleted_reply_says_so(open_chat):
    app, garden = open_chat(*pairs(2))

    in_dialog(app, seen_dialog, garden, MessageId(uuid4())).run()

    assert "This reply was deleted." in captions(app)
    assert not app.error


def test_window_size_is_rounded_to_even(open_chat, database):
    app, garden = open_chat(*pairs(4), policy=Window())

    app.number_input(key=f"window-{garden}").set_value(5).run()

    assert database.thread(garden).conversation.policy == Window(6)


def counts_of_parts(app):
    """Return the token counts in the table of the meter, without the total."""
    [table] = [each for each in re.findall("<table.*?</table>", html(app)) if "of 3,696" in each][
        :1
    ]
    return [int(count.replace(",", "")) for count in re.findall(r"<td>([\d,-]+)</td></tr>", table)]


def meter(app):
    labels = (each.proto.popover.label for each in app.get("popover"))
    return next(label for label in labels if label.startswith("Context"))


def test_meter_shows_the_forecast_of_the_endpoints_count(open_app, database):
    garden = database.hold("Garden", *pairs(2), policy=Full())
    model = ScriptedModel(("Prune ", "in March.", Usage(1840, 4)))
    maya = FakePerson(database, model)
    app = open_app(maya, c=str(garden))
    assert meter(app) == "Context 2 % full"
    assert "Token counts are estimates and tend to be high." in captions(app)
    assert "Formatting</td><td>34<" in html(app)

    app = send(app, "How?")

    assert meter(app) == "Context 50 % full"  # the share of 4,096 tokens without the 400 of a reply
    assert "About 1,848 tokens, estimated from the last request." in captions(app)
    assert sum(counts_of_parts(app)) == 1848
    assert "<td>Total tokens</td><td>1,848 of 3,696</td>" in html(app)
    assert "400 tokens more are reserved for the reply." in captions(app)
    app.button(key="look-at-next").click().run()
    assert captions(app).count("About 1,848 tokens") == 2
    assert html(app).count("<td>Total tokens</td><td>1,848 of 3,696</td>") == 2


def test_meter_uses_the_stored_calibration_without_a_last_call(open_app, database):
    garden = database.hold("Garden", *pairs(2), policy=Full())
    model = ScriptedModel(("peas and beans " * 40, Usage(60, 100)))
    before = FakePerson(database, model)
    app = open_app(before, c=str(garden))
    send(send(app, "How?"), "And now?")

    app = open_app(FakePerson(database, ScriptedModel()), c=str(garden))

    assert "estimated from earlier requests." in captions(app)
    assert min(counts_of_parts(app)) >= 0, "the endpoint counts fewer tokens than the app"


def test_chat_of_a_newer_version_is_read_and_not_gone_on_with(open_app, maya, database):
    garden = database.hold("Garden", *pairs(2), policy=MemoryPolicy("vector", 8))

    app = send(open_app(maya, c=str(garden)), "New prompt")

    assert "prompt 0" in html(app)
    assert NewerVersion.public in captions(app)
    assert [warning.value for warning in app.warning] == [NewerVersion.public]
    assert in_composer(app) == "New prompt"
    assert maya.model.seen == []
