"""The store port, implemented over sealed rows. It handles keys, places of texts and heads, and knows no database vendor."""

from services.crypto import UserKey, UserKeys, new_key
from services.domain import UserId
from services.store.port import Store
from services.store.rows import Rows
from services.store.sealed.attachments import SealedAttachments
from services.store.sealed.conversations import SealedConversations
from services.store.sealed.documents import SealedFacts, SealedProfile, SealedSpaces
from services.store.sealed.messages import SealedCorpus, SealedMessages
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.reading import ThreadReader
from services.store.sealed.texts import ConversationTexts
from services.store.sealed.turns import SealedTurns


def sealed_store(rows: Rows, keys: UserKeys, opened: OpenedConversations | None = None) -> Store:
    """Return the store of one user, whose *rows* contain texts that are sealed under *keys*.

    *opened*: the store's cache; None: a new one.
    """
    opened = opened or OpenedConversations(rows, keys)
    seals = opened.user_seals.documents
    texts = ConversationTexts(rows, opened)
    reader = ThreadReader(rows, opened, texts)
    facts = SealedFacts(rows, opened)
    return Store(
        conversations=SealedConversations(rows, opened, reader, texts),
        messages=SealedMessages(rows, opened, reader, texts),
        attachments=SealedAttachments(rows, opened),
        turns=SealedTurns(rows, opened, reader),
        facts=facts,
        spaces=SealedSpaces(rows, seals, facts.forget_space),
        profile=SealedProfile(rows, seals),
        corpus=SealedCorpus(rows, opened),
        usage=rows.usage,
    )


def throwaway_keys(user_id: UserId) -> UserKeys:
    """Return new keys that only this process knows, for rows that exist only in its memory."""
    return UserKeys([UserKey(new_key(), user_id)])
