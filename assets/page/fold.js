// On a phone, the sidebar covers the page and stays open after a press of its buttons, so it is folded here.
// The browser holds its state.

daybook.capture(document, "click", ({ target }) => {
  if (innerWidth >= 768 || !target.closest(daybook.LEADS)) return;
  const fold = '[data-testid="stSidebarCollapseButton"] button';
  setTimeout(() => document.querySelector(fold)?.click(), 80);
});

// While the sidebar is folded, New chat stands at the right of the page's header.
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
