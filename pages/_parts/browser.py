"""The little that only a script in the browser can do."""

from collections.abc import Callable
from functools import partial

from streamlit.components.v2 import component

from services.domain import ConversationId, MessageId, Thread, UserId

ACTS = "reply-acts"  # the key of what the buttons under replies ask for

# React hears of a value only this way. Begins a component's script.
_TYPE_INTO = """
    function typeInto(field, text) {
      const { set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value");
      set.call(field, text);
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
"""

# A phone's sidebar covers the page and stays open after a button in it; its state lives in the browser.
_FOLD = component(
    "fold_sidebar",
    html="<i hidden></i>",
    js="""export default function () {
      if (window.__daybookFolds) return;
      window.__daybookFolds = true;
      document.addEventListener("click", (event) => {
        const leads = '[class*="st-key-open-"] button, .st-key-new-chat button';
        if (innerWidth >= 768 || !event.target.closest(leads)) return;
        const fold = '[data-testid="stSidebarCollapseButton"] button';
        setTimeout(() => document.querySelector(fold)?.click(), 80);
      }, true);
    }""",
)

# Ctrl+K goes to the filter, unfolding the sidebar, and the arrows from there through the rows; Escape empties it,
# and is not heard by what stops a reply. `?` opens a sheet of all keys: the browser's own dialog, so that a
# reply goes on behind it.
_KEYS = component(
    "keys",
    html="<i hidden></i>",
    js=_TYPE_INTO
    + """
    const field = () => document.querySelector(".st-key-search input");
    const isInView = () => (field()?.getBoundingClientRect().right ?? 0) > 0;
    const rows = () =>
      [...document.querySelectorAll('.st-key-conversation-list [class*="st-key-open-"] button')]
        .filter((row) => row.checkVisibility());
    const control = /^Mac|^iP/.test(navigator.platform) ? "⌘" : "Ctrl";

    function focus(tries) {
      if (isInView()) field().select();
      else if (tries) setTimeout(focus, 50, tries - 1);
    }

    function jump() {
      if (!isInView()) document.querySelector('[data-testid="stExpandSidebarButton"]')?.click();
      focus(20);
    }

    function move(from, step) {
      const places = [field(), ...rows()];
      places[places.indexOf(from) + step]?.focus();
    }

    // the rows follow what is typed a moment later
    function openFirst(tries) {
      const wanted = field().value.toLowerCase().split(/\\s+/);
      const first = rows()[0];
      if (wanted.every((word) => first?.innerText.toLowerCase().includes(word))) first.click();
      else if (tries) setTimeout(openFirst, 50, tries - 1);
    }

    function sheet() {
      const known = document.querySelector(".db-keys");
      if (known) return known;
      const made = document.createElement("dialog");
      made.className = "db-keys";
      made.setAttribute("aria-labelledby", "keys-title");
      const written = [
        [["Enter"], "Send"],
        [["Shift", "Enter"], "New line"],
        [["Escape"], "Stop the reply"],
        [[control, "Shift", "O"], "New chat"],
        [[control, "K"], "Find a conversation"],
        [["↑", "↓"], "Through what was found"],
        [["?"], "These keys"],
      ];
      made.innerHTML = `<h2 id="keys-title">Keys</h2><dl>${written.map(([keys, act]) =>
        `<div><dt>${act}</dt><dd>${keys.map((key) => `<kbd>${key}</kbd>`).join(" ")}</dd></div>`
      ).join("")}</dl><form method="dialog"><button>Close</button></form>`;
      made.addEventListener("click", (event) => { if (event.target === made) made.close() });
      document.body.append(made);
      return made;
    }

    function hear(event) {
      const isRow = rows().includes(event.target), isField = event.target === field();
      const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
      if (document.querySelector(".db-keys")?.open) {
        event.stopPropagation(); // what is behind it hears nothing
      } else if (event.key.toLowerCase() === "k" && !isPlain && !event.shiftKey && !event.altKey) {
        event.preventDefault();
        jump();
      } else if (event.key === "?" && isPlain && !event.target.closest("input, textarea, [role=dialog]")) {
        event.preventDefault();
        sheet().showModal();
      } else if (isField && event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        typeInto(field(), "");
      } else if (isField && event.key === "Enter" && field().value.trim()) {
        openFirst(40);
      } else if ((isField || isRow) && isPlain && ["ArrowDown", "ArrowUp"].includes(event.key)) {
        event.preventDefault();
        move(event.target, event.key === "ArrowDown" ? 1 : -1);
      }
    }

    export default function () {
      if (window.__daybookKeys) return;
      window.__daybookKeys = true;
      window.addEventListener("keydown", hear, true);
      document.addEventListener("click", (event) => {
        if (event.target.closest("[data-keys]")) sheet().showModal();
      });
    }""",
)

# Streamlit writes earlier messages into the elements of later ones, so the browser's own anchor is of no use:
# what stands below keeps its distance from the end instead, until the run is over or the reader scrolls.
_PLACE = component(
    "keep_place",
    html="<i hidden></i>",
    js="""
    const page = () => document.querySelector('[data-testid="stAppScrollToBottomContainer"]');
    const isRunning = () =>
      document.querySelector(".stApp")?.dataset.testScriptState !== "notRunning";
    function keep(distance, until, isOver) {
      if (isOver.now) return;
      page().scrollTop = page().scrollHeight - distance;
      if (isRunning()) until = performance.now() + 500;
      if (performance.now() < until) requestAnimationFrame(() => keep(distance, until, isOver));
    }
    export default function () {
      if (window.__daybookPlace) return;
      window.__daybookPlace = true;
      document.addEventListener("click", (event) => {
        if (!event.target.closest(".st-key-earlier button")) return;
        const isOver = { now: false };
        for (const sign of ["wheel", "touchmove", "keydown"]) {
          addEventListener(sign, () => (isOver.now = true), { once: true, passive: true });
        }
        keep(page().scrollHeight - page().scrollTop, performance.now() + 2000, isOver);
      }, true);
    }""",
)

# The title that is a field is ready to be overwritten; Escape, and leaving it unchanged, make it a title again.
_TITLE_KEYS = component(
    "title_keys",
    html="<i hidden></i>",
    js=_TYPE_INTO
    + """
    const field = () => document.querySelector(".st-key-renaming input");
    const leave = () => document.querySelector(".st-key-leave-title button")?.click();
    const isUnchanged = (event) => event.target.value === event.target.dataset.was;
    function listen() {
      window.addEventListener("keydown", (event) => {
        if (event.target !== field()) return;
        if (event.key === "Escape") {
          event.preventDefault();
          event.stopPropagation();
          typeInto(event.target, event.target.dataset.was);
          leave();
        } else if (event.key === "Enter" && isUnchanged(event)) leave();
      }, true);
      document.addEventListener("focusout", (event) => {
        if (event.target === field() && isUnchanged(event)) leave();
      }, true);
    }
    function begin(tries) {
      if (!field()) return tries && setTimeout(begin, 50, tries - 1); // not drawn yet
      if (field().dataset.was !== undefined) return;
      field().dataset.was = field().value;
      field().select();
    }
    export default function () {
      if (!window.__daybookTitleKeys) listen();
      window.__daybookTitleKeys = true;
      begin(20);
    }""",
)

# `messages` writes such buttons as plain HTML: a component for each would cost a page of twenty dearly.
_ACTS = component(
    "reply_acts",
    html="<i hidden></i>",
    js="""export default function ({ setTriggerValue }) {
      const isNew = !window.__daybookAct;
      window.__daybookAct = (button) =>
        setTriggerValue("act", { name: button.dataset.act, message: button.dataset.message });
      if (isNew) document.addEventListener("click", async (event) => {
        const asked = event.target.closest("button[data-act]");
        if (asked) return window.__daybookAct(asked);
        const button = event.target.closest("button[data-copy]");
        if (!button) return;
        const bytes = Uint8Array.from(atob(button.dataset.copy), (byte) => byte.charCodeAt(0));
        await navigator.clipboard.writeText(new TextDecoder().decode(bytes));
        const name = (copied) => {
          button.classList.toggle("copied", copied);
          button.setAttribute("aria-label", copied ? "Copied" : "Copy reply");
        };
        name(true);
        setTimeout(() => name(false), 1400);
      });
    }""",
)

# What is being typed stays in the browser, one draft a conversation, until it is sent or its writer signs out.
# Called after every run: the composer then holds what was typed, nothing (sent), or what was given back.
_DRAFTS = component(
    "keep_drafts",
    html="<i hidden></i>",
    js=_TYPE_INTO
    + """
    const here = (window.__daybookDrafts ??= { place: null, person: null, last: "" });
    const box = () => document.querySelector(".st-key-composer textarea");
    const prefix = () => `daybook-draft:${here.person}:`;
    const textOf = (stored) => { try { return JSON.parse(stored).text } catch { return "" } };
    const stored = () => textOf(localStorage.getItem(prefix() + here.place));

    function save(text) {
      if (!text && stored() !== here.last) return; // another tab goes on writing it
      here.last = text;
      const key = prefix() + here.place;
      if (text) localStorage.setItem(key, JSON.stringify({ text, at: Date.now() }));
      else localStorage.removeItem(key);
    }

    function show(text) {
      here.last = text;
      if (box().value === text) return;
      here.isShowing = true; // two tabs that each saved what the other did would undo what is being typed
      typeInto(box(), text);
      here.isShowing = false;
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
      window.addEventListener("storage", (event) => { // another tab wrote, and nobody writes here
        const isHere = event.key === prefix() + here.place;
        if (isHere && box()?.value === textOf(event.oldValue)) show(textOf(event.newValue));
      });
    }

    function go(data) {
      if (!box()) setTimeout(go, 50, data); // not drawn yet
      else if (here.place === null) {
        Object.assign(here, { person: data.person, place: data.place });
        listen();
        if (box().value) save(box().value);
        else show(stored());
      } else if (here.place === data.place) {
        save(box().value);
      } else if (data.is_begun) { // a fresh page became this conversation; what is typed now belongs to it
        const text = box().value;
        save("");
        here.place = data.place;
        here.last = stored();
        save(text);
      } else {
        save(box().value);
        here.place = data.place;
        show(stored());
      }
    }

    export default ({ data }) => go(data);""",
)

# Streamlit leaves a toast without a name, and gives a menu its label with the escapes of Markdown in it.
_NAMES = component(
    "mend_names",
    html="<i hidden></i>",
    js="""export default function () {
      if (window.__daybookNames) return;
      const mend = () => {
        for (const toast of document.querySelectorAll('[data-testid="stToast"]:not([aria-label])')) {
          toast.removeAttribute("aria-labelledby");
          toast.setAttribute("aria-label", toast.innerText);
        }
        for (const menu of document.querySelectorAll('[role="menu"]')) {
          const name = menu.ariaLabel?.replace(/\\\\(.)/g, "$1");
          if (name && name !== menu.ariaLabel) menu.ariaLabel = name;
        }
      };
      window.__daybookNames = new MutationObserver(mend);
      window.__daybookNames.observe(document.body, { childList: true, subtree: true });
    }""",
)

# A reply is not read aloud while it comes, word by word: only that it comes, and how it ended.
_HEARD = component(
    "announce",
    html="<i hidden></i>",
    js="""export default function ({ data }) {
      let region = document.querySelector(".db-heard");
      if (!region) {
        region = document.createElement("div");
        region.className = "db-heard";
        region.setAttribute("aria-live", "polite");
        document.body.append(region);
      }
      const news = JSON.stringify(data);
      if (!data.words || region.dataset.news === news) return;
      region.dataset.news = news;
      // one that is new is not heard at once, nor is a sentence that stands there already
      region.textContent = "";
      setTimeout(() => { region.textContent = data.words }, 100);
    }""",
)

# A page is drawn anew when the database has gone or come back. Asked is the process, which asks the database
# once for everybody. Nobody is asked for a tab that nobody sees.
_WATCH = component(
    "watch_database",
    html="<i hidden></i>",
    js="""
    const here = (window.__daybookWatch ??= { isAway: false, tell: null, timer: 0, pause: 0 });
    const USUAL = 8000, FIRST = 1000, LONGEST = 8000;

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
        } catch {} // no server: Streamlit says so
      }
      if (isAway !== here.isAway) here.tell?.("changed", isAway);
      wait(here.isAway ? Math.min(1.5 * here.pause, LONGEST) : USUAL);
    }

    export default function ({ data, setTriggerValue }) {
      const isFirst = here.tell === null;
      here.tell = setTriggerValue;
      if (isFirst) {
        document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
      }
      if (isFirst || here.isAway !== data.is_away) wait(data.is_away ? FIRST : USUAL);
      here.isAway = data.is_away;
    }""",
)

# The address of somebody who was refused at the door, for the next try; it never stands in an address of ours.
_ADDRESS = component(
    "keep_address",
    html="<i hidden></i>",
    js="""
    const KEY = "daybook-address";

    function fill(tries) {
      const fields = document.querySelectorAll('.db-form [name="email"]');
      for (const field of fields) {
        if (field !== document.activeElement) field.value ||= sessionStorage.getItem(KEY) ?? "";
      }
      if (!fields.length && tries) setTimeout(fill, 50, tries - 1);
    }

    export default function ({ data }) {
      if (!window.__daybookAddress) {
        window.__daybookAddress = true;
        document.addEventListener("submit", (event) => {
          const field = event.target.closest(".db-form")?.elements.email;
          if (field) sessionStorage.setItem(KEY, field.value);
        }, true);
        if (data.is_second_try) fill(40);
        else sessionStorage.removeItem(KEY);
      }
    }""",
)

_RELOAD = component(
    "reload_page",
    html="<i hidden></i>",
    js="""export default function () {
      const pause = Number(sessionStorage.getItem("daybookReloaded")) + 10_000 - Date.now();
      setTimeout(() => {
        sessionStorage.setItem("daybookReloaded", Date.now());
        location.reload();
      }, Math.max(0, pause));
    }""",
)


def fold_sidebar_on_phones() -> None:
    """Have the sidebar fold when something in it leads elsewhere."""
    _FOLD(key="fold", height="content")


def hear_acts(act: Callable[[ConversationId], None], conversation_id: ConversationId) -> None:
    """Have the buttons with `data-copy` copy what stands in it, and those with `data-act` call *act*.

    What was asked for then lies in the session under `ACTS`.
    """
    _ACTS(key=ACTS, height="content", on_act_change=partial(act, conversation_id))


def keep_drafts(user_id: UserId, thread: Thread | None, *, has_begun: bool = False) -> None:
    """Keep what is typed into the composer through a refresh, a switch and another tab.

    To be drawn early: until then what is typed belongs to where one was before.

    *has_begun*: this run began a turn, perhaps on what was a fresh page.
    """
    conversation = thread.conversation if thread else None
    data = {
        "person": str(user_id),
        "place": str(conversation.id) if conversation else "new",
        "rev": conversation.rev if conversation else 0,  # another after each prompt that was sent
        "is_begun": has_begun,
    }
    _DRAFTS(data=data, key="drafts", height="content")


def keep_place() -> None:
    """Have the messages that are read stay where they are when earlier ones come above them."""
    _PLACE(key="place", height="content")


def lead_keys_to_title() -> None:
    """Have the field of a title that is written anew be typed into, and Escape leave it."""
    _TITLE_KEYS(key="title-keys", height="content")


def announce(words: str, after: MessageId | None) -> None:
    """Have a screen reader say *words* when it has nothing else to say, once *after* a message."""
    _HEARD(data={"words": words, "after": str(after)}, key="announced", height="content")


def mend_names() -> None:
    """Have names on whatever Streamlit draws without."""
    _NAMES(key="names", height="content")


def hear_keys() -> None:
    """Have Ctrl+K lead to the conversations, the arrows through them, and `?` to a sheet of all keys."""
    _KEYS(key="keys", height="content")


def keep_address(*, is_second_try: bool) -> None:
    """Have the e-mail address typed once, where one try is not enough."""
    _ADDRESS(data={"is_second_try": is_second_try}, key="address", height="content")


def watch_database(*, is_away: bool) -> None:
    """Have the page drawn anew when the database is away, or no longer: *is_away* is what it says now."""
    _WATCH(
        data={"is_away": is_away},
        key="watch",
        height="content",
        on_changed_change=lambda: None,
    )


def reload() -> None:
    """Load the page again, with whatever the browser's cookie opens now; at most every ten seconds."""
    _RELOAD(key="reload")
