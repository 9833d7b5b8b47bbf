// While the server is unreachable, a line above the composer says that the page is reconnecting, and
// Streamlit's dialog, which would cover the text, is closed. If the server refuses the connection, this
// script asks for the reason, which Streamlit does not show. A line also appears if the server does not
// respond to a sent message.

const PATIENCE = 2000, // milliseconds to wait for a response before the page says that there is none
  ANSWER = 4000; // milliseconds after which a request of this script is cancelled
const OFFLINE = "Offline. Your unsent message is kept.";
let wasConnected = false,
  isLooking = false;
let sentAt = 0; // the time when a message was last sent; 0: never, or the server has responded

const notice = () => document.querySelector(".db-refused");
// Returns the element whose end the line is at: the bar of the composer; without it, the page.
const place = () => document.querySelector('[data-testid="stBottom"]') ?? daybook.page() ?? document.body;
const app = () => document.querySelector(".stApp")?.dataset ?? {};

async function reason() {
  if (document.querySelector(".db-plain")) return ""; // a page without Streamlit
  // asks the server, because a server on this machine can be reached even while the browser is offline
  const answers = () =>
    fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ANSWER) }).then(
      () => true,
      () => false,
    );
  if (!navigator.onLine && !(await answers())) return OFFLINE;
  const isConnected = app().testConnectionState === "CONNECTED";
  wasConnected ||= isConnected;
  if (isConnected) return isUnanswered() ? "No answer yet. Your message is kept." : "";
  const signal = AbortSignal.timeout(ANSWER);
  const answer = await fetch("/_stcore/stream", { method: "POST", signal }).catch(() => null);
  if ([403, 429].includes(answer?.status)) return answer.text();
  return wasConnected ? "Reconnecting… Your unsent message is kept." : "";
}

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

// an observer, because a script run may begin and end between two calls of `look`
new MutationObserver(noteRun).observe(document, {
  subtree: true,
  attributeFilter: ["data-test-script-state"],
});

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
    line.textContent = words;
    place().append(line);
  } else if (shown.textContent !== words) shown.textContent = words;
}

setInterval(look, 1000);
addEventListener("offline", look);
addEventListener("online", look);

// Returns true while the line says that the browser is offline. No text may be sent then, because Streamlit
// would lose it.
daybook.isOffline = () => notice()?.textContent === OFFLINE;

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
