"""Data that the scripts in `assets/page/` exchange with the server."""

import json
from collections.abc import Callable, Mapping
from html import escape

import streamlit as st
from streamlit.components.v2 import component

from services.domain import MessageId, Preferences, Role, Thread, UserId

# Lists and mappings are sent to components as JSON: Streamlit would look for tables in them, and therefore import pandas,
# which takes a second of the first page of a process.

# Buttons in the list and below messages are plain HTML, because so many Streamlit widgets would slow
# down the page.
_ACTS = component(
    "acts",
    html="<i hidden></i>",
    js="""export default ({ setTriggerValue }) =>
      daybook.hearActs((request) => setTriggerValue("act", request));""",
)

_DRAFTS = component(
    "keep_drafts",
    html="<i hidden></i>",
    js="""export default ({ data }) =>
      daybook.keepDrafts(JSON.parse(data.json));""",
)

_WATCH = component(
    "watch_database",
    html="<i hidden></i>",
    js="""export default ({ data, setTriggerValue }) =>
      daybook.watchDatabase(data.is_away, (isAway) => setTriggerValue("changed", isAway));""",
)

_NEWS = component(
    "watch_news",
    html="<i hidden></i>",
    js="""export default ({ data, setTriggerValue }) =>
      daybook.watchNews(JSON.parse(data.json), (found) => setTriggerValue("found", found));""",
)

_RELOAD = component(
    "reload_page",
    html="<i hidden></i>",
    js="""export default function () {
      const pause = Number(sessionStorage.getItem("daybookReloaded")) + 10_000 - Date.now();
      setTimeout(() => {
        if (window.daybook?.isPosting()) return;
        sessionStorage.setItem("daybookReloaded", Date.now());
        window.daybook?.leave();
        location.reload();
      }, Math.max(0, Math.min(pause, 10_000))); // the clock may have been set back
    }""",
)

_PRINT = component(
    "print_page",
    html="<i hidden></i>",
    js="""export default ({ setTriggerValue }) =>
      daybook.print(() => setTriggerValue("done", true));""",
)

_DRAWING = component(
    "drawing",
    html="<div></div>",
    js="""export default ({ data, parentElement }) => {
      parentElement.querySelector("div").innerHTML = data.svg;
    }""",
    isolate_styles=False,
)


def draw_svg(svg: str, key: str) -> None:
    """Draw *svg*, which `st.html` would remove, in the app's styles. Texts in *svg* must be escaped by the caller."""
    _DRAWING(data={"svg": svg}, key=key, height="content")


def hear_acts(act: Callable[[Mapping[str, str]], None]) -> None:
    """Call *act* with the data attributes of each pressed button that has `data-act` (assets/page/acts.js)."""
    key = "acts"
    _ACTS(key=key, height="content", on_act_change=lambda: act(st.session_state[key].get("act")))


def keep_drafts(
    user_id: UserId,
    thread: Thread | None,
    *,
    given: str | None = None,
    run: int,
    has_begun: bool = False,
    is_kept: bool = True,
    begun_here: tuple[int, str] = (0, ""),
) -> None:
    """Keep the composer's draft across reloads and page changes; each tab has its own draft (assets/page/drafts.js).

    Call this early in the run: until then, the browser regards the composer's text as the draft of the previous page.

    *given*: the text that the run puts into the composer; *run*: the count of ended callbacks; *has_begun*: True if
    the page's new chat became a conversation or is no longer temporary; *is_kept*: False in a temporary chat, whose
    drafts are not stored; *begun_here*: the number of conversations that this tab has begun, and the first prompt of the
    newest, which the browser may still store as a draft of the new chat because the connection was lost.
    """
    conversation, branch = (thread.conversation, thread.branch()) if thread else (None, ())
    prompts = [one.body for one in branch if one.role is Role.USER]
    count = len(prompts)
    if is_kept and thread is None:
        count, prompts = begun_here[0], [begun_here[1]] if begun_here[1] else []
    data = {
        "person": str(user_id),
        "place": "temporary" if not is_kept else str(conversation.id) if conversation else "new",
        # the revision changes with each sent prompt, so that the component is called again
        "rev": conversation.rev if conversation else 0,
        # the browser recognises the prompts that it sent by their lengths (in UTF-16 units) and beginnings; the last ten,
        # because prompts that other tabs sent may follow them
        "prompts": [(len(each.encode("utf-16-le")) // 2, each[:100]) for each in prompts[-10:]],
        "count": count,
        "given": given,
        # changes whenever a text is put into the composer, because a component is not called again with equal data
        "run": run if given else None,
        "is_begun": has_begun,
    }
    _DRAFTS(data={"json": json.dumps(data)}, key="drafts", height="content")


def announce(words: str, after: MessageId | None) -> None:
    """Make screen readers announce *words* politely (assets/page/heard.js).

    The announcement is repeated only when *words* or *after*, the message that the announcement follows, has changed.
    """
    st.html(f'<i hidden data-said="{escape(words)}" data-after="{after}"></i>')


def watch_database(*, is_away: bool) -> None:
    """Rerun the page when an outage of the database begins or ends, or the tab is shown again (assets/page/watch.js).

    *is_away*: True if the page shows that the database is unreachable.
    """
    _WATCH(data={"is_away": is_away}, key="watch", height="content", on_changed_change=lambda: None)


def watch_news(
    place: Mapping[str, str],
    seen: Mapping[str, object],
    hear: Callable[[Mapping[str, object]], None],
) -> None:
    """Make the browser poll the revisions of the data that *place* names (assets/page/news.js).

    If a revision differs from *seen*, call *hear* with the new revisions and rerun the page.
    """
    key = "news-watch"
    _NEWS(
        data={"json": json.dumps({"place": place, "seen": seen})},
        key=key,
        height="content",
        on_found_change=lambda: hear(st.session_state[key].get("found") or {}),
    )


def print_page(end: Callable[[], None]) -> None:
    """Make the browser print the page once it is drawn, and then call *end* (assets/page/print.js)."""
    _PRINT(key="print", height="content", on_done_change=end)


def mark_stored_edit(message_id: MessageId) -> None:
    """Say that a new version of a message was stored, so that the browser forgets its edited text (assets/page/edit.js)."""
    st.html(f'<i hidden data-stored-edit="{message_id}"></i>')


def mark_choices() -> None:
    """Say that the page shows choices for a new chat, which a new session would lose (assets/page/_shared.js)."""
    st.html("<i hidden data-chosen></i>")


def apply_preferences(chosen: Preferences) -> None:
    """Use the chosen theme (assets/page/theme.js) and meaning of Enter (send.js) on all pages in this browser."""
    st.html(f'<i hidden data-theme="{chosen.theme}" data-enter="{chosen.enter_sends}"></i>')


def reload() -> None:
    """Reload the page, which sends the browser's current cookie, at most once in ten seconds."""
    _RELOAD(key="reload")
