// A page without its server says that it goes on by itself; Streamlit's dialog would cover what was read, and
// is closed. Where the server refuses the page, Streamlit says nothing: the reason is asked for, and shown.
// So is a message that was sent and is not answered.

const PATIENCE = 2000; // milliseconds
let wasConnected = false;
let sentAt = 0; // when a message was sent that may not be answered yet

const app = () => document.querySelector(".stApp")?.dataset ?? {};

async function reason() {
  if (document.querySelector(".db-not-found")) return ""; // which needs no server
  // an app on this machine answers without a network
  const answers = () =>
    fetch("/healthz", { cache: "no-store" }).then(
      () => true,
      () => false,
    );
  if (!navigator.onLine && !(await answers())) return "Offline. Your text is kept.";
  const isConnected = app().testConnectionState === "CONNECTED";
  wasConnected ||= isConnected;
  if (isConnected) return isUnanswered() ? "No answer yet. Your message is kept." : "";
  const answer = await fetch("/_stcore/stream", { method: "POST" }).catch(() => null);
  if ([403, 429].includes(answer?.status)) return answer.text();
  return wasConnected ? "Reconnecting… Your text is kept." : "";
}

function isUnanswered() {
  if (!sentAt) return false;
  const waited = Date.now() - sentAt;
  // the browser asks for a run; the server then says that it runs
  if (waited >= PATIENCE / 4 && app().testScriptState !== "rerunRequested") sentAt = 0;
  return sentAt > 0 && waited >= PATIENCE;
}

async function look() {
  const words = await reason(),
    shown = document.querySelector(".db-refused");
  if (!words) shown?.remove();
  else if (!shown) {
    const line = document.createElement("p");
    line.className = "db-refused";
    line.setAttribute("role", "alert");
    line.textContent = words;
    document.body.append(line);
  } else if (shown.textContent !== words) shown.textContent = words;
}

setInterval(look, 1000);
addEventListener("offline", look);
addEventListener("online", look);

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
