// On a phone, the sidebar covers the page and would stay open after a chat or a page is chosen, so this
// script folds it. (The server cannot, because only the browser knows whether the sidebar is open.)

daybook.capture(document, "click", ({ target }) => {
  if (innerWidth >= 768 || !target.closest(`${daybook.LEADS}, .db-popover a`)) return;
  const fold = '[data-testid="stSidebarCollapseButton"] button';
  setTimeout(() => document.querySelector(fold)?.click(), 80);
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
