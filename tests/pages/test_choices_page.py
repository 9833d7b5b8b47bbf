"""The model picker, instructions and preferences, with the real chat over fakes."""

from dataclasses import replace

import pytest
import streamlit as st

from pages._parts.memory import LARGEST_WINDOW
from pages._parts.preferences import instructions_dialog, preferences_dialog
from pages._parts.words import policy_name
from services import bootstrap
from services.domain import AccountRole, Full, Preferences, Retrieval, Summary, Window
from services.domain.models import LimitSource, ModelState, PriceSource
from services.errors import NewerVersion, StoreUnavailable
from services.llm import Offer
from services.llm.model_spec import LimitRefusal
from services.store.sealed.seals import Format
from tests.fakes import LARGE, MAYA, FakePerson, ScriptedModel, choose
from tests.pages.conftest import (
    ROOT,
    captions,
    clicked,
    html,
    in_composer,
    in_dialog,
    press,
    pressed,
    refused,
    regenerated,
    warnings,
)
from tests.pages.test_chat_page import menu, said, send
from tests.pages.test_conversation_list import undo_lines

LINES_OF_README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


@pytest.fixture
def large():
    return ScriptedModel(("In ", "autumn."))


@pytest.fixture
def maya(database, model, large):
    return FakePerson(database, model, AccountRole.ADMIN, others=(Offer(LARGE, large),))


def picker(app, name="model-"):
    """Return the picker of the model, or another one, whose key changes when the choice is changed elsewhere."""
    return next(radio for radio in app.radio if str(radio.key).startswith(name))


def pick(app, name):
    return picker(app).set_value(name).run()


def set_instructions(app, thread, text):
    app.text_area(key=f"instructions-{thread.conversation.id}").set_value(text)
    return press(in_dialog(app, instructions_dialog, thread.conversation), "Save")


def save_preferences(app):
    return press(in_dialog(app, preferences_dialog), "Save")


def told(model):
    """Return the first message of the last request."""
    return model.seen[-1][0].body


# --- the model -------------------------------------------------------------------------------------


def test_picker_shows_context_and_price_of_each_model(open_app, maya, garden):
    models = picker(open_app(maya, c=str(garden)))

    assert models.value == "scripted"
    assert models.options == ["scripted", "large"]
    assert list(models.proto.captions) == [
        "Context 4,096 (set by admin) · your default  \n"
        r"Replies 400 (set by admin) · \$1.00 in, \$4.00 out",
        "Context 400,000 (set by admin)  \n"
        r"Replies 4,000 (set by admin) · \$1.25 in, \$10.00 out",
    ]


def test_guessed_limit_is_marked(open_app, database, model, garden):
    guess = LimitSource.GUESS
    free = replace(LARGE, name="free", input_micro=0, output_micro=0, context_source=guess)
    free = replace(free, price_source=PriceSource.UNKNOWN)
    maya = FakePerson(database, model, others=(Offer(free, model),))

    app = open_app(maya, c=str(garden))
    models = picker(app)
    limits = "Context 400,000 (estimate)  \nReplies 4,000 (set by admin)"
    assert models.proto.captions[1] == f"{limits} · no price"
    assert "is unknown" not in captions(app)

    app = pick(app, "free")
    assert "context window is unknown; assuming 400,000 tokens." in captions(app)


def test_limit_lowered_by_a_refusal_is_marked(open_app, maya, garden):
    maya.offers.narrow("large", LimitRefusal(context_tokens=8_192))

    limits, rest = picker(open_app(maya, c=str(garden))).proto.captions[1].split("  \n")

    assert limits == "Context 8,192 (after a refusal)"
    assert rest.startswith("Replies 4,000 (set by admin)")


def test_refused_price_is_told_and_keeps_the_prompt(open_app, database, model):
    unpriced = replace(LARGE, price_source=PriceSource.UNKNOWN)
    maya = FakePerson(database, model, AccountRole.ADMIN, first=Offer(unpriced, model))
    maya.models.refuse_unknown_prices(is_refused=True)

    app = open_app(maya)
    assert "Ask your admin to set its price." in "".join(warnings(app))
    send(app, "When do I prune roses?")

    assert in_composer(app) == "When do I prune roses?"
    assert model.seen == []


def test_meter_counts_for_the_picked_model(open_app, maya, garden):
    app = open_app(maya, c=str(garden))
    assert any("of 3,696<" in html.value for html in app.get("html"))

    pick(app, "large")

    assert any("of 397,952<" in html.value for html in app.get("html"))


def test_new_conversation_uses_the_picked_model(open_app, maya, database):
    app = pick(open_app(maya), "large")
    assert picker(app).value == "large"

    send(app, "When do I plant?")

    assert said(app)[-1] == "In autumn."
    (thread,) = database.threads()
    assert thread.conversation.model == "large"
    pressed(app, "new-chat")
    assert picker(app).value == "scripted"  # the choice was made for the other conversation


def test_over_budget_offers_a_cheaper_model_and_policy(open_app, database, model):
    cheap = ScriptedModel(("In ", "May."))
    others = (Offer(replace(LARGE, name="cheap", input_micro=1, output_micro=1), cheap),)
    person = FakePerson(database, model, role=AccountRole.ADMIN, others=others)
    long = database.hold("Long", *["word " * 30] * 40, policy=Full())
    database.ledger.daily_micro = 4_800

    app = send(open_app(person, c=str(long)), "When?")

    offered = [button.label for button in app.button if str(button.key).startswith(("use-", "sw"))]
    assert offered == ["Use cheap", "Switch to Recent only"]
    links = {link.proto.label: link.proto.query_string for link in app.get("page_link")}
    assert links["Raise the limit"] == "tab=Users"
    pressed(app, "use-cheap")
    assert list(app.warning) == []
    send(app, "When?")
    assert said(app)[-1] == "In May."


def test_only_user_is_led_to_the_own_limits(open_app, maya, database):
    bootstrap.current_app().is_alone = True
    database.ledger.daily_micro = 1

    app = send(open_app(maya), "When?")

    links = {link.proto.label: link.proto.query_string for link in app.get("page_link")}
    assert links["Raise the limit"] == "tab=Settings"


def test_refusal_by_tokens_offers_nothing_that_is_only_cheaper(open_app, database, model):
    free = Offer(replace(LARGE, name="free", input_micro=0, output_micro=0), ScriptedModel())
    person = FakePerson(database, model, others=(free,))
    database.ledger.daily_tokens = 10

    app = send(open_app(person), "When?")

    assert "Daily token limit reached" in app.warning[0].value
    assert not [button for button in app.button if str(button.key).startswith(("use-", "sw"))]
    assert "An admin can raise the limit." in [caption.value for caption in app.caption]


@pytest.mark.parametrize(
    ("limit", "said"),
    [("daily_micro", "Daily limit is 0."), ("deployment_share", "Shared monthly limit is 0.")],
)
def test_refusal_by_a_limit_of_zero_promises_no_reset(open_app, database, model, limit, said):
    setattr(database.ledger, limit, 0)

    app = send(open_app(FakePerson(database, model)), "When?")

    assert warnings(app) == [said]
    assert "An admin can raise the limit." in captions(app)


def test_default_model_answers_where_none_was_chosen(open_app, maya, garden, database):
    other = database.hold("Other", "One", "Two")
    database.conversations.set_model(other, "scripted")
    app = pick(open_app(maya), "large")

    pressed(app, "make-default")

    assert maya.store.profile.preferences().model == "large"
    assert undo_lines(app) == ["large is your default model now."]
    assert not [button for button in app.button if button.key == "make-default"]
    assert picker(open_app(maya, c=str(garden))).value == "large"
    assert picker(open_app(maya, c=str(other))).value == "scripted"


def test_picker_of_a_model_changed_elsewhere_is_another_field(open_app, maya, garden, database):
    app = pick(open_app(maya, c=str(garden)), "large")
    before = picker(app).key
    database.conversations.set_model(garden, "scripted")

    app.run()

    assert picker(app).value == "scripted"
    assert picker(app).key != before


def test_run_drawn_before_a_choice_does_not_undo_it(open_app, maya, garden):
    app = pick(open_app(maya, c=str(garden)), "large").run()

    for name in ("model-", "policy-"):
        field = picker(app, name)
        assert not field.proto.set_value  # the browser would take it even after a newer choice
        assert field.options[field.proto.default] == field.value


def test_missing_model_is_named_and_replaced(open_app, maya, garden, database):
    database.conversations.set_model(garden, "gone")
    app = open_app(maya, c=str(garden))

    assert "gone is no longer available; using scripted." in captions(app)
    assert picker(app).value == "scripted"
    pick(app, "large")
    assert "no longer available" not in captions(app)


def test_missing_model_is_named_until_the_only_model_left_has_replied(open_app, maya, garden):
    app = send(pick(open_app(maya, c=str(garden)), "large"), "When?")
    maya.models.offer("large", is_offered=False)
    app = app.run()
    assert "large is no longer available; using scripted." in captions(app)

    app = send(app, "How?").run()

    assert said(app)[-1] == "Prune in March."
    assert "no longer available" not in captions(app)


@pytest.mark.parametrize("others", [0, 1])
def test_default_model_that_is_gone_is_replaced_by_the_model_in_use(
    open_app, maya, database, model, large, others
):
    choose(maya.profile, model="gone")
    maya = FakePerson(database, model, others=(Offer(LARGE, large),)[:others])
    app = open_app(maya)
    assert "gone is no longer available; using scripted." in captions(app)

    pressed(app, "make-default")

    assert maya.profile.preferences().model == "scripted"
    assert "no longer available" not in captions(app.run())
    assert not [button for button in app.button if button.key == "make-default"]


def test_message_goes_to_no_model_that_was_not_shown(open_app, maya, garden):
    app = pick(open_app(maya, c=str(garden)), "large")
    before = said(app)
    maya.models.offer("large", is_offered=False)

    send(app, "How?")

    assert any("Try again to use the one below." in one for one in warnings(app))
    assert (in_composer(app), picker(app).value) == ("How?", "scripted")
    assert said(send(app, "How?")) == [*before, "How?", "Prune in March."]


@pytest.mark.parametrize("choice", ["", "large", f"Context: {policy_name(Full())}"])
def test_reply_is_regenerated_by_no_model_that_was_not_shown(open_app, maya, garden, choice):
    app = pick(open_app(maya, c=str(garden)), "large")
    before, [*_, reply] = said(app), maya.chat.open(garden).messages
    maya.models.offer("large", is_offered=False)

    regenerated(app, reply, choice)

    assert any("Try again to use the one below." in one for one in warnings(app))
    assert said(app) == before


def test_edited_prompt_goes_to_no_model_that_was_not_shown(open_app, maya, garden):
    app = pick(open_app(maya, c=str(garden)), "large")
    before = maya.chat.open(garden).messages
    clicked(app, act="edit", message=str(before[0].id))
    maya.models.offer("large", is_offered=False)

    press(app, "Send")

    assert any("Try again to use the one below." in one for one in warnings(app))
    assert maya.chat.open(garden).messages == before


def test_demo_model_offers_lines_that_connect_a_better_one(
    open_app, database, model, health, garden
):
    health.model = ModelState.READY
    person = FakePerson(database, model)

    card = open_app(person).expander[0]
    app = open_app(person, c=str(garden))

    assert "keep them in front of `uv run`" in card.caption[0].value
    lines = [code.value for code in card.code]
    assert [line.count(" streamlit run streamlit_app.py") for line in lines] == [1, 1, 1]
    assert lines[1].count("CONTEXT") == lines[1].count("=16384") == 2
    assert all(" ".join(line.split()) in LINES_OF_README for line in lines)
    assert not [radio for radio in app.radio if str(radio.key).startswith("model-")]
    assert list(app.code) == []
    assert [code.value for code in pressed(app, "connect").code] == lines


def test_remote_model_has_no_connect_card(open_app, maya):
    assert list(open_app(maya).expander) == []


def test_model_stays_where_a_choice_cannot_be_stored(open_app, maya, garden, database):
    app = open_app(maya, c=str(garden))
    database.rows.failures["change_conversation"] = StoreUnavailable()

    pick(app, "large")

    assert [warning.value for warning in app.warning] == [StoreUnavailable.public]
    assert picker(app).value == "scripted"


# --- before the first message ----------------------------------------------------------------------


def test_new_conversation_uses_the_policy_and_instructions_chosen(open_app, maya, database, model):
    app = open_app(maya).radio(key="policy-new").set_value("Everything").run()
    pressed(app, "new-instructions").text_area(key="instructions-new").set_value("Answer in verse.")
    press(in_dialog(app, instructions_dialog, None), "Save")
    database.ledger.daily_micro = 1
    send(app, "A long thought")  # the prompt is refused
    database.ledger.daily_micro = 100_000
    assert app.radio(key="policy-new").value == "Everything"
    assert app.button(key="new-own-instructions")

    send(app, "When?")

    (thread,) = database.threads()
    assert (thread.conversation.policy, thread.instructions) == (Full(), "Answer in verse.")
    assert told(model) == "Answer in verse."
    send(pressed(app, "new-chat"), "Another")
    other, _ = database.threads()
    assert (other.conversation.policy, other.instructions) == (Summary(), None)


def test_choices_of_an_abandoned_fresh_page_are_dropped(open_app, maya):
    app = open_app(maya).radio(key="policy-new").set_value("Recent only").run()
    app = app.number_input(key="window-new").set_value(8).run()
    assert "the last 8 to 12 messages" in str(app.radio(key="policy-new").proto.captions)

    pressed(app, "new-chat")

    assert picker(app, "policy-").value == "Auto-summary"


# --- instructions ----------------------------------------------------------------------------------


def test_conversation_with_instructions_shows_a_sign(open_app, maya, garden, database, model):
    app = open_app(maya, c=str(garden))
    assert not [button for button in app.button if button.key == "own-instructions"]

    menu(app, "Instructions")
    set_instructions(app, database.thread(garden), "Answer in verse.")

    assert database.thread(garden).instructions == "Answer in verse."
    assert app.button(key="own-instructions").label == "Custom instructions"
    send(app, "Three")
    assert told(model) == "Answer in verse."

    pressed(app, "own-instructions")
    assert app.text_area(key=f"instructions-{garden}").value == "Answer in verse."
    dialog = instructions_dialog, database.thread(garden).conversation
    press(in_dialog(app, *dialog), "Reset to default")
    assert database.thread(garden).instructions is None
    send(app, "Four")
    assert told(model) == "Be kind."


def test_too_long_instructions_leave_the_page_readable(open_app, maya, garden, database):
    database.conversations.set_instructions(garden, "word " * 1_600)
    app = open_app(maya, c=str(garden))

    assert said(app) == ["One", "Two"]
    assert ["too long for this model" in warning.value for warning in app.warning] == [True]
    assert "The next request does not fit" in captions(app)
    send(app, "Three")
    assert in_composer(app) == "Three"
    assert said(app) == ["One", "Two"]

    pick(app, "large")
    assert not app.warning
    assert said(send(app, "Three"))[-1] == "In autumn."


def test_unverified_instructions_are_reported(open_app, maya, garden, database, model):
    database.conversations.set_instructions(garden, "Be strict.")
    database.spoil("conversation", garden, "instructions")
    app = open_app(maya, c=str(garden))

    sentence = "instructions of this chat failed their integrity check and are not used"
    assert sentence in captions(app)
    send(app, "Three")
    assert told(model) == "Be kind."

    menu(app, "Instructions")
    assert app.text_area(key=f"instructions-{garden}").value == ""
    set_instructions(app, database.thread(garden), "Answer in verse.")
    assert "integrity check" not in captions(app)


# --- preferences -----------------------------------------------------------------------------------


def test_preferences_hold_for_all_conversations(open_app, maya, large):
    app = clicked(open_app(maya), act="preferences")

    app.selectbox(key="default-model").select("large")
    app.text_area(key="my-instructions").set_value("Be brief.")
    save_preferences(app)

    assert maya.store.profile.preferences() == Preferences(model="large", instructions="Be brief.")
    assert picker(app).value == "large"
    send(app, "When?")
    assert told(large) == "Be brief."


@pytest.mark.parametrize(
    ("key", "chosen"),
    [("theme", Preferences(theme="dark")), ("enter-sends", Preferences(enter_sends="never"))],
)
def test_choice_is_stored_for_every_browser(open_app, maya, monkeypatch, key, chosen):
    told = []
    monkeypatch.setattr("pages._parts.browser.apply_preferences", told.append)
    app = clicked(open_app(maya), act="preferences")

    app.radio(key=key).set_value(getattr(chosen, key.replace("-", "_")))
    save_preferences(app)

    assert maya.store.profile.preferences() == chosen
    open_app(maya)
    assert (told[0], told[-1]) == (Preferences(), chosen)


def test_tab_shows_the_title_if_chosen(open_app, maya, garden, monkeypatch):
    named = []
    monkeypatch.setattr(st, "set_page_config", lambda **given: named.append(given["page_title"]))
    app = clicked(open_app(maya, c=str(garden)), act="preferences")
    assert set(named) == {"Daybook"}

    app.toggle(key="title-in-tab").set_value(True)
    app = save_preferences(app)

    assert maya.store.profile.preferences() == Preferences(has_title_in_tab=True)
    app.run()
    assert named[-1] == "Garden · Daybook"
    switched = open_app(maya, temporary="1")
    assert switched.title[0].value == "Temporary chat"
    assert named[-1] == "Daybook"


def test_search_of_titles_alone_drops_index_and_search_texts(open_app, maya, monkeypatch):
    chosen = []
    monkeypatch.setattr(
        maya,
        "search_titles_only",
        lambda: chosen.append(maya.profile.preferences().searches_titles_only),
    )
    app = clicked(open_app(maya), act="preferences")

    app.toggle(key="titles-only").set_value(True)
    save_preferences(app)

    assert chosen == [True]


def test_tab_shows_the_name_of_each_page_but_the_chat(open_app, maya, monkeypatch):
    named = []
    monkeypatch.setattr(st, "set_page_config", lambda **given: named.append(given["page_title"]))

    app = open_app(maya)
    assert named[-1] == "Daybook"
    app.switch_page("pages/usage.py").run()
    assert named[-1] == "Usage · Daybook"


def test_saving_unchanged_preferences_stores_nothing(open_app, maya):
    save_preferences(clicked(open_app(maya), act="preferences"))

    assert maya.store.profile.preferences() == Preferences()


def test_preferences_of_two_tabs_are_merged(open_app, maya):
    app = clicked(open_app(maya), act="preferences")
    sizes = {"window_messages": 30, "context_tokens": 4000, "reply_tokens": 200}
    elsewhere = Preferences(model="large", policy=Retrieval(), theme="dark", **sizes)
    maya.store.profile.change(lambda _: elsewhere)
    app.text_area(key="my-instructions").set_value("Be kind.")
    save_preferences(app)
    both = replace(elsewhere, instructions="Be kind.")
    assert maya.store.profile.preferences() == both

    clicked(app, act="preferences")
    choose(maya.store.profile, instructions="Be brief.")
    app.selectbox(key="default-model").select("scripted")
    save_preferences(app)
    assert maya.store.profile.preferences() == replace(
        both, model="scripted", instructions="Be brief."
    )


def test_model_hidden_while_preferences_are_open_is_left_out(open_app, database, model):
    more = (Offer(LARGE, model), Offer(replace(LARGE, name="small"), model))
    maya = FakePerson(database, model, AccountRole.ADMIN, others=more)
    choose(maya.store.profile, model="large")
    app = clicked(open_app(maya), act="preferences")
    maya.models.offer("large", is_offered=False)

    in_dialog(app, preferences_dialog).run()

    assert app.selectbox(key="default-model").value == "scripted"


def test_with_one_model_there_is_no_default_to_choose(open_app, database, model):
    app = clicked(open_app(FakePerson(database, model)), act="preferences")

    assert [each.key for each in app.selectbox] == ["default-policy"]


def test_new_conversation_uses_the_default_policy_and_sizes(open_app, maya, database):
    app = clicked(open_app(maya), act="preferences")
    assert app.selectbox(key="default-policy").value == Summary()
    app.selectbox(key="default-policy").set_value(Window())
    sizes = {"window-messages": 7, "context-tokens": 2000, "reply-tokens": 100}
    for key, size in sizes.items():
        app.number_input(key=key).set_value(size)
    app = send(save_preferences(app), "When?")

    (thread,) = database.threads()
    assert thread.conversation.policy == Window(8)
    assert maya.model.max_tokens[0] == 100
    assert "of 1,900</td>" in html(app)

    app = clicked(app, act="preferences")
    for key in sizes:
        app.number_input(key=key).set_value(None)
    save_preferences(app)
    assert maya.store.profile.preferences() == Preferences(policy=Window())


def test_reply_length_is_bounded_by_the_model(open_app, maya):
    choose(maya.store.profile, reply_tokens=60_000)
    app = clicked(open_app(maya), act="preferences")
    field = app.number_input(key="reply-tokens")
    assert (field.value, field.placeholder) == (400, "400")

    app.radio(key="theme").set_value("dark")
    app = clicked(save_preferences(app), act="preferences")
    assert maya.store.profile.preferences() == Preferences(reply_tokens=60_000, theme="dark")

    app.number_input(key="reply-tokens").set_value(300)
    save_preferences(app)
    assert maya.store.profile.preferences().reply_tokens == 300


def test_size_out_of_bounds_is_refused_below_its_field(open_app, maya):
    app = clicked(open_app(maya), act="preferences")
    for key, size in {"window-messages": 5000, "context-tokens": 10, "reply-tokens": 401}.items():
        app.number_input(key=key).set_value(size)

    app = save_preferences(app)

    assert refused(app) == {
        "Number of recent messages": f"Enter 2 to {LARGEST_WINDOW:,}.",
        "Context limit (tokens)": "Enter 1,000 or more.",
        "Max reply length (tokens)": "Enter 64 to 400.",
    }
    assert maya.store.profile.preferences() == Preferences()


def test_saved_preferences_say_so(open_app, maya):
    app = save_preferences(clicked(open_app(maya), act="preferences"))

    assert undo_lines(app) == ["Saved."]


def test_cancelled_preferences_are_not_saved(open_app, maya):
    app = clicked(open_app(maya), act="preferences")
    app.radio(key="theme").set_value("dark")

    app = press(in_dialog(app, preferences_dialog), "Cancel")

    assert maya.store.profile.preferences() == Preferences()
    assert undo_lines(app) == []
    assert "theme" not in [each.key for each in app.radio]


def test_preferences_of_a_newer_version_are_reported_and_not_changed(open_app, maya, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(Format, "write", lambda *_: '{"theme": "sepia"}')
        choose(maya.database.store().profile, theme="dark")
    app = open_app(maya)
    assert "saved by a newer version of Daybook and are not used" in captions(app)

    clicked(app, act="preferences")
    assert NewerVersion.public in captions(app)
    app.text_area(key="my-instructions").set_value("Be brief.")
    save_preferences(app)

    assert [error.value for error in app.error] == [NewerVersion.public]
    assert maya.store.profile.preferences().is_newer


def test_unverified_preferences_are_reported(open_app, maya):
    choose(maya.store.profile, theme="dark")
    maya.database.spoil("preferences", MAYA)
    app = open_app(maya)
    assert "Your preferences failed their integrity check and are not used" in captions(app)

    clicked(app, act="preferences")
    app.text_area(key="my-instructions").set_value("Be brief.")
    save_preferences(app)

    assert maya.store.profile.preferences() == Preferences(instructions="Be brief.")
    assert "integrity check" not in captions(app)
