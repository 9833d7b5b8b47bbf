"""The little that only a script in the browser can do."""

from streamlit.components.v2 import component

# A phone's sidebar covers the page and stays open after a button in it; its state lives in the browser.
_FOLD = component(
    "fold_sidebar",
    html="<i hidden></i>",
    js="""export default function () {
      if (window.__daybookFolds) return;
      window.__daybookFolds = true;
      document.addEventListener("click", (event) => {
        const leads = '[class*="st-key-open-"] button, .st-key-new-chat button';
        if (innerWidth >= 768 || !event.target.closest(leads)) return;
        const fold = '[data-testid="stSidebarCollapseButton"] button';
        setTimeout(() => document.querySelector(fold)?.click(), 80);
      }, true);
    }""",
)

# `messages` writes such buttons as plain HTML: a component for each would cost a page of twenty dearly.
_COPY = component(
    "copy_replies",
    html="<i hidden></i>",
    js="""export default function () {
      if (window.__daybookCopies) return;
      window.__daybookCopies = true;
      document.addEventListener("click", async (event) => {
        const button = event.target.closest("button[data-copy]");
        if (!button) return;
        const bytes = Uint8Array.from(atob(button.dataset.copy), (byte) => byte.charCodeAt(0));
        await navigator.clipboard.writeText(new TextDecoder().decode(bytes));
        const name = (copied) => {
          button.classList.toggle("copied", copied);
          button.setAttribute("aria-label", copied ? "Copied" : "Copy reply");
        };
        name(true);
        setTimeout(() => name(false), 1400);
      });
    }""",
)

_RELOAD = component(
    "reload_page",
    html="<i hidden></i>",
    js="""export default function () {
      const pause = Number(sessionStorage.getItem("daybookReloaded")) + 10_000 - Date.now();
      setTimeout(() => {
        sessionStorage.setItem("daybookReloaded", Date.now());
        location.reload();
      }, Math.max(0, pause));
    }""",
)


def fold_sidebar_on_phones() -> None:
    """Have the sidebar fold when something in it leads elsewhere."""
    _FOLD(key="fold", height="content")


def copy_on_click() -> None:
    """Have the buttons with `data-copy` copy what stands in it."""
    _COPY(key="copies", height="content")


def reload() -> None:
    """Load the page again, with whatever the browser's cookie opens now; at most every ten seconds."""
    _RELOAD(key="reload")
