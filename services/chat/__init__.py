"""One turn, start to finish, and turns that outlive the browser."""

from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.noting import Noted, Noting
from services.chat.service import Chat, ConversationStore
from services.chat.setup import Setup, Source
from services.chat.summaries import Summarising
from services.chat.titles import Titling

__all__ = [
    "Chat",
    "ConversationStore",
    "LiveTurn",
    "LiveTurns",
    "Noted",
    "Noting",
    "Setup",
    "Source",
    "Summarising",
    "Titling",
]
