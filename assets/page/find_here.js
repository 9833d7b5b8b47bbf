// Find in the open chat. Ctrl+F opens a bar, unless a field other than the composer has the focus, and so
// does each element with `data-find-here`; a second Ctrl+F is the browser's own. The server searches the
// whole branch that is read, drawn or not. Enter goes to older messages and Shift+Enter to newer ones; the
// server draws them if needed, and place.js scrolls to them.

const MARKS = "db-find-here",
  MOST_MARKS = 1000,
  PAUSE = 250, // milliseconds without a key until the server is asked
  ANSWER = 8000; // milliseconds after which a request is cancelled
let bar = null;
let found = []; // the messages that have the words, oldest first: their ids and numbers of matches
let here = 0; // the index of the message that is shown
let asked = ""; // the question that `found` answers, or that is under way
let timer = 0; // of the next question

const chat = () => document.querySelector("[data-here]")?.dataset.here;
const field = () => bar.querySelector("input");
const words = () => field().value.trim();
const question = () => {
  const version = new URLSearchParams(location.search).get("m");
  return JSON.stringify({ words: words(), chat: chat(), version });
};

function open() {
  if (bar) return field().select();
  const button = (step, icon, label) =>
    `<button type="button" class="db-act" data-step="${step}" data-icon="${icon}" aria-label="${label}">`;
  bar = document.createElement("search");
  bar.className = "db-find-here";
  bar.innerHTML = [
    '<input type="search" aria-label="Find in this chat" placeholder="Find in this chat" maxlength="1000"',
    ` dir="auto" autocomplete="off" spellcheck="false"><output></output>`,
    `${button(-1, "expand_less", "Older match")}</button>${button(1, "expand_more", "Newer match")}</button>`,
    `${button(0, "close", "Close find")}</button>`,
  ].join("");
  bar.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, PAUSE);
  });
  bar.addEventListener("click", ({ target }) => {
    const { step } = target.closest("button")?.dataset ?? {};
    if (step === "0") close();
    else if (step) go(Number(step));
  });
  document.body.append(bar);
  field().focus();
}

function close() {
  clearTimeout(timer);
  bar.remove(); // with what was typed and found
  [bar, found, asked] = [null, [], ""];
  CSS.highlights?.delete(MARKS);
  daybook.composer()?.focus();
}

async function fetchMessages(body) {
  try {
    const response = await fetch("/find/here", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
      signal: AbortSignal.timeout(ANSWER),
    });
    return response.ok ? (await response.json()).messages : null;
  } catch {
    return null;
  }
}

async function find() {
  if (!bar || question() === asked) return;
  const now = question();
  asked = now;
  const messages = await fetchMessages(now);
  if (!bar || now !== asked) return; // the newer question has an answer of its own
  found = messages ?? [];
  here = found.length; // the first step leads to the newest message
  say(messages ? "" : "Search is not available at the moment. Try again.");
  if (!messages) asked = "";
  mark();
  go(-1);
}

function say(problem = "") {
  const matches = found.reduce((sum, { count }) => sum + count, 0);
  const place = `Message ${here + 1} of ${found.length}, ${matches} ${matches === 1 ? "match" : "matches"}`;
  bar.querySelector("output").textContent =
    problem || (found.length ? place : words() ? "Nothing found." : "");
}

function go(step) {
  if (!found.length || question() !== asked) return; // the answer to what was typed is still to come
  here = (here + step + found.length) % found.length;
  say();
  const { message } = found[here],
    url = new URL(location.href);
  url.searchParams.set("at", message);
  history.replaceState(history.state, "", url); // so that Streamlit adds no entry to the history
  daybook.act({ act: "find", message });
}

// Marks the words in the messages that are drawn.
function mark() {
  if (!bar || !CSS.highlights) return;
  const sought = words().toLowerCase(),
    marks = new Highlight();
  const texts = document.createTreeWalker(
    document.querySelector(".st-key-thread") ?? bar,
    NodeFilter.SHOW_TEXT,
  );
  while (sought && texts.nextNode() && marks.size < MOST_MARKS) {
    const text = texts.currentNode,
      lower = text.data.toLowerCase();
    if (lower.length !== text.data.length) continue; // the places would differ
    for (let at = lower.indexOf(sought); at >= 0; at = lower.indexOf(sought, at + sought.length)) {
      const range = new Range();
      range.setStart(text, at);
      range.setEnd(text, at + sought.length);
      marks.add(range);
    }
  }
  CSS.highlights.set(MARKS, marks);
}

daybook.onDraw(() => {
  if (!bar) return;
  if (!chat()) return close();
  if (asked) find(); // another chat or version is shown, unless the question is the same
  mark();
});

document.addEventListener("click", ({ target }) => {
  if (target.closest("[data-find-here]")) open();
});

// before stop.js, which takes Escape for the reply
daybook.capture(window, "keydown", (event) => {
  const { key, target } = event;
  if (bar?.contains(target) && (key === "Escape" || (key === "Enter" && target === field()))) {
    event.preventDefault();
    event.stopPropagation();
    if (key === "Escape") close();
    else go(event.shiftKey ? 1 : -1);
  }
  const isControl =
    daybook.control === "⌘" ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
  if (!isControl || event.shiftKey || event.altKey || !daybook.isKey(event, "f", "KeyF")) return;
  const focused = document.activeElement,
    isElsewhere = focused !== daybook.composer() && focused?.matches(daybook.FIELD);
  if (!chat() || bar || isElsewhere || daybook.isCovered()) return;
  event.preventDefault();
  event.stopPropagation();
  open();
});
