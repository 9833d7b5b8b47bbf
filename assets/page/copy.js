// A button with `data-copy` (base64) copies that text to the clipboard, if the browser allows it. When the
// user copies selected text, or code by Streamlit's button, this script removes the word joiners: invisible
// characters by which pages/_parts/safe_md.py keeps Streamlit from making links.

const { clipboard } = navigator; // undefined without https
const write = (text) => Clipboard.prototype.writeText.call(clipboard, text);
const withoutJoiners = (text) => text.replaceAll("\u2060", "");
if (clipboard) clipboard.writeText = (text) => write(withoutJoiners(text));

// Copies the text of `button`. Returns true if the browser allows it.
daybook.copy = async (button) => {
  const bytes = Uint8Array.from(atob(button.dataset.copy), (byte) => byte.charCodeAt(0));
  const writing = clipboard && write(new TextDecoder().decode(bytes));
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

document.addEventListener("copy", (event) => {
  const selected = String(getSelection()),
    text = withoutJoiners(selected);
  if (text === selected) return;
  event.clipboardData.setData("text/plain", text);
  event.preventDefault();
});
