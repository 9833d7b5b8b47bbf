// Search in all chats, in a native dialog, behind which a reply continues to stream. Ctrl+K (keys.js) and
// each element with `data-find` open it. The server is asked after each key, one question at a time; the
// newest waits meanwhile. The arrow keys move through the rows, Enter opens the active row or, without one,
// ranks the messages, and Escape closes. A closed dialog is removed, so that none of its text stays in the
// page.

const LONGEST = 1000, // characters of a search
  ANSWER = 8000, // milliseconds after which a request is cancelled
  AGAIN = 1000, // milliseconds until the server is asked again while it has not read all chats
  QUIET = 500; // milliseconds after an answer until the number of hits is announced
const AWAY = "Search is not available at the moment. Try again.";
const FRAME = `<header><input type="search" role="combobox" aria-label="Search chats" aria-autocomplete="list"
    dir="auto" aria-controls="find-rows" aria-expanded="false" placeholder="Search chats"
    maxlength="${LONGEST}" autocomplete="off" spellcheck="false" enterkeyhint="search" autofocus>
  <button type="button" class="db-act" data-icon="close" aria-label="Close search"></button></header>
  <details><summary>Filters</summary><div>
    <label>Written by<select name="role"><option value="">Anyone</option><option value="user">You</option>
      <option value="assistant">Replies</option></select></label>
    <label>Chats<select name="chats"><option value="all">All</option><option value="pinned">Pinned</option>
      <option value="active">Not archived</option><option value="archived">Archived</option></select></label>
    <label hidden>Space<select name="space"></select></label>
    <fieldset><legend>Dates</legend><input type="date" name="since" aria-label="From date"> –
      <input type="date" name="until" aria-label="To date"></fieldset></div></details>
  <p class="db-find-said"></p><div role="listbox" id="find-rows" aria-label="Results">
  <div role="group" aria-labelledby="find-titles"><p role="presentation" id="find-titles"></p></div>
  <div role="group" aria-labelledby="find-messages"><p role="presentation" id="find-messages"></p></div>
  <div role="group" aria-labelledby="find-memory"><p role="presentation" id="find-memory"></p></div></div>
  <p class="db-find-read"></p><div class="db-heard" role="status"></div>`;

let dialog = null,
  active = null, // the row that Enter opens
  more = null, // the row that shows more messages
  below = null, // the server's position of the last message that is shown; null: no more follow
  spaces = "", // the spaces among the filters (JSON)
  order = "newest";
let nextAsk = null, // the question that waits
  isAsking = false,
  isDue = false, // true until the rows answer what is in the field
  entered = null, // the press of Enter that waits for these rows
  isChosen = false, // true: the dialog closes because a row was pressed
  pressed = null; // the element that the pointer pressed last
let pollTimer = 0, // the timer of the next question while the server reads
  announceTimer = 0; // the timer of the announcement
const rows = new Map(); // the rows by what they lead to

const find = (selector) => dialog.querySelector(selector);
const all = (selector, place = dialog) => [...place.querySelectorAll(selector)];
const field = () => find("input");
const words = () => field().value.trim();
const options = (place) => all('[role="option"]', place);
const grouped = (number) => number.toLocaleString("en");

function element(name, properties, ...content) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content); // strings become text
  return made;
}

// Returns the element that shows `segments`, texts that are plain and found by turns.
function text(segments, className) {
  const parts = segments.map((part, place) => (place % 2 ? element("mark", {}, part) : part));
  return element("span", { className, dir: "auto" }, ...parts);
}

function day(time) {
  const at = new Date(time),
    year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return at.toLocaleDateString("en", { month: "short", day: "numeric", year });
}

// Returns a row: a link if `href` is given, else a button with `data`. `title`: segments; `notes`: follow it.
function row({ href, data }, title, notes, ...content) {
  const properties = href ? { href } : { type: "button" };
  const small = element("small", {}, notes.filter(Boolean).join(" · "));
  const line = element("span", { className: "db-find-line" }, text(title, "db-find-title"), " ", small);
  Object.assign(properties, { role: "option", tabIndex: -1, ariaSelected: "false" });
  const made = element(href ? "a" : "button", properties, line, ...content);
  Object.assign(made.dataset, data);
  return made;
}

// the functions that return the row of a title, a message and a memory
const ROW_MAKERS = [
  ({ chat, title, note }) => row({ data: { act: "open", chat } }, title, [note]),
  ({ chat, message, title, text: found, role, at, note }) => {
    const notes = [role === "user" ? "You" : "Reply", day(at), note];
    return row({ data: { act: "open", chat, message } }, [title], notes, text(found, "db-find-text"));
  },
  ({ name, text: found, href, data }) => row({ href, data }, [name], [], text(found, "db-find-text")),
];

function choose(one) {
  if (active) active.ariaSelected = "false";
  active = one ?? null;
  if (!active) return field().removeAttribute("aria-activedescendant");
  active.ariaSelected = "true";
  active.scrollIntoView({ block: "nearest" });
  field().setAttribute("aria-activedescendant", active.id);
}

// Shows an answer. Unless it `isFresh`, the rows that are shown stay where they are, and others are added.
function draw(answer, { isFresh, question }) {
  const isWhole = answer.read >= answer.of,
    isMore = question.below !== null,
    wasMore = !isFresh && active === more,
    groups = all('[role="group"]');
  const headings = [words() ? "Titles" : "Recent chats", `Messages · ${grouped(answer.count)}`, "Memory"];
  let added = null; // the first message that was added
  if (isFresh) {
    choose(null);
    for (const one of options()) one.remove();
    rows.clear();
    find('[role="listbox"]').scrollTop = 0;
  }
  for (const [kind, hits] of [answer.titles, answer.messages, answer.memory].entries()) {
    groups[kind].firstElementChild.textContent = headings[kind];
    for (const hit of hits) {
      const key = `${kind} ${hit.message ?? hit.chat ?? JSON.stringify(hit)}`;
      if (rows.has(key)) continue;
      const made = ROW_MAKERS[kind](hit);
      made.id = `find-${rows.size}`;
      rows.set(key, made);
      groups[kind].append(made);
      if (kind === 1) added ??= made;
    }
  }
  below = answer.next;
  more.remove();
  if (below !== null) groups[1].append(more); // after the added messages
  if (wasMore && (isMore || below === null)) choose(added ?? options(groups[1]).at(-1));
  if (isFresh && question.order === "newest" && words()) choose(options(groups[0])[0]);
  field().ariaExpanded = String(rows.size > 0);
  const isNothing = words() && isWhole && rows.size === 0,
    read = `Read so far: ${grouped(answer.read)} of ${grouped(answer.of)} chats`;
  find(".db-find-said").textContent = answer.said || (isNothing ? "Nothing found." : "");
  find(".db-find-read").textContent = isWhole ? "" : read;
  drawSpaces(answer.spaces);
  if (isMore && !added && below !== null) return ask(false, below); // these were shown already
  if (!isWhole) pollTimer = setTimeout(() => dialog?.isConnected && ask(false), AGAIN);
  if (words() && (isFresh || (isWhole && !isMore)))
    announce(answer.count, options(groups[0]).length, options(groups[2]).length);
}

// Announces the number of hits, but not at each key.
function announce(messages, chats, memories) {
  const parts = [
    [messages, "message", "messages"],
    [chats, "chat", "chats"],
    [memories, "memory", "memories"],
  ].map(([number, one, many]) => number && `${grouped(number)} ${number === 1 ? one : many}`);
  const sentence = parts.filter(Boolean).join(", ") || find(".db-find-said").textContent;
  const region = find(".db-heard");
  region.textContent = ""; // emptied, because an unchanged text would not be announced
  announceTimer = setTimeout(() => (region.textContent = sentence), QUIET);
}

function drawSpaces(named) {
  if (JSON.stringify(named) === spaces) return; // an open list of choices must not change
  spaces = JSON.stringify(named);
  const choice = find('[name="space"]'),
    { value } = choice;
  const made = named.map(({ id, name }) => new Option(name, id, false, id === value));
  choice.replaceChildren(new Option("All", ""), ...made);
  choice.parentElement.hidden = named.length === 0;
}

// Returns the answer, or null if there is none.
async function fetchAnswer(question) {
  try {
    const response = await fetch("/find", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(question),
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER),
    });
    if (response.status === 401) {
      daybook.leave(); // the session has ended
      location.reload();
    }
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

// Asks for what is in the field, at once or after the answer to the last question. `isFresh`: the answer
// replaces the rows; `from`: it continues below this position.
async function ask(isFresh, from = null) {
  if (!isFresh && (isDue || nextAsk)) return;
  for (const timer of [pollTimer, announceTimer]) clearTimeout(timer);
  isDue ||= isFresh;
  const filters = Object.fromEntries(all("[name]").map(({ name, value }) => [name, value || null]));
  const { timeZone: zone } = Intl.DateTimeFormat().resolvedOptions();
  nextAsk = { isFresh, dialog, question: { words: field().value, order, below: from, zone, ...filters } };
  if (isAsking) return;
  isAsking = true;
  while (nextAsk) {
    const asked = nextAsk;
    nextAsk = null;
    const answer = await fetchAnswer(asked.question);
    if (nextAsk || asked.dialog !== dialog) continue;
    if (!answer) {
      find(".db-heard").textContent = find(".db-find-read").textContent = AWAY;
      pollTimer = setTimeout(() => dialog?.isConnected && ask(isDue), AGAIN);
    } else {
      isDue = false;
      draw(answer, asked);
      if (entered) enter(entered);
    }
  }
  isAsking = false;
}

function enter({ ctrlKey, metaKey }) {
  entered = isDue ? { ctrlKey, metaKey } : null; // Enter waits for the rows that answer what was typed
  if (isDue) return isAsking || ask(true);
  if (active) {
    const how = { bubbles: true, cancelable: true, ctrlKey, metaKey };
    return active.dispatchEvent(new MouseEvent("click", how));
  }
  order = "best";
  if (words()) ask(true);
}

// Opens a chat in a new tab by a press with Ctrl or by the middle button.
function openTab(event) {
  const { chat: c, message: at } = event.target.closest("[data-chat]")?.dataset ?? {};
  if (!c || !(event.button === 1 || event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  event.stopPropagation(); // the server must not open the chat in this tab, too
  const href = `/?${new URLSearchParams(at ? { c, at } : { c })}`;
  element("a", { href, target: "_blank", rel: "noopener" }).click();
}

function forget() {
  for (const timer of [pollTimer, announceTimer]) clearTimeout(timer);
  dialog.remove();
  rows.clear();
  dialog = active = more = nextAsk = null;
  if (!isChosen) return;
  // the composer gets the focus, and not the field of the list, from which the dialog may have been opened
  document.activeElement?.blur();
  daybook.returnTo(daybook.composer());
}

function change() {
  const chosen = all("[name]").filter(({ value }) => value && value !== "all").length;
  find("summary").textContent = chosen ? `Filters · ${chosen}` : "Filters";
  order = "newest";
  entered = null;
  ask(true);
}

// Opens the dialog with the words by which the list is filtered.
daybook.openSearch = () => {
  if (dialog?.isConnected) return field().select();
  if (dialog) forget(); // it was in a dialog of Streamlit that was closed
  dialog = element("dialog", { className: "db-find", ariaLabel: "Search chats", innerHTML: FRAME });
  more = row({}, ["Show more"], []);
  more.id = "find-more";
  [spaces, order, isDue, entered, isChosen] = ["", "newest", false, null, false];
  field().value = (document.querySelector(".st-key-search input")?.value ?? "").slice(0, LONGEST);
  const list = find('[role="listbox"]');
  // a press leaves the focus in the field; on a touch screen, scrolling puts the keyboard away
  list.addEventListener("mousedown", (event) => event.target !== list && event.preventDefault());
  list.addEventListener("touchmove", () => field().blur(), { passive: true });
  dialog.addEventListener("input", change);
  for (const kind of ["click", "auxclick"]) dialog.addEventListener(kind, openTab);
  dialog.addEventListener("close", forget);
  daybook.front().append(dialog);
  dialog.showModal();
  field().select();
  ask(true);
};

daybook.capture(window, "pointerdown", ({ target }) => (pressed = target));

// after acts.js, which sends the data of a pressed row to the server
document.addEventListener("click", (event) => {
  const { target } = event,
    opener = target.closest("[data-find]"),
    one = target.closest('.db-find [role="option"]'),
    // not at the end of a selection that was begun in the field
    isOutside = target === dialog && pressed === dialog;
  if (opener) return daybook.openSearch();
  if (isOutside || target.closest(".db-find .db-act")) return dialog.close();
  if (!one) return;
  if (one === more) return ask(false, below);
  if (one.href) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser opens a new tab
    event.preventDefault();
    history.pushState(null, "", one.href); // as menu.js does
    dispatchEvent(new PopStateEvent("popstate"));
  }
  isChosen = true;
  dialog.close();
});

// before keys.js, which keeps the keys from the page behind the dialog
daybook.capture(window, "keydown", (event) => {
  if (!dialog?.isConnected) return;
  const { key, target } = event,
    isPlain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey,
    step = isPlain && { ArrowDown: 1, ArrowUp: -1 }[key];
  entered = null;
  if (key === "Escape") dialog.close();
  // the filters and the button have keys of their own
  else if (target.closest("details, .db-act")) return;
  else if (step) {
    const every = options(),
      to = every[every.indexOf(active) + step];
    if (to || step < 0) choose(to);
  } else if (key === "Enter") enter(event);
  else return;
  event.preventDefault();
});
