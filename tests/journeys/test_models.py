"""A model that fails ends in a sentence and a Retry; what it says can point elsewhere and load nothing."""

import pytest
from playwright.sync_api import expect

WAITED = "Are you still there? [[tokens=9 fault=hang after=3]]"


@pytest.fixture(scope="module", autouse=True)
def omar(regular):
    """He asked first, and waits for a model that has fallen silent while all others have their turn."""
    omar = regular("omar")
    omar.arrives()
    omar.asks(WAITED)
    return omar


@pytest.fixture(scope="module")
def visitor(regular):
    maya = regular("maya")
    maya.arrives()
    return maya


@pytest.fixture
def maya(visitor, model):
    """At a fresh page."""
    visitor.begins_a_new_chat()
    yield visitor
    model.script()


@pytest.mark.parametrize(
    ("script", "sentence", "kept"),
    [
        ({"tokens": 9, "fault": "drop", "after": 3}, "The connection to the model was lost.", True),
        ({"status": 500}, "The model provider returned an error.", False),
    ],
    ids=["drop", "500"],
)
def test_a_failure_ends_in_a_sentence_and_a_retry(maya, model, script, sentence, kept):
    model.script(**script)
    maya.asks("Are you there?")

    maya.sees(sentence)
    said = ["Are you there?", "word1 word2 word3"] if kept else ["Are you there?"]
    assert maya.texts()[0] == said[0]
    expect(maya.messages).to_have_count(len(said))
    if kept:
        maya.hears(said[1])
    model.script(reply="Here I am.")
    maya.retries()

    maya.hears_all_of("Here I am.")
    assert maya.texts() == ["Are you there?", "Here I am."]
    expect(maya.page.get_by_text(sentence)).to_have_count(0)


def test_a_silent_model_can_be_stopped_and_asked_again(maya, model):
    model.script(fault="hang-headers")
    maya.asks("Hello?")
    model.wait_until(lambda server: server.requests[-1].prompt == "Hello?")

    maya.stops()

    model.wait_until(lambda server: server.requests[-1].end == "left")
    assert maya.texts() == ["Hello?"]
    model.script(reply="Here I am.")
    maya.retries()
    maya.hears_all_of("Here I am.")


def test_pictures_in_a_reply_load_nothing(maya, model, elsewhere):
    """A picture's address could carry away what was said; half of its spelling may come later."""
    picture = f"{elsewhere.url}/stolen.png"
    for reply in (
        f"See ![x]({picture}?1) here.",
        f"See !|[x]({picture}?2)| here.",
        f"See ![x]|[1] here.\n\n|[1]: {picture}?3",
        f'See <img src="{picture}?4"> here.',
    ):
        model.script(reply=reply, parts="|", rate=5)
        maya.asks("Show me")
        maya.hears_all_of("here.")
    maya.page.reload()
    maya.hears_all_of("here.")

    assert elsewhere.visits == []


def test_a_title_loads_nothing_either(maya, elsewhere):
    maya.asks(f"![x]({elsewhere.url}/title.png)")
    maya.hears_all_of("You said:")
    maya.begins_a_new_chat()
    expect(maya.rows.first).to_contain_text("title.png")

    assert elsewhere.visits == []


def test_a_model_that_falls_silent_ends_in_a_sentence_too(omar):
    expect(omar.page.get_by_text("The model stopped responding.")).to_be_visible(timeout=60_000)

    assert omar.texts()[0] == WAITED
    assert "word1 word2 word3" in omar.texts()[1]
    expect(omar.retry_button).to_be_visible()
