// A button with `data-copy` (base64) copies that text to the clipboard, if the browser allows it. When the
// user copies selected text, this script removes the word joiners that keep Streamlit from making links.

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-copy]");
  if (!button) return;
  const bytes = Uint8Array.from(atob(button.dataset.copy), (byte) => byte.charCodeAt(0));
  // browsers offer the clipboard only with https
  const writing = navigator.clipboard?.writeText(new TextDecoder().decode(bytes));
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
});

document.addEventListener("copy", (event) => {
  const text = String(getSelection());
  if (!text.includes("\u2060")) return;
  event.clipboardData.setData("text/plain", text.replaceAll("\u2060", ""));
  event.preventDefault();
});
