// A phone's sidebar covers the page and stays open after a button in it; its state lives in the browser.

document.addEventListener("click", ({ target }) => {
  const leads = '[class*="st-key-open-"] button, .st-key-new-chat button';
  if (innerWidth >= 768 || !target.closest(leads)) return;
  const fold = '[data-testid="stSidebarCollapseButton"] button';
  setTimeout(() => document.querySelector(fold)?.click(), 80);
}, true);
