// Keyboard shortcuts. Ctrl+K unfolds the sidebar and focuses the filter. From there the arrow keys move
// through the rows, Enter opens the first row, and Escape empties the filter without stopping a reply. (When
// a chat is opened, the server empties the filter.) Ctrl+/ lists all shortcuts, in a native dialog, behind
// which a reply continues to stream.

const field = () => document.querySelector(".st-key-search input");
const isInView = () => (field()?.getBoundingClientRect().right ?? 0) > 0;
const rows = () =>
  [...document.querySelectorAll('button[data-act="open"]')].filter((row) => row.checkVisibility());
// the filter text for which Enter was pressed: its first result is opened once found, unless the user presses
// another key or button first
let sought = "";
const isMac = /^Mac|^iP/.test(navigator.platform),
  control = isMac ? "⌘" : "Ctrl";

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
  if (known) return known;
  const made = document.createElement("dialog");
  made.className = "db-keys";
  made.setAttribute("aria-labelledby", "keys-title");
  const written = [
    [daybook.isTouch() ? [control, "Enter"] : ["Enter"], "Send"],
    [daybook.isTouch() ? ["Enter"] : ["Shift", "Enter"], "New line"],
    [["Escape"], "Stop the reply"],
    [[control, "Shift", "O"], "New chat"],
    [[control, "K"], "Search titles"],
    [["↑", "↓"], "Move through results"],
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
  document.body.append(made);
  return made;
}

// Returns true for the key of `letter`, or for its place on a keyboard without Latin letters.
const isKey = ({ key, code }, letter, place) =>
  key?.toLowerCase() === letter || (code === place && key?.length === 1 && key > "~");

function hear(event) {
  const isRow = rows().includes(event.target),
    isField = event.target === field();
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
  // on a Mac, Ctrl+K deletes to the end of the line
  const isControl = isMac ? event.metaKey : event.ctrlKey;
  sought = "";
  if (document.querySelector(".db-keys")?.open) {
    event.stopPropagation(); // the page behind the dialog must not receive the key
  } else if (isKey(event, "k", "KeyK") && isControl && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    jump();
  } else if (isKey(event, "/", "Slash") && (event.ctrlKey || event.metaKey) && !event.altKey) {
    event.preventDefault();
    sheet().showModal();
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
