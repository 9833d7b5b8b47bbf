"""One turn, start to finish, and turns that outlive the browser."""

from services.chat.affordable import Affordable, affordable
from services.chat.background import BackgroundTasks
from services.chat.elsewhere import Elsewhere
from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.remote_turn import RemoteTurn
from services.chat.service import Chat
from services.chat.setup import Setup
from services.chat.temporary import TEMPORARY_TITLE, ChatIsOver, TemporaryChat, TemporaryChats
from services.chat.titles import first_words

__all__ = [
    "TEMPORARY_TITLE",
    "Affordable",
    "BackgroundTasks",
    "Chat",
    "ChatIsOver",
    "Elsewhere",
    "LiveTurn",
    "LiveTurns",
    "RemoteTurn",
    "Setup",
    "TemporaryChat",
    "TemporaryChats",
    "affordable",
    "first_words",
]
