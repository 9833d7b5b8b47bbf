// The page "Your data": shows how much data this browser stores, and handles the button that clears the data.

const DRAFTS = "daybook-draft:";

function figures() {
  const names = Object.keys(localStorage);
  const drafts = names.filter((name) => name.startsWith(DRAFTS)).length;
  const bytes = new Blob(names.map((name) => name + localStorage[name])).size;
  return `${drafts} unsent ${drafts === 1 ? "draft" : "drafts"}, ${(bytes / 1000).toFixed(1)} kB in all`;
}

daybook.onDraw(() => {
  for (const place of document.querySelectorAll("[data-tab-figures]")) {
    const text = figures();
    if (place.textContent !== text) place.textContent = text;
  }
});

document.addEventListener("click", ({ target }) => {
  if (!target.closest("[data-clear-tab]")) return;
  localStorage.clear();
  sessionStorage.clear();
  location.search = "?reason=cleared"; // the reload also starts a new session on the server
});
