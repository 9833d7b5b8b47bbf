// Find in the open chat. Ctrl+F opens a bar, unless a field other than the composer has the focus; a second
// Ctrl+F is the browser's own. The server searches the whole branch that is read, drawn or not; Enter and
// Shift+Enter go from message to message, each of which the server draws if needed (place.js scrolls to it).

const MARKS = "db-find-here";
let bar = null;
let found = []; // the messages that have the words, oldest first: their ids and numbers of matches
let here = 0; // the index of the message that is shown
let asking = 0; // the number of the newest request

const chat = () => document.querySelector("[data-here]")?.dataset.here;
const field = () => bar.querySelector("input");
const words = () => field().value.trim();

function open() {
  bar = document.createElement("search");
  bar.className = "db-find-here";
  const button = (step, icon, label) =>
    `<button type="button" class="db-act" data-step="${step}" data-icon="${icon}" aria-label="${label}">`;
  bar.innerHTML = [
    '<input type="search" aria-label="Find in this chat" placeholder="Find in this chat" maxlength="1000">',
    `<output></output>${button(-1, "expand_less", "Previous")}</button>`,
    `${button(1, "expand_more", "Next")}</button>${button(0, "close", "Close")}</button>`,
  ].join("");
  bar.addEventListener("input", find);
  bar.addEventListener("click", ({ target }) => {
    const { step } = target.closest("button")?.dataset ?? {};
    if (step === "0") close();
    else if (step) go(Number(step));
  });
  bar.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
    else return;
    event.preventDefault();
    event.stopPropagation(); // Escape would stop a reply
  });
  document.body.append(bar);
  field().focus();
}

function close() {
  bar.remove(); // with what was typed and found
  bar = null;
  found = [];
  CSS.highlights?.delete(MARKS);
  daybook.composer()?.focus();
}

async function find() {
  asking += 1;
  const number = asking,
    version = new URLSearchParams(location.search).get("m");
  const answer = await fetch("/find/here", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ words: words(), chat: chat(), version }),
  }).catch(() => null);
  const { messages } = answer?.ok ? await answer.json() : {};
  if (!bar || number !== asking) return;
  found = messages ?? [];
  here = found.length; // the first step up shows the last message
  say(messages ? "" : "Not available at the moment.");
  mark();
  if (found.length) go(-1);
}

function say(problem = "") {
  const matches = found.reduce((sum, { count }) => sum + count, 0);
  const place = `Message ${here + 1} of ${found.length}, ${matches} ${matches === 1 ? "match" : "matches"}`;
  bar.querySelector("output").textContent =
    problem || (found.length ? place : words() ? "Nothing found." : "");
}

function go(step) {
  if (!found.length) return;
  here = (here + step + found.length) % found.length;
  say();
  daybook.act({ act: "find", message: found[here].message });
}

// Marks the words in the messages that are drawn.
function mark() {
  if (!bar || !CSS.highlights) return;
  const sought = words().toLowerCase(),
    ranges = [];
  const texts = document.createTreeWalker(
    document.querySelector(".st-key-thread") ?? bar,
    NodeFilter.SHOW_TEXT,
  );
  while (sought && texts.nextNode()) {
    const text = texts.currentNode,
      lower = text.data.toLowerCase();
    if (lower.length !== text.data.length) continue; // the places would differ
    for (let at = lower.indexOf(sought); at >= 0; at = lower.indexOf(sought, at + sought.length)) {
      const range = new Range();
      range.setStart(text, at);
      range.setEnd(text, at + sought.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set(MARKS, new Highlight(...ranges));
}

daybook.onDraw(() => {
  if (bar && !chat()) close();
  else mark();
});

daybook.capture(window, "keydown", (event) => {
  const isControl = daybook.control === "⌘" ? event.metaKey : event.ctrlKey;
  if (event.key?.toLowerCase() !== "f" || !isControl || event.shiftKey || event.altKey) return;
  const focused = document.activeElement,
    isElsewhere = focused !== daybook.composer() && focused?.matches(daybook.FIELD);
  if (!chat() || bar || isElsewhere || daybook.isCovered()) return;
  event.preventDefault();
  event.stopPropagation();
  open();
});
