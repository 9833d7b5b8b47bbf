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

_COPY_ICON = (
    '<svg width="16" height="16" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
    'stroke-width="1.9" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
)
_COPY = component(
    "copy_reply",
    html=f"""<button type="button" aria-label="Copy reply" title="Copy">
      {_COPY_ICON}<g class="copy"><rect x="9" y="9" width="11" height="11" rx="2"/>
      <path d="M5 15H4.5A1.5 1.5 0 0 1 3 13.5v-9A1.5 1.5 0 0 1 4.5 3h9A1.5 1.5 0 0 1 15 4.5V5"/></g>
      <path class="done" d="M5 12.5l4.5 4.500L19 7.5"/></svg></button>""",
    css="""
      button { all: unset; box-sizing: border-box; display: grid; place-items: center; width: 2rem; height: 2rem;
        border-radius: .375rem; cursor: pointer; color: color-mix(in srgb, var(--st-text-color) 66%, transparent) }
      button:hover { background: color-mix(in srgb, var(--st-text-color) 8%, transparent); color: var(--st-text-color) }
      button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px }
      .done, .copied .copy { display: none } .copied .done { display: inline }
      @media (hover: none) { button { width: 2.5rem; height: 2.5rem } }""",
    js="""export default function ({ data, parentElement }) {
      const button = parentElement.querySelector("button");
      const name = (copied) => {
        button.classList.toggle("copied", copied);
        button.setAttribute("aria-label", copied ? "Copied" : "Copy reply");
      };
      button.onclick = async () => {
        await navigator.clipboard.writeText(data.text);
        name(true);
        setTimeout(() => name(false), 1400);
      };
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


def copy_button(text: str, key: str) -> None:
    """A button that copies *text* as it was written."""
    _COPY(data={"text": text}, key=key, width="content", height="content")


def reload() -> None:
    """Load the page again, with whatever the browser's cookie opens now; at most every ten seconds."""
    _RELOAD(key="reload")
