// A button with `data-copy` (base64) copies that text to the clipboard, if the browser allows it. When the
// user copies selected text, or code by Streamlit's button, this script removes the word joiners: invisible
// characters by which pages/_parts/safe_md.py keeps Streamlit from making links. In selected text, a formula
// becomes its TeX between dollars.

const { clipboard } = navigator; // undefined without https
const write = (text) => Clipboard.prototype.writeText.call(clipboard, text);
const withoutJoiners = (text) => text.replaceAll("\u2060", "");
if (clipboard) clipboard.writeText = (text) => write(withoutJoiners(text));

// Returns the text that `button` copies.
daybook.copied = (button) =>
  new TextDecoder().decode(Uint8Array.from(atob(button.dataset.copy), (byte) => byte.charCodeAt(0)));

// Copies the text of `button`. Returns true if the browser allows it.
daybook.copy = async (button) => {
  const writing = clipboard && write(daybook.copied(button));
  const isCopied = await writing?.then(
    () => true,
    () => false,
  );
  const show = (icon, label) => {
    if (button.dataset.icon) [button.dataset.icon, button.ariaLabel] = [icon, label];
    else button.textContent = label;
  };
  show(...(isCopied ? ["check", "Copied"] : ["block", "Copy failed"]));
  setTimeout(() => show("content_copy", button.title), 1400);
  return isCopied === true;
};

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-copy]");
  if (button) daybook.copy(button);
});

// Returns the selected text, in which TeX stands for each formula: it does on the page, too, for a moment.
function selectedText() {
  const selection = getSelection();
  const formulas = [...document.querySelectorAll(".katex")].filter((formula) =>
    selection.containsNode(formula, true),
  );
  if (!formulas.length) return String(selection);
  const range = selection.getRangeAt(0);
  const { endContainer, endOffset } = range;
  const last = formulas.find((formula) => formula.contains(endContainer));
  if (last) range.setEndAfter(last);
  const tex = formulas.map((formula) => {
    const source = formula.querySelector("annotation").textContent.trim();
    const isWide = formula.parentElement.matches(".katex-display");
    const text = document.createElement("span");
    text.textContent = isWide ? `$$\n${source}\n$$` : `$${source}$`;
    formula.classList.add("db-as-tex");
    formula.append(text);
    return text;
  });
  const text = String(selection);
  for (const span of tex) {
    span.parentElement.classList.remove("db-as-tex");
    span.remove();
  }
  range.setEnd(endContainer, endOffset);
  return text;
}

document.addEventListener("copy", (event) => {
  const text = withoutJoiners(selectedText());
  if (text === String(getSelection())) return;
  event.clipboardData.setData("text/plain", text);
  event.preventDefault();
});
