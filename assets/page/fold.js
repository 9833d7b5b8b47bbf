// On a phone, the sidebar covers the page and would stay open after a chat or a page is chosen, so this
// script folds it. (The server cannot, because only the browser knows whether the sidebar is open.)

const isPhone = () => innerWidth < 768;

daybook.capture(document, "click", ({ target }) => {
  if (!isPhone() || !target.closest(`${daybook.LEADS}, .db-popover a, .db-find a`)) return;
  const fold = '[data-testid="stSidebarCollapseButton"] button';
  setTimeout(() => document.querySelector(fold)?.click(), 80);
});

// Makes a phone that reloads the page, perhaps by itself, show the page and not an unfolded sidebar, whose
// state Streamlit keeps in local storage.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "hidden" || !isPhone()) return;
  for (const name of Object.keys(localStorage))
    if (name.startsWith("stSidebarCollapsed-")) localStorage.removeItem(name);
});

// Adds a “New chat” button at the right end of the header; it is shown while the sidebar is folded.
daybook.onDraw(() => {
  const header = document.querySelector('[data-testid="stHeader"]');
  if (!header || header.querySelector(".db-new")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "db-new";
  button.title = button.ariaLabel = "New chat";
  button.innerHTML = '<span class="db-icon" aria-hidden="true">edit_square</span>';
  button.addEventListener("click", () => document.querySelector(".st-key-new-chat button")?.click());
  header.append(button);
});
