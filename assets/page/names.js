// Corrects accessible names: Streamlit names popovers and expanders by the Markdown source of their labels.
// Icons in text are hidden from screen readers, which would read out the names of their glyphs.

const JOINER = "\u2060";
const RAW = [":material/", "\\\\", JOINER].map((part) => `[aria-label*="${part}"]`).join();

// the hint "Press Ctrl+Enter to submit form", whose text changes while the user types
const HINT = /^Press (.+) to (submit form|apply)$/;

daybook.onDraw(() => {
  for (const hint of document.querySelectorAll('[data-testid="InputInstructions"] > *')) {
    const [, keys] = hint.textContent.match(HINT) ?? [];
    if (!keys) continue;
    const isMessage = hint.closest(".st-key-edit-prompt, .st-key-edit-reply") !== null;
    const shown = isMessage && daybook.entersSend(true) ? "Enter" : keys;
    hint.textContent = `${shown} to ${hint.closest(".st-key-edit-prompt") ? "send" : "save"}`;
  }
  for (const named of document.querySelectorAll(RAW)) {
    const name = named.ariaLabel
      .replace(/:material\/\w+:\s*/g, "")
      .replace(/\\(.)/g, "$1")
      .replaceAll(JOINER, "");
    if (name !== named.ariaLabel) named.ariaLabel = name;
  }
  for (const icon of document.querySelectorAll('span[role="img"][translate="no"]:not([aria-hidden])')) {
    icon.ariaHidden = "true";
  }
});
