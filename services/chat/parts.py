"""`ChatParts`, the services for a user's chats that pages call."""

from services.chat.service import Chat


class ChatParts:
    """The services of a user's stored chats, or of one temporary chat. Pages call only the methods of these services."""

    def __init__(self, chat: Chat) -> None:
        store, choices = chat.store, chat.tasks.choices
        self.store, self.choices, self.offers, self._chat = store, choices, choices.models, chat
        self.tasks, self.deletions = chat.tasks, chat.deletions
        self.conversations, self.messages = store.conversations, store.messages
        self.facts, self.spaces, self.profile = store.facts, store.spaces, store.profile
        self.usage = store.usage

    @property
    def chat(self) -> Chat:
        """The `Chat`, which begins, retries and follows turns."""
        return self._chat
