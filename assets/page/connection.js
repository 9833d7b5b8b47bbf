// While the server is unreachable, a line above the composer says that the page is reconnecting, and
// Streamlit's dialog, which would cover the text, is closed. If the server refuses the connection, this
// script asks for the reason, which Streamlit does not show. A line also appears if the server does not
// respond to a sent message, if a proxy cuts the websocket, and if a script of the page is gone because of
// an update. Meanwhile one can write on: Streamlit disables the fields for messages, which would lose what
// is typed.

const PATIENCE = 2000, // milliseconds to wait for a response before the page says that there is none
  ANSWER = 4000, // milliseconds after which a request of this script is cancelled
  STEADY = 2000, // milliseconds after which an open websocket counts as connected
  CUT = 4000; // milliseconds of failing to connect to a server that answers, until the page says why
const OFFLINE = "Offline. Your unsent message is kept.",
  RECONNECTING = "Reconnecting… Your unsent message is kept. You can go on typing.",
  NO_WEBSOCKET =
    "Daybook answers, but the connection is cut: something on the way does not let websockets pass. " +
    "Tell your admin. Admins: “The proxy” in docs/deploy.md says what it has to pass.",
  UPDATED = "Daybook was updated. ";
const FIELDS = ":is(.st-key-composer, .st-key-edit-prompt, .st-key-edit-reply) textarea:disabled";
let wasConnected = false,
  isLooking = false,
  isOutdated = false; // true: a script that the page needs is gone
let opened = 0; // the time when the websocket was opened; 0: it is closed
let tried = 0; // the time of the first try to open a websocket since the last one that stayed open; 0: none
let sentAt = 0; // the time when a message was last sent; 0: never, or the server has responded

const notice = () => document.querySelector(".db-refused");
// Returns the element whose end the line is at: the bar of the composer; without it, the page.
const place = () => document.querySelector('[data-testid="stBottom"]') ?? daybook.page() ?? document.body;
const app = () => document.querySelector(".stApp")?.dataset ?? {};

// asks the server, because a server on this machine can be reached even while the browser is offline
const answers = () =>
  fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ANSWER) }).then(
    () => true,
    () => false,
  );

function noteState() {
  const state = app().testConnectionState;
  if (state !== "CONNECTED") opened = 0;
  else opened ||= Date.now();
  if (state === "CONNECTING") tried ||= Date.now();
}

async function reason() {
  if (document.querySelector(".db-plain")) return ""; // a page without Streamlit
  if (!navigator.onLine && !(await answers())) return OFFLINE;
  noteState();
  wasConnected ||= opened > 0;
  if (opened && Date.now() - opened >= STEADY) tried = 0;
  const isCut = tried > 0 && Date.now() - tried >= CUT;
  if (!opened || isCut) {
    const signal = AbortSignal.timeout(ANSWER);
    const answer = await fetch("/_stcore/stream", { method: "POST", signal }).catch(() => null);
    if ([403, 429].includes(answer?.status)) return answer.text();
    if (isCut && answer?.status < 500) return NO_WEBSOCKET;
  }
  if (isOutdated || isIncomplete()) return UPDATED;
  if (opened) return isUnanswered() ? "No answer yet. Your message is kept." : "";
  return wasConnected ? RECONNECTING : "";
}

// Returns true if a script without which Streamlit does not begin was not loaded.
const isIncomplete = () =>
  !document.querySelector(".stApp") &&
  performance
    .getEntriesByType("resource")
    .some(({ name, responseStatus }) => name.includes("/static/js/") && responseStatus >= 400);

function isUnanswered() {
  if (!sentAt) return false;
  const waited = Date.now() - sentAt;
  if (waited >= PATIENCE / 4) noteRun();
  return sentAt > 0 && waited >= PATIENCE;
}

// "rerunRequested": the browser has requested a script run, and the server has not reported its start yet
function noteRun() {
  if (daybook.isRunning() && app().testScriptState !== "rerunRequested") sentAt = 0;
}

// observers, because a script run may begin and end between two calls of `look`, and a websocket, too
new MutationObserver(noteRun).observe(document, {
  subtree: true,
  attributeFilter: ["data-test-script-state"],
});
new MutationObserver(noteState).observe(document, {
  subtree: true,
  attributeFilter: ["data-test-connection-state"],
});

// at once, before the browser takes the focus from a disabled field
function keepOpen() {
  for (const field of document.querySelectorAll(FIELDS)) field.disabled = false;
}

daybook.onDraw(keepOpen);
new MutationObserver(keepOpen).observe(document, { subtree: true, attributeFilter: ["disabled"] });

async function look() {
  if (isLooking) return;
  isLooking = true;
  const words = await reason().finally(() => (isLooking = false)),
    shown = notice();
  if (!words || (shown && shown.parentElement !== place())) shown?.remove();
  if (!words) return;
  if (!shown?.isConnected) {
    const line = document.createElement("p");
    line.className = "db-refused";
    line.setAttribute("role", "alert");
    write(line, words);
    place().append(line);
  } else if (shown.dataset.words !== words) write(shown, words);
}

function write(line, words) {
  line.dataset.words = line.textContent = words;
  if (words !== UPDATED) return;
  const button = document.createElement("button");
  button.textContent = "Reload.";
  button.addEventListener("click", () => location.reload());
  line.append(button);
}

// Vite, which bundles Streamlit's scripts, dispatches this event if a script cannot be loaded later on.
addEventListener("vite:preloadError", () => {
  isOutdated = true;
  look();
});

setInterval(look, 1000);
addEventListener("offline", look);
addEventListener("online", look);

// Returns true while the browser is offline or the websocket closed. No text may be sent then, because
// Streamlit would lose it.
daybook.isAway = () => app().testConnectionState !== "CONNECTED" || notice()?.textContent === OFFLINE;

daybook.noteUnanswered = () => {
  sentAt = Date.now();
  setTimeout(look, PATIENCE + 10);
};

daybook.onDraw(() => {
  for (const dialog of document.querySelectorAll('[data-testid="stDialog"]')) {
    const name = dialog.querySelector('[slot="title"]')?.textContent;
    if (name === "Connection error") dialog.querySelector('button[aria-label="Close"]')?.click();
  }
});
