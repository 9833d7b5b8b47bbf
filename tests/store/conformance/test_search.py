"""Search in all messages, over each store."""

from services.users.message_search import Asked, MessageSearch
from tests.stack.apps import until
from tests.store.conformance.talk import delete, say, unsaid


def test_what_each_user_said_is_found_until_it_is_deleted(maya, omar, garden, garden_id):
    tree = say(maya, unsaid("Trees"), "My kumquat is called Zebedee.", "I see.")
    say(omar, unsaid(), "Kumquat?", "A fruit.")
    search = MessageSearch(lambda _: True)

    def found(words):
        asked = Asked(words=words)
        until(lambda: (now := search.find(maya.store, asked)).read == now.of)
        return [hit.message_id for hit in search.find(maya.store, asked).messages]

    assert found("kumquat") == [tree.messages[0].id]

    elsewhere = maya.elsewhere()
    tree = say(elsewhere, elsewhere.conversations.thread(tree.conversation.id), "Kumquats?", "Yes.")
    assert found("kumquat") == [tree.messages[2].id, tree.messages[0].id]

    delete(elsewhere, tree, 2)
    assert found("kumquat") == [tree.messages[0].id]

    elsewhere.conversations.discard(tree.conversation.id, 20)
    assert found("kumquat") == []
    assert [*maya.corpus.instructions_and_summaries([tree.conversation.id, garden_id])] == [
        garden_id
    ]
