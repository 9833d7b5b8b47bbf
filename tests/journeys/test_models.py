"""A model that fails ends in a sentence and a Retry; what it says can point elsewhere and load nothing."""

import pytest
from playwright.sync_api import expect


@pytest.fixture
def maya(person):
    maya = person()
    maya.arrives()
    return maya


def test_failed_reply_is_kept_and_retried(maya, model):
    sentence = "The connection to the model was lost."
    model.script(tokens=9, fault="drop", after=3)
    maya.asks("Are you there?")

    maya.sees(sentence)
    maya.hears("word1 word2 word3")
    assert len(maya.texts()) == 2
    model.script(reply="Here I am.")
    maya.retries()

    maya.hears_all_of("Here I am.")
    assert maya.texts() == ["Are you there?", "Here I am."]
    expect(maya.page.get_by_text(sentence)).to_have_count(0)


def test_pictures_in_a_reply_load_nothing(maya, model):
    """A picture's address could carry away what was said; half of its spelling may come later."""
    picture = "https://elsewhere.test/stolen.png"
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

    assert maya.complaints() == []  # of a request, or of one that the browser refused
