// Keyboard shortcuts. Ctrl+K opens the search (find.js). From the filter in the sidebar the arrow keys move
// through the rows, Enter opens the first row, and Escape empties the filter without stopping a reply. (When
// a chat is opened, the server empties the filter.) Ctrl+, opens the account menu, Ctrl+. folds or unfolds
// the sidebar, Ctrl+; copies the last reply, and Alt with Page Up or Page Down opens the chat above or below
// in the list. Ctrl+/ lists all shortcuts, in a native dialog, behind which a reply continues to stream. The
// reasons for these keys: docs/decisions/for-every-reader.md

const field = () => document.querySelector(".st-key-search input");
const isInView = () => (field()?.getBoundingClientRect().right ?? 0) > 0;
const CHATS = 'button[data-act="open"]:not([role])'; // those in the list, without the rows of find.js
// the rows below the filter, of which the last may search in messages, too
const rows = () =>
  [...document.querySelectorAll(`${CHATS}, .st-key-conversation-list [data-find]`)].filter((row) =>
    row.checkVisibility(),
  );
// the filter text for which Enter was pressed: its first result is opened once found, unless the user presses
// another key or button first
let sought = "";
const { control } = daybook,
  isMac = control === "⌘",
  // on a Mac too, because the browser takes some of these keys with ⌘
  plainControl = isMac ? "⌃" : "Ctrl",
  alt = isMac ? "⌥" : "Alt";
const unfoldButton = () => document.querySelector('[data-testid="stExpandSidebarButton"]');

// Calls `act` with the element that `find` returns, once there is one, within a second.
function when(find, act, tries = 20) {
  const found = find();
  if (found) act(found);
  else if (tries) setTimeout(when, 50, find, act, tries - 1);
}

// Unfolds the sidebar, and calls `act` with the element of it that `selector` matches.
function inSidebar(selector, act) {
  if (!isInView()) unfoldButton()?.click();
  const place = document.querySelector('[data-testid="stSidebar"]'),
    isMoving = () => place?.getAnimations().length || place?.getBoundingClientRect().left < 0;
  when(() => isInView() && !isMoving() && document.querySelector(selector), act);
}

const openAccount = () => inSidebar(".st-key-account-menu button", (button) => button.click());

function foldOrUnfold() {
  const unfold = unfoldButton(),
    isInside = document.activeElement.closest('[data-testid="stSidebar"]');
  (unfold ?? document.querySelector('[data-testid="stSidebarCollapseButton"] button'))?.click();
  if (isInside) when(unfoldButton, (button) => button.focus()); // a folded sidebar keeps no focus
}

async function copyLast() {
  const last = [...document.querySelectorAll('.st-key-thread [data-copy][title="Copy reply"]')].at(-1),
    isCopied = last && (await daybook.copy(last)),
    outcome = isCopied ? "Reply copied." : last ? "Copy failed." : "There is no reply to copy.";
  daybook.tell(document.querySelector(".stMainBlockContainer"), outcome, "db-outcome");
}

// Opens the chat `step` rows below the open one, of the rows that are in the list; if none is open, the first
// of them, by a step down.
function openBeside(step) {
  const all = [...document.querySelectorAll(CHATS)];
  const here = all.findIndex((row) => row.ariaCurrent),
    to = all[here + step];
  if (!to) return;
  all[here]?.removeAttribute("aria-current"); // so that a second press goes on before the list is drawn again
  to.ariaCurrent = "true";
  to.click();
}

// shortcuts with Ctrl: the key, its place on a keyboard without Latin letters, and the function
const SHORTCUTS = [
  [",", "Comma", openAccount],
  [".", "Period", foldOrUnfold],
  [";", "Semicolon", copyLast],
];

function move(from, step) {
  const places = [field(), ...rows()];
  places[places.indexOf(from) + step]?.focus();
}

// Opens the first row once the list shows the results of `sought`, which takes a moment.
function openFirst() {
  const found = document.querySelector('[data-stale="false"] [data-found]')?.textContent.trim();
  if (!sought || found !== sought || field()?.value.trim() !== sought) return;
  sought = "";
  open(rows()[0]);
}

function open(row) {
  if (!row) return;
  row.click();
  field().blur(); // the composer can get the focus only while no element has it
}

function sheet() {
  const known = document.querySelector(".db-keys");
  known?.remove(); // Preferences may have changed what sends
  const made = document.createElement("dialog");
  made.className = "db-keys";
  made.setAttribute("aria-labelledby", "keys-title");
  const written = [
    [daybook.entersSend() ? ["Enter"] : [control, "Enter"], "Send"],
    [daybook.entersSend() ? ["Shift", "Enter"] : ["Enter"], "New line"],
    [["Escape"], "Stop the reply"],
    [[control, "Shift", "O"], "New chat"],
    [[control, "K"], "Search chats"],
    [[control, "F"], "Find in this chat"],
    [["↑", "↓"], "Move through results"],
    [[alt, "Page Up"], "Previous chat"],
    [[alt, "Page Down"], "Next chat"],
    [[plainControl, "."], "Show or hide the sidebar"],
    [[plainControl, ","], "Account menu"],
    [[plainControl, ";"], "Copy the last reply"],
    [[control, "/"], "Show shortcuts"],
  ];
  made.innerHTML = `<h2 id="keys-title">Keyboard shortcuts</h2><dl>${written
    .map(
      ([keys, act]) =>
        `<div><dt>${act}</dt><dd>${keys.map((key) => `<kbd>${key}</kbd>`).join(" ")}</dd></div>`,
    )
    .join("")}</dl><form method="dialog"><button>Close</button></form>`;
  made.addEventListener("click", (event) => {
    if (event.target === made) made.close();
  });
  daybook.front().append(made);
  return made;
}

function hear(event) {
  const isRow = rows().includes(event.target),
    isField = event.target === field();
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
  // on a Mac, Ctrl+K deletes to the end of the line
  const isControl = isMac ? event.metaKey : event.ctrlKey;
  const isFree = !event.metaKey && !event.repeat && !daybook.isCovered();
  const isControlAlone = isFree && event.ctrlKey && !event.altKey,
    isAltAlone = isFree && event.altKey && !event.ctrlKey && !event.shiftKey;
  const shortcut = isControlAlone && SHORTCUTS.find(([key, place]) => daybook.isKey(event, key, place));
  const step = isAltAlone && { PageUp: -1, PageDown: 1 }[event.key];
  sought = "";
  if (document.querySelector(".db-keys")?.open) {
    event.stopPropagation(); // the page behind the dialog must not receive the key
  } else if (daybook.isKey(event, "k", "KeyK") && isControl && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    daybook.openSearch();
  } else if (document.querySelector(".db-find")) {
    event.stopPropagation(); // find.js has handled it
  } else if (daybook.isKey(event, "/", "Slash") && (event.ctrlKey || event.metaKey) && !event.altKey) {
    event.preventDefault();
    sheet().showModal();
  } else if (shortcut) {
    event.preventDefault();
    const [, , act] = shortcut;
    act();
  } else if (step) {
    event.preventDefault();
    openBeside(step);
  } else if (isField && event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    daybook.typeInto(field(), "");
  } else if (isField && event.key === "Enter" && field().value.trim()) {
    sought = field().value.trim();
    openFirst();
  } else if ((isField || isRow) && isPlain && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    move(event.target, event.key === "ArrowDown" ? 1 : -1);
  }
}

daybook.capture(window, "keydown", (event) => {
  if (field()) hear(event); // there is no field while no user is signed in
});
document.addEventListener("click", ({ target }) => {
  if (target.closest("[data-keys]")) sheet().showModal();
});
addEventListener("pointerdown", () => (sought = ""), true);
daybook.onDraw(openFirst);
