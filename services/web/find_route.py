"""The routes of search: `POST /find` in all conversations (assets/page/find.js), `POST /find/here` in the branch of one.

Requests and answers are JSON. Texts are sent in pieces, by turns plain and found, and never as HTML.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.caches import LruCache
from services.domain import Conversation, ConversationId, MessageId, Role, Space, SpaceId
from services.errors import AppError, NotFound, SignedOut
from services.search.words import fold
from services.users import Shared
from services.users.message_search import Asked, Chats, FoundMemory, Results
from services.web.current_session import opened_user
from services.web.origin import Origin

_AT_ONCE = 4  # maximum searches that use threads at the same time
_MOST_SESSIONS = 1_000  # sessions whose searches are told apart
_LONGEST = 10_000  # characters; the index reads no more of a query
_ONLY_EXCLUDED = "Add a word to find: words with a minus only leave messages out."
_FULL = "Search has no room for your oldest chats: only newer ones are searched."
_TITLES_ONLY = "Only titles and memories are searched, as you chose in Preferences."
_UNTITLED = "Untitled"
_MEMORY_NAMES = {"fact": "Note", "instructions": "Instructions", "summary": "Summary"}
_MEMORY_ACTS = {"fact": "chat-notes", "instructions": "chat-instructions", "summary": "open"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The JSON of a search; the dates are days in the time zone *zone*, both included."""

    words: Annotated[str, Field(max_length=_LONGEST)] = field(default="", repr=False)
    order: Literal["newest", "best"] = "newest"
    below: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None
    role: Literal["user", "assistant"] | None = None
    since: date | None = None
    until: date | None = None
    zone: Annotated[str, Field(max_length=100)] = "UTC"
    space: SpaceId | None = None
    chats: Chats = Chats.ALL

    def asked(self) -> Asked:
        """Return the search. Raise ValueError if the time zone is unknown or a date is out of range."""
        return Asked(
            words=self.words,
            order=self.order,
            below=self.below,
            role=Role(self.role) if self.role else None,
            since=self._midnight(self.since, 0),
            until=self._midnight(self.until, 1),
            space_id=self.space,
            chats=self.chats,
        )

    def _midnight(self, day: date | None, days_later: int) -> datetime | None:
        if day is None:
            return None
        try:
            zone = ZoneInfo(self.zone)
            return datetime.combine(day + timedelta(days_later), time.min, zone)
        except (KeyError, OSError, OverflowError):
            raise ValueError from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _HereRequest:
    """The JSON of a search in one conversation: in the branch of the message *version*, or in the newest one."""

    words: Annotated[str, Field(max_length=_LONGEST)] = field(repr=False)
    chat: ConversationId
    version: MessageId | None = None


_REQUEST, _HERE_REQUEST = TypeAdapter(_Request), TypeAdapter(_HereRequest)


@dataclass(frozen=True, slots=True)
class FindRoute:
    """The route that searches for the session of the request's cookie. `FormGuard` refuses requests of other sites."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    origin: Origin
    _limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_AT_ONCE))
    # by the hash of the session's cookie: the others of a session wait, so that they keep no other user waiting
    _of_sessions: LruCache[str, CapacityLimiter] = field(
        default_factory=lambda: LruCache[str, CapacityLimiter](_MOST_SESSIONS), repr=False
    )

    def routes(self) -> list[Route]:
        return [
            Route("/find", self._everywhere, methods=["POST"]),
            Route("/find/here", self._here, methods=["POST"]),
        ]

    async def _everywhere(self, request: Request) -> Response:
        try:
            asked = _REQUEST.validate_json(await request.body()).asked()
        except ValueError:  # pydantic's ValidationError is one
            return Response(status_code=400)
        return await self._answer(request, partial(self._find, request, asked))

    async def _here(self, request: Request) -> Response:
        try:
            asked = _HERE_REQUEST.validate_json(await request.body())
        except ValueError:
            return Response(status_code=400)
        return await self._answer(request, partial(self._find_here, request, asked))

    async def _answer(self, request: Request, find: Callable[[], Mapping[str, object]]) -> Response:
        cookie = self.origin.session_cookie(request)
        key = cookie.hash if cookie else ""
        limiter = self._of_sessions.get(key) or CapacityLimiter(1)
        self._of_sessions.put(key, limiter)
        try:
            async with limiter:
                found = await run_sync(find, limiter=self._limiter)
        except NotFound:
            return Response(status_code=404)
        except SignedOut:
            return Response(status_code=401)
        except AppError:
            return Response(status_code=503)
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    def _find(self, request: Request, asked: Asked) -> Mapping[str, object]:
        """Return the results as JSON. Raise SignedOut if the request has no session."""
        with opened_user(self.shared(), self.origin.session_cookie(request)) as user:
            return _as_json(user.search(asked), user.spaces.all())

    def _find_here(self, request: Request, asked: _HereRequest) -> Mapping[str, object]:
        """Return the messages of a branch that have the words, with the number of times."""
        shared = self.shared()
        with opened_user(shared, self.origin.session_cookie(request)) as user:
            thread = shared.store_of(user.session, asked.chat).turns.known(asked.chat)
            if asked.version:
                thread = thread.through(asked.version)
            words = fold(asked.words)
            found = [(message.id, fold(message.body).count(words)) for message in thread.branch()]
        return {
            "messages": [
                {"message": str(message_id), "count": count}
                for message_id, count in found
                if words and count
            ]
        }


def _as_json(found: Results, spaces: tuple[Space, ...]) -> Mapping[str, object]:
    return {
        "titles": [
            {
                "chat": str(hit.conversation.id),
                "title": hit.title.segments() if hit.title.text else [_UNTITLED],
                "note": _note(hit.conversation, hit.space),
            }
            for hit in found.titles
        ],
        "messages": [
            {
                "chat": str(hit.conversation.id),
                "message": str(hit.message_id),
                "title": hit.conversation.title or _UNTITLED,
                "text": hit.snippet.segments(),
                "role": str(hit.role),
                "at": hit.created_at.isoformat(),
                "note": _note(hit.conversation, None),
            }
            for hit in found.messages
        ],
        "memory": [_memory(hit) for hit in found.memories],
        "spaces": [
            {"id": str(space.id), "name": space.name}
            for space in spaces
            if space.name and not space.is_newer
        ],
        "count": found.count,
        "next": found.next_below,
        "read": found.of if found.is_full else found.read,
        "of": found.of,
        "said": " ".join(_said(found)),
    }


def _said(found: Results) -> Iterator[str]:
    if found.has_only_excluded:
        yield _ONLY_EXCLUDED
    if found.is_full:
        yield _FULL
    if found.is_of_titles:
        yield _TITLES_ONLY


def _note(conversation: Conversation, space: Space | None) -> str:
    parts = [space.name if space else "", "Archived" if conversation.is_archived else ""]
    return " · ".join(part for part in parts if part)


def _memory(found: FoundMemory) -> Mapping[str, object]:
    """Return a memory, instructions or a summary, with the link or the button (pages/_parts/sidebar.py) to where it is edited."""
    href: str | None = None
    name, data = _MEMORY_NAMES[found.kind], dict[str, str]()
    if found.conversation:
        name = f"{name} · {found.conversation.title or _UNTITLED}"
        data = {"act": _MEMORY_ACTS[found.kind], "chat": str(found.conversation.id)}
    elif found.space:
        name = f"{name} · {found.space.name}"
        data = {"act": "edit-space", "space": str(found.space.id)}
    elif found.kind == "fact":
        name, href = "Memory", "/memory"
    else:
        name, data = "Custom instructions", {"act": "preferences"}
    return {"name": name, "text": found.snippet.segments(), "href": href, "data": data}
