"""A model that fails leads to a sentence and a Retry button; a reply may link to other sites, but loads nothing from them."""

import pytest
from playwright.sync_api import expect


@pytest.mark.long_run
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


@pytest.mark.long_run
def test_pictures_in_a_reply_load_nothing(maya, model):
    """The address of an image could carry text of the chat to its host; half of its Markdown may arrive later."""
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

    assert maya.complaints() == []  # neither a request, nor one that the browser refused
