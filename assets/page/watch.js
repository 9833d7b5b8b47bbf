// Reruns the page when the database becomes unreachable or reachable. A tab polls the app process only while
// the tab is in view; the process probes the database once for all tabs. A tab that is shown again is also
// rerun, to show changes made in other tabs. The page is not rerun while a dialog is open, because a rerun
// would close the dialog. After a reconnection the page is rerun, because the server may have a new session,
// which has not drawn any widget: without the rerun, the user's first press would do nothing.

const FIRST = 1000, // milliseconds until the first poll after an outage has begun
  USUAL = 8000, // maximum milliseconds between two polls
  AWAY = 1000, // milliseconds; a tab that was left for longer is rerun when it is shown again
  SOON = 300; // milliseconds until the page of a tab that is shown again or connected again is rerun
let tell = null; // the function that reruns the page, set by a component (pages/_parts/browser.py)
let isAway = false,
  timer = 0,
  pause = 0,
  owed = 0; // the timer of the rerun after a reconnection
let left = Infinity; // the time at which the user left the tab, in milliseconds since the epoch

function wait(next) {
  pause = Math.min(next, USUAL);
  clearTimeout(timer);
  timer = setTimeout(look, pause * (0.8 + 0.4 * Math.random()));
}

async function look() {
  let isNow = isAway;
  if (!document.hidden) {
    try {
      const { database } = await (await fetch("/healthz", { cache: "no-store" })).json();
      isNow = ["away", "starting"].includes(database);
    } catch {} // the server is unreachable, which connection.js reports
  }
  if (isNow !== isAway && !daybook.isCovered()) tell(isNow);
  wait(1.5 * pause);
}

daybook.watchDatabase = (isShownAway, tellServer) => {
  if (!tell || isAway !== isShownAway) wait(isShownAway ? FIRST : USUAL);
  [tell, isAway] = [tellServer, isShownAway];
};

// Reruns the page, unless the page is being drawn, or a rerun would close an open dialog or menu.
daybook.redraw = () => {
  if (!daybook.isRunning() && !daybook.isCovered()) tell?.(isAway);
};

// Reruns the page after a reconnection, once this closes no dialog or menu and loses no content.
function catchUp() {
  if (daybook.isCovered() || document.querySelector(daybook.KEPT)) owed = setTimeout(catchUp, SOON);
  else daybook.redraw();
}

// Not at the first connection, which is followed by a run. A hidden tab is rerun when it is shown.
new MutationObserver(() => {
  clearTimeout(owed);
  const isConnected = document.querySelector('.stApp[data-test-connection-state="CONNECTED"]');
  // after a delay, because Streamlit itself may request a run, for example during a reply
  if (tell && isConnected && !document.hidden) owed = setTimeout(catchUp, SOON);
}).observe(document, { subtree: true, attributeFilter: ["data-test-connection-state"] });

function leave() {
  left = Math.min(left, Date.now());
}

// Reruns the page after a short delay, so that a press that brings the tab back takes effect first.
function comeBack() {
  if (document.hidden) return;
  if (Date.now() - left > AWAY) setTimeout(daybook.redraw, SOON);
  left = Infinity;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) leave();
  else {
    if (tell) look();
    comeBack();
  }
});
addEventListener("blur", leave);
addEventListener("focus", comeBack);
