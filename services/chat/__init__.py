"""One turn, start to finish, and turns that outlive the browser."""

from services.chat.elsewhere import Elsewhere
from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.noting import Noted, Noting
from services.chat.service import Chat, ConversationStore
from services.chat.setup import Setup, Source
from services.chat.summaries import Summarising
from services.chat.temporary import ChatIsOver, NotNoting, TemporaryChat, TemporaryChats
from services.chat.titles import Titling

__all__ = [
    "Chat",
    "ChatIsOver",
    "ConversationStore",
    "Elsewhere",
    "LiveTurn",
    "LiveTurns",
    "NotNoting",
    "Noted",
    "Noting",
    "Setup",
    "Source",
    "Summarising",
    "TemporaryChat",
    "TemporaryChats",
    "Titling",
]
