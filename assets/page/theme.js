// Applies the theme chosen in Preferences to every page. Streamlit stores a theme in the browser for each
// path, and reads it only when a page is loaded.

// a reload would lose Undo, too
const KEPT = `${daybook.KEPT}, .st-key-undo [class*="st-key-undo-"]:not([class*="st-key-undo-news-"])`;
const KEY = "daybook-theme",
  PATHS = ["/", "/memory", "/usage", "/data", "/account", "/admin"];
// the theme that this page shows; another tab may have stored a different one since
let shown = localStorage.getItem(KEY) ?? "system";

function apply() {
  // popovers and dialogs are drawn outside .stApp and need the scheme as well
  document.documentElement.style.colorScheme = shown === "system" ? "" : shown;
  const name = JSON.stringify(shown[0].toUpperCase() + shown.slice(1));
  for (const path of PATHS) daybook.store(`stActiveTheme-${path}-v2`, name);
}

apply();

// Returns true if the page shows content that a reload would lose, or is being drawn: a script run removes
// the line of Undo before it draws what was restored. An expired Undo does not count: its animation
// (style.css) hides it, but it stays in the page until the page is redrawn.
const isKept = () =>
  daybook.isRunning() ||
  [...document.querySelectorAll(KEPT)].some((one) => getComputedStyle(one).visibility === "visible");

function follow() {
  const theme = document.querySelector("i[data-theme]")?.dataset.theme ?? shown;
  if (theme === shown || isKept() || daybook.isPosting()) return;
  shown = theme;
  if (!daybook.store(KEY, shown)) return; // after a reload, the page would have the same theme as before
  apply();
  location.reload();
}

daybook.onDraw(follow);
daybook.capture(document, "animationend", follow);
