"""Revisions of the data that a tab shows, which another process may have changed."""

from dataclasses import replace

import pytest

from services.domain import MemoryPolicy
from services.domain.revisions import OpenPlace, list_digest
from tests.store.conformance.talk import (
    LEASE_SECONDS,
    SUMMARY,
    begun_with,
    destroy,
    ending,
    new_turn,
    say,
    stored_space,
)


@pytest.fixture
def poll(maya, garden_id):
    """Return the answer to another process that polls for a page with the garden."""
    there = maya.elsewhere()

    def poll(**changes):
        place = OpenPlace(**{"conversation_id": garden_id} | changes)
        return there.conversations.poll(place)

    return poll


def drawn(user, opened, **where):
    """Return the digest of the list as a page draws it."""
    return list_digest(user.conversations.recent(31, **where), opened)


def test_conversation_has_another_revision_after_each_prompt(backend, maya, poll, garden):
    before = poll().chat
    assert before == garden.conversation.rev

    thread = say(maya, garden, "And leeks?", "In June.")

    assert poll().chat == thread.conversation.rev == before + 2
    destroy(backend, maya, garden.conversation.id)
    assert poll().chat is None


def test_other_users_conversation_has_no_revision(omar, garden_id):
    assert omar.conversations.poll(OpenPlace(conversation_id=garden_id)).chat is None


def test_conversation_has_other_choices_after_each_change(maya, poll, garden, garden_id):
    space, of, seen = stored_space(maya), maya.conversations, [poll().choices]

    for change in (
        lambda: of.set_policy(garden_id, MemoryPolicy("window", 30)),
        lambda: of.set_policy(garden_id, MemoryPolicy("retrieval", 30)),
        lambda: of.set_model(garden_id, "large"),
        lambda: of.set_instructions(garden_id, "Be brief."),
        lambda: of.set_summary(of.thread(garden_id), SUMMARY),
        lambda: of.set_summary(of.thread(garden_id), None),
        lambda: of.start_anew(garden),
        lambda: of.move(garden_id, space.id),
    ):
        change()
        seen.append(poll().choices)
        assert seen[-1] == of.thread(garden_id).conversation.choices

    assert len({*seen}) == len(seen)
    assert poll().chat == garden.conversation.rev
    assert poll(conversation_id=None).choices is None


def test_digest_is_that_of_the_drawn_list(maya, poll, garden, garden_id):
    space = stored_space(maya, "Bees")
    other = begun_with(maya, "Hives").conversation.id
    say(maya, maya.conversations.thread(other), "Who?", "Bees.")
    changes = (
        lambda: None,
        lambda: maya.conversations.rename(other, "Combs"),
        lambda: maya.conversations.pin(other),
        lambda: maya.conversations.move(other, space.id),
        lambda: maya.conversations.mark_read(maya.conversations.thread(other)),
        lambda: say(maya, garden, "And leeks?", "In June."),
        lambda: maya.conversations.archive(garden_id),
    )
    digests = []
    for change in changes:
        change()
        digests.append(poll().list)
        assert digests[-1] == drawn(maya, garden_id)

    assert len(set(digests)) >= len(changes) - 1  # the garden comes last, and is read
    assert poll(space_id=space.id).list == drawn(maya, garden_id, space_id=space.id)
    assert poll(is_archive=True).list == drawn(maya, garden_id, is_archived=True)


def test_reply_of_another_process_runs_until_its_lease_ends(maya, poll, backend):
    thread = begun_with(maya, "Compost")
    turn = new_turn(thread, "What rots?")
    assert poll().running == frozenset()
    begun = maya.turns.begin(turn)
    assert poll().running == {thread.conversation.id}

    maya.turns.finish(ending(turn, begun, "Peel."))
    assert poll().running == frozenset()

    thread = maya.conversations.thread(thread.conversation.id)
    maya.turns.begin(new_turn(thread, "What else?"))
    backend.let_pass(LEASE_SECONDS + 1)
    assert poll().running == frozenset()


def test_preferences_are_read_again_once_outdated(maya, poll):
    there = maya.elsewhere()
    assert (poll().preferences, there.profile.revision()) == (0, 0)
    assert there.profile.preferences().recalls_elsewhere is False

    maya.profile.change(lambda now: replace(now, recalls_elsewhere=True))

    stored = poll().preferences
    assert stored > 0
    assert there.profile.preferences().recalls_elsewhere is False
    there.profile.outdate()
    assert there.profile.preferences().recalls_elsewhere is True
    assert there.profile.revision() == stored
