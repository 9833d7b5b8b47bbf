"""Scripts that exchange data with the server; the others are in `assets/page/`."""

from collections.abc import Callable, Mapping
from html import escape

import streamlit as st
from streamlit.components.v2 import component

from services.domain import MessageId, Role, Theme, Thread, UserId

_UNKEPT = "temporary"  # where no draft is

# Buttons in the list and below messages are plain HTML: so many widgets would slow the page.
_ACTS = component(
    "acts",
    html="<i hidden></i>",
    js="""export default ({ setTriggerValue }) =>
      daybook.hearActs((request) => setTriggerValue("act", request));""",
)

# Drafts stay in the browser, one a conversation, until they are sent or the user signs out.
# Called after every run: the composer then holds a draft, nothing (sent), or a prompt that was refused.
_DRAFTS = component(
    "keep_drafts",
    html="<i hidden></i>",
    js="""
    const here = (window.__daybookDrafts ??= { place: null, person: null, last: "" });
    const box = () => document.querySelector(".st-key-composer textarea");
    const prefix = () => `daybook-draft:${here.person}:`;
    const key = () => prefix() + here.place;
    const parse = (stored) => { try { return { text: "", ...JSON.parse(stored) } } catch { return { text: "" } } };
    const stored = () => parse(localStorage.getItem(key()));
    const isKept = () => here.place !== "temporary";
    const store = (draft) => isKept() && localStorage.setItem(key(), JSON.stringify(draft));

    function save(text) {
      if (!text && stored().text !== here.last) return; // another tab goes on writing it
      here.last = text;
      if (text) store({ text, at: Date.now() });
      else localStorage.removeItem(key());
    }

    function show(text) {
      here.last = text;
      if (box().value === text) return;
      here.isShowing = true; // two tabs that each saved what the other did would undo what is being typed
      daybook.typeInto(box(), text);
      here.isShowing = false;
    }

    // What has been sent is kept until it stands in the conversation: the run that sends it may have been replaced.
    function isSaid(text, [length, start]) {
      return text.trim().length === length && text.trim().startsWith(start);
    }

    function leave({ prompt }) {
      const draft = stored();
      if (!draft.text || draft.text !== here.last || box().value) return;
      if (here.place === "new" && isSaid(draft.text, prompt)) save(""); // it began the conversation that is read now
      else store({ ...draft, isSent: true });
    }

    function arrive({ place, given, prompt }) {
      here.place = place;
      const draft = stored();
      here.last = draft.text;
      if (draft.isSent && isSaid(draft.text, prompt)) save("");
      show(given ?? stored().text);
      save(box().value);
    }

    function drop(isOld) {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith("daybook-draft:") && isOld(key)) localStorage.removeItem(key);
      }
    }

    function listen() {
      const month = 30 * 24 * 3600 * 1000;
      drop((key) => !(JSON.parse(localStorage.getItem(key)).at > Date.now() - month));
      document.addEventListener("input", (event) => {
        if (event.target === box() && !here.isShowing) save(event.target.value);
      }, true);
      document.addEventListener("submit", (event) => {
        if (event.target.id === "sign-out") drop((key) => key.startsWith(prefix()));
      }, true);
      daybook.noteDraftSent = () => {
        const draft = stored();
        if (draft.text) store({ ...draft, isSent: true });
      };
      window.addEventListener("storage", ({ key: changed, oldValue, newValue }) => {
        // another tab wrote, and this one has no other text
        if (changed === key() && box()?.value === parse(oldValue).text) show(parse(newValue).text);
      });
    }

    function go(data) {
      if (!box()) return setTimeout(go, 50, data); // not drawn yet
      const typed = box().value, isFirst = here.place === null;
      if (isFirst) {
        here.person = data.person;
        listen();
      }
      if (isFirst && !typed) arrive(data);
      else if (isFirst || here.place === data.place) {
        here.place = data.place;
        if (typed || isSaid(stored().text, data.prompt)) save(typed);
      } else if (data.place === "temporary" || (data.is_begun && (typed || isKept()))) {
        // a fresh page became this conversation, or a temporary chat; what is typed now belongs to it
        save("");
        here.place = data.place;
        here.last = stored().text;
        save(typed);
      } else {
        leave(data);
        arrive(data);
      }
    }

    export default ({ data }) => go(data);""",
)

# Reruns the page when the database has gone or come back. The process is asked, which probes the database once for
# all tabs, and only for tabs in view; a tab that is shown again is rerun, too, for changes made in another.
_WATCH = component(
    "watch_database",
    html="<i hidden></i>",
    js="""
    const here = (window.__daybookWatch ??= { isAway: false, tell: null, timer: 0, pause: 0, left: Infinity });
    const USUAL = 8000, FIRST = 1000, LONGEST = 8000, AWAY = 1000;

    function wait(pause) {
      here.pause = pause;
      clearTimeout(here.timer);
      here.timer = setTimeout(look, pause * (0.8 + 0.4 * Math.random()));
    }

    async function look() {
      let isAway = here.isAway;
      if (!document.hidden) {
        try {
          const { database } = await (await fetch("/healthz", { cache: "no-store" })).json();
          isAway = database === "away" || database === "starting";
        } catch {} // no server: assets/page/connection.js says so
      }
      if (isAway !== here.isAway) here.tell?.("changed", isAway);
      wait(here.isAway ? Math.min(1.5 * here.pause, LONGEST) : USUAL);
    }

    // What a press that brings the tab into view asks for comes first.
    function comeBack() {
      if (!document.hidden && Date.now() - here.left > AWAY) setTimeout(() => {
        const isRunning = document.querySelector(".stApp").dataset.testScriptState !== "notRunning";
        const isBusy = isRunning || document.querySelector('[role="dialog"], [role="menu"]');
        if (!isBusy) here.tell("changed", here.isAway);
      }, 300);
      here.left = document.hidden ? here.left : Infinity;
    }

    function go() {
      here.left = Math.min(here.left, Date.now());
    }

    export default function ({ data, setTriggerValue }) {
      const isFirst = here.tell === null;
      here.tell = setTriggerValue;
      if (isFirst) {
        document.addEventListener("visibilitychange", () => {
          if (document.hidden) go();
          else {
            look();
            comeBack();
          }
        });
        window.addEventListener("blur", go);
        window.addEventListener("focus", comeBack);
      }
      if (isFirst || here.isAway !== data.is_away) wait(data.is_away ? FIRST : USUAL);
      here.isAway = data.is_away;
    }""",
)

_RELOAD = component(
    "reload_page",
    html="<i hidden></i>",
    js="""export default function () {
      const pause = Number(sessionStorage.getItem("daybookReloaded")) + 10_000 - Date.now();
      setTimeout(() => {
        sessionStorage.setItem("daybookReloaded", Date.now());
        window.daybook?.leave();
        location.reload();
      }, Math.max(0, pause));
    }""",
)


def hear_acts(act: Callable[[Mapping[str, str]], None]) -> None:
    """Have the buttons with `data-act` call *act* with their data attributes (assets/page/acts.js)."""
    key = "acts"
    _ACTS(key=key, height="content", on_act_change=lambda: act(st.session_state[key].get("act")))


def keep_drafts(
    user_id: UserId,
    thread: Thread | None,
    *,
    given: str | None = None,
    has_begun: bool = False,
    is_kept: bool = True,
) -> None:
    """Keep the draft in the composer through a refresh, a switch and another tab.

    To be drawn early: until then the draft belongs to the page before.

    *given*: the text that this run puts into the composer; *has_begun*: a fresh page became a conversation;
    *is_kept*: False in a temporary chat, where no draft is stored.
    """
    conversation, branch = (thread.conversation, thread.branch()) if thread else (None, ())
    prompt = next((one.body for one in reversed(branch) if one.role is Role.USER), "")
    data = {
        "person": str(user_id),
        "place": _UNKEPT if not is_kept else str(conversation.id) if conversation else "new",
        "rev": conversation.rev if conversation else 0,  # another after each prompt that was sent
        # the last prompt, as JavaScript counts, as far as it takes to know it again
        "prompt": (len(prompt.encode("utf-16-le")) // 2, prompt[:100]),
        "given": given,
        "is_begun": has_begun,
    }
    _DRAFTS(data=data, key="drafts", height="content")


def announce(words: str, after: MessageId | None) -> None:
    """Have a screen reader say *words* politely, once *after* a message (assets/page/heard.js)."""
    st.html(f'<i hidden data-said="{escape(words)}" data-after="{after}"></i>')


def watch_database(*, is_away: bool) -> None:
    """Rerun the page when the database goes away or comes back, and when the tab is shown again.

    *is_away*: the state that the page shows.
    """
    _WATCH(
        data={"is_away": is_away},
        key="watch",
        height="content",
        on_changed_change=lambda: None,
    )


def set_theme(theme: Theme) -> None:
    """Show all pages in *theme* in this browser (assets/page/theme.js)."""
    st.html(f'<i hidden data-theme="{theme}"></i>')


def reload() -> None:
    """Reload the page with the browser's current cookie, at most every ten seconds."""
    _RELOAD(key="reload")
