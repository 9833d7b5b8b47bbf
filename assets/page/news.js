// Polls for changes that other processes made to the data of the tab, and redraws the page if there are any.
// A tab that is in view and was used in the last ten minutes polls every five seconds, and immediately when
// it is shown or used again. A redraw waits while the page is being drawn or a menu or dialog is open.

const PAUSE = 5000, // milliseconds between two polls
  USED = 600_000, // milliseconds for which the tab polls after its last use
  LATER = 250, // milliseconds until this script checks again whether the page can be redrawn
  AGAIN = 1500; // milliseconds to wait for Streamlit to reconnect after the session has ended
let page = null; // the state that the page shows, { place, seen }, set by pages/_parts/browser.py
let tell = null;
let found = null; // revisions that the page does not show yet
let told = ""; // the revisions that were last sent to the server (JSON), so that they are sent only once
let askedAt = -Infinity,
  usedAt = performance.now(),
  timer = 0;

const isWatched = () => tell && !document.hidden && performance.now() - usedAt < USED;
const isNew = (revisions) =>
  JSON.stringify(revisions) !== told &&
  Object.entries(page.seen).some(([name, seen]) => JSON.stringify(seen) !== JSON.stringify(revisions[name]));
const isBusy = () => daybook.isRunning() || daybook.isCovered();

function wait(pause) {
  clearTimeout(timer);
  timer = setTimeout(look, pause);
}

async function look() {
  if (!isWatched()) return; // the timer starts again when the tab is shown or used
  if (found && !isBusy()) {
    told = JSON.stringify(found);
    tell(found);
    found = null;
  }
  const left = askedAt + PAUSE - performance.now();
  if (found || (left <= 0 && daybook.isRunning())) return wait(LATER);
  if (left > 0) return wait(left);
  askedAt = performance.now();
  const asked = page;
  try {
    const answer = await fetch(`/poll?${new URLSearchParams(asked.place)}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(4000),
    });
    const revisions = answer.ok ? await answer.json() : null;
    if (revisions && asked === page && isNew(revisions)) found = revisions;
    // the session has ended: Streamlit reconnects, but redraws the page only if this script asks it to
    if (answer.status === 401) {
      found = {};
      document.querySelector("dialog.db-find")?.close(); // no text stays in the page
      return wait(AGAIN);
    }
  } catch {} // connection.js reports an unreachable server
  wait(found ? 0 : PAUSE - (performance.now() - askedAt));
}

// Starts polling. Returns a function that stops the polling; Streamlit calls this function when the
// component is removed.
daybook.watchNews = (shown, tellServer) => {
  // `found` is dropped, because the next poll finds all changes since `shown` was read
  [page, tell, found] = [shown, tellServer, null];
  if (askedAt === -Infinity) askedAt = performance.now(); // the page is new, so the first poll waits
  wait(0);
  return () => {
    if (page === shown) tell = found = null;
  };
};

function use() {
  const wasWatched = isWatched();
  usedAt = performance.now();
  if (!wasWatched && isWatched()) wait(0);
}

for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"])
  addEventListener(kind, use, { capture: true, passive: true });
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else {
    usedAt = performance.now();
    wait(0);
  }
});
