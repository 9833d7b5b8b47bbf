"""A conversation on the chat page (title, menus and messages), and the new-chat page."""

from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._parts import (
    browser,
    conversation_menu,
    fact_list,
    memory,
    messages,
    preferences,
    spaces,
    temporary,
    thoughts,
    turns,
    versions,
    words,
)
from pages._parts.elements import download_form, icon_button, quiet_button, row
from pages._session import ask_for
from pages._tab import tab
from services.bootstrap import ChatParts, TemporaryChat, ThreadView, UserServices
from services.domain import ConversationId, Message, MessageId, Role, Thread
from services.errors import AppError, NotFound

_MENU = "conversation-menu"
_BEFORE_FOUND = 10  # the number of messages that are drawn before a message at which the page opens
_IN_VIEW = 3  # the number of earlier exchanges that are drawn first, because they are in view
_DRAWN = 20  # the usual number of messages on a page: hundreds would take seconds to draw
# the largest number of messages on a page that begins where the context starts
_DRAWN_TO_LINE = 30


Exchange = list[Message]  # a prompt and its replies


class Group(NamedTuple):
    """Exchanges that share a container."""

    place: DeltaGenerator
    exchanges: list[Exchange]
    is_past: bool  # True if the exchanges existed when the conversation was opened


@dataclass(frozen=True, slots=True)
class Layout:
    """The containers of the messages of a thread."""

    first: int  # the index, in the branch, of the first message on the page
    top: DeltaGenerator
    groups: tuple[Group, ...]  # the last group has one exchange

    @property
    def last(self) -> DeltaGenerator:
        """The container of the last prompt and its reply."""
        return self.groups[-1].place if self.groups else self.top


def asked_for(temporary_chat: TemporaryChat | None) -> ConversationId | None:
    """Return the id of the page's conversation, from the URL or from *temporary_chat*; None for a new chat.

    Raise NotFound if the URL has an id that no conversation can have.
    """
    if temporary_chat:
        return temporary_chat.id if temporary_chat.is_begun else None
    name = st.query_params.get("c")
    if name is None:
        return None
    try:
        return ConversationId(UUID(name))
    except ValueError:
        raise NotFound from None


def name_tab(user: UserServices, temporary_chat: TemporaryChat | None, thread: Thread) -> None:
    """Show the title of *thread* in the browser tab, and so in the browser's history, if the user's preferences say so."""
    title = thread.conversation.title
    if title and not temporary_chat and user.profile.preferences().has_title_in_tab:
        st.set_page_config(page_title=f"{title} · Daybook")


def draw_title(thread: Thread) -> DeltaGenerator:
    """Draw the title; return its row, to which `draw_menus` adds the menus."""
    head = row("chat-head", gap=2, wrap=False)
    if conversation_menu.is_editing_title(thread.conversation, _MENU):
        with head:
            conversation_menu.draw_title_field(thread.conversation)
    else:
        title = conversation_menu.title(thread.conversation, limit=120)
        head.title(title, anchor=False, width="stretch")
    return head


def draw_menus(user: UserServices, temporary_chat: TemporaryChat | None, thread: Thread) -> None:
    """Draw the conversation's menus, and buttons for its space, instructions and notes if it has any."""
    if temporary_chat:
        temporary.draw_sign()
    else:
        spaces.draw_sign(user, thread.conversation)
    if thread.instructions:
        quiet_button(
            words.CUSTOM_INSTRUCTIONS,
            "sticky_note_2",
            "own-instructions",
            ask_for,
            preferences.instructions_dialog,
            thread.conversation,
            tip="This chat uses its own instructions.",
        )
    if temporary_chat:
        _draw_exports(thread)
        return
    fact_list.draw_sign(user, thread.conversation)
    _draw_exports(thread)
    actions = conversation_menu.actions(
        thread.conversation,
        _MENU,
        can_move=bool(spaces.offered(spaces.every(user))),
        is_above=True,
        has_branches=bool(thread.off_branch()),
    )
    about = f'data-place="above" data-options="{"|".join(actions)}" aria-haspopup="menu"'
    st.container(key=_MENU, width="content").html(icon_button("Chat options", "more_horiz", about))


def act(thread: Thread, model: str, request: Mapping[str, str]) -> None:
    """Perform the action of the conversation's menu or of a button below a message. The request comes from the browser,
    so it is checked.

    *model*: the model that the page showed.
    """
    match request:
        case {"act": "choose", "place": "above", "choice": choice}:
            actions = conversation_menu.actions(
                thread.conversation, _MENU, can_move=True, is_above=True, has_branches=True
            )
            if choice in actions:
                actions[choice]()
        case _:
            messages.act(thread.conversation.id, model, request)


def lay_out(view: ThreadView) -> Layout:
    """Create and return the containers of the messages.

    Messages that existed when the conversation was opened share two containers, because each container costs the
    browser time. A later prompt shares a container with its replies in all runs, so that nothing moves when a reply is
    stored.
    """
    branch = view.thread.branch()
    first = _first_drawn(view, branch)
    exchanges: list[Exchange] = []
    for message in branch[first:]:
        if message.role is Role.USER or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    opened_at = _opened_at(view.thread, exchanges)
    past = [exchange for exchange in exchanges[:-1] if exchange[0].seq < opened_at]
    later = exchanges[len(past) :]
    top = st.container(gap="small", key="thread-top")
    parts = (
        ("past", past[:-_IN_VIEW]),
        ("past", past[-_IN_VIEW:]),
        *(("exchange", [x]) for x in later),
    )
    groups = tuple(
        Group(st.container(gap="small", key=f"{kind}-{part[0][0].seq}"), part, kind == "past")
        for kind, part in parts
        if part
    )
    return Layout(first=first, top=top, groups=groups)


def _opened_at(thread: Thread, exchanges: list[Exchange]) -> int:
    """Return the seq of the prompt that was last when *thread* was opened, but at most the seq of the current last prompt."""
    last = exchanges[-1][0].seq if exchanges else 0
    place, seq = tab().opened_at or (None, last)
    seq = min(seq, last) if place == thread.conversation.id else last
    tab().opened_at = thread.conversation.id, seq
    return seq


def draw_messages(services: ChatParts, view: ThreadView, layout: Layout, *, has_last: bool) -> None:
    """Draw the messages in their containers, in grey if they are not sent to the model.

    *has_last*: True if the last message is on the page already; it is not drawn again.
    """
    plan, branch = view.plan, view.thread.branch()
    drawn = branch[layout.first :]
    _draw_notes(services, view, branch, layout.first)
    before_view = [message for message in branch if plan and message.seq <= plan.start_seq]
    last_before = before_view[-1] if before_view else None
    if layout.first and last_before is branch[layout.first - 1]:
        memory.draw_beginning()
    drawing = _Drawing(
        view.thread,
        unseen=memory.out_of_view(branch, plan),
        costs=view.costs(drawn),
        known=view.thoughts(drawn),
        choices=list(versions.choices(services)),
        model=view.setup.offer.info.name,
        is_settled=view.turn is None,
        last=branch[-1] if branch else None,
        found=turns.found_message(),
    )
    for group in reversed(layout.groups):  # from last to first: the last exchanges are in view
        with group.place:
            for exchange in group.exchanges:
                for message in exchange:
                    is_last = message == branch[-1]
                    if is_last and has_last:
                        continue
                    drawing.add(message, exchange, is_last=is_last, is_past=group.is_past)
                    # below the last message, `draw_start_below` draws this line later, because the buttons come first
                    if message is last_before and not (is_last or versions.is_edited(message)):
                        drawing.end_element()
                        memory.draw_beginning()
            drawing.end_element()


def draw_start_below(view: ThreadView) -> None:
    """Draw the line that marks the start of the context, if the context starts after the last message."""
    plan, branch = view.plan, view.thread.branch()
    if plan and branch and branch[-1].seq <= plan.start_seq:
        memory.draw_beginning()


@dataclass(slots=True)
class _Drawing:
    """Draws messages. The prompts and buttons between two replies are drawn as one HTML element."""

    thread: Thread
    unseen: Collection[MessageId]
    costs: messages.Costs
    known: thoughts.Known
    choices: list[str]
    model: str
    is_settled: bool
    last: Message | None  # the last message of the branch
    found: MessageId | None  # the message at which the page opens
    _html: str = ""

    def add(self, message: Message, exchange: Exchange, *, is_last: bool, is_past: bool) -> None:
        """Draw *message*, which is part of *exchange*."""
        if versions.is_edited(message):
            self.end_element()
            versions.draw_field(self.thread.conversation.id, message, self.model)
            return
        if _has_part(message, self.found):
            self._html += f'<i hidden data-at="{self.found}"></i>'  # for assets/page/place.js
        others = self.thread.versions(message) if self.is_settled else ()
        is_unseen = message.id in self.unseen
        if message.role is Role.USER:
            is_over = exchange[-1] != self.last
            is_unanswered = is_over and all(one.is_thoughts_only for one in exchange[1:])
            self._html += messages.prompt(
                message, others, is_unanswered=is_unanswered, is_unseen=is_unseen
            )
            return
        self.end_element()
        with st.container(key=f"out-of-view-{message.seq}") if is_unseen else nullcontext():
            messages.draw_reply(message, self.known, is_last=is_last, is_plain=is_past)
        if not is_last:
            self._html += messages.below(message, others, self.costs, self.choices)

    def end_element(self) -> None:
        """Draw the HTML that was added since the last call."""
        if self._html:
            st.html(self._html)
        self._html = ""


def _draw_notes(
    services: ChatParts, view: ThreadView, branch: tuple[Message, ...], first: int
) -> None:
    """Draw the elements above the messages: warnings, the button "Earlier messages", and lines that only print shows."""
    thread, plan = view.thread, view.plan
    _draw_print_head(thread, first)
    if not thread.is_whole:
        st.error(
            "Messages in this chat were changed or deleted outside Daybook. "
            "Only verified messages are shown. Contact your admin.",
            icon=":material/gpp_bad:",
        )
    if first:
        earlier = thread, len(branch), first - _DRAWN
        quiet_button("Earlier messages", "expand_less", "earlier", _draw_from, *earlier)
    if plan:
        has_line = any(first <= n and m.seq <= plan.start_seq for n, m in enumerate(branch, 1))
        memory.draw_banner(services, view, plan, has_line=has_line)


def _draw_print_head(thread: Thread, missing: int) -> None:
    """Draw lines that appear only in print, above the messages: how many earlier messages are *missing*, and the date."""
    are = "1 earlier message is" if missing == 1 else f"{missing} earlier messages are"
    hint = "To print the whole chat, choose Print in its menu."
    note = f"<p>{are} missing. {hint}</p>" if missing else ""
    date = words.moment(thread.conversation.updated_at, has_date=True)
    here = thread.conversation.id  # for assets/page/find_here.js
    st.html(f'<div class="db-print-head" data-here="{here}">{note}<p>{date}</p></div>')


def print_if_asked(thread: Thread | None) -> None:
    """Make the browser print *thread* if Print was chosen in its menu."""
    if thread and conversation_menu.is_printed(thread.conversation):
        browser.print_page(conversation_menu.end_printing)
    else:
        conversation_menu.end_printing()


def note_read(user: UserServices, thread: Thread) -> None:
    """Mark *thread* as read on all devices; if this cannot be stored, *thread* stays unread."""
    if thread.conversation.is_unread:
        with suppress(AppError):
            user.conversations.mark_read(thread)


def _first_drawn(view: ThreadView, branch: tuple[Message, ...]) -> int:
    """Return the index in *branch* of the first message on the page.

    The page shows the last `_DRAWN` messages, or begins at the start of the context if that is only a little earlier.
    The index is changed as rarely as possible, because elements that keep their position need not be drawn again.
    """
    thread, plan = view.thread, view.plan
    if conversation_menu.is_printed(thread.conversation):
        return 0
    drawn, count = tab().drawn, len(branch)
    first, limit = drawn.get(thread.conversation.id, (0, -1))
    if not first < count <= limit:
        begin = count - _DRAWN
        before_view = sum(1 for message in branch if plan and message.seq <= plan.start_seq)
        is_near = count - _DRAWN_TO_LINE <= before_view < begin
        _draw_from(thread, count, before_view if is_near else begin)
    if found := turns.found_message():
        at = next((n for n, message in enumerate(branch) if _has_part(message, found)), count)
        if at < drawn[thread.conversation.id][0]:
            _draw_from(thread, count, at - _BEFORE_FOUND)
    return drawn[thread.conversation.id][0]


def _has_part(message: Message, part_id: MessageId | None) -> bool:
    return any(part.id == part_id for part in message.stored)


def _draw_from(thread: Thread, count: int, first: int) -> None:
    """Make the page begin at the index *first*, until the branch is `_DRAWN` messages longer than *count*."""
    tab().drawn[thread.conversation.id] = max(0, first), count + _DRAWN


def _draw_exports(thread: Thread) -> None:
    fields = {"zone": st.context.timezone or "UTC"}
    if thread.tip:
        fields["m"] = str(thread.tip.id)
    items = forms = ""
    for name, suffix in (("Markdown", "md"), ("JSON", "json")):
        items += f'<button data-submits="as-{suffix}">As {name}</button>'
        address = f"/export/{thread.conversation.id}.{suffix}"
        forms += download_form(address, fields, attributes=f'id="as-{suffix}" hidden')
    button = icon_button(words.EXPORT, "download", 'data-place="export" aria-haspopup="menu"')
    find = icon_button("Find in this chat", "search", "data-find-here")
    st.container(key="find-here", width="content").html(find)
    st.container(key="export", width="content").html(f"{button}<template>{items}</template>{forms}")
