// What stands in a button's `data-copy`, in base64, goes to the clipboard, if the browser lets it; what is
// selected and copied goes there without the word joiners that part what Streamlit would make a link of.

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-copy]");
  if (!button) return;
  const bytes = Uint8Array.from(atob(button.dataset.copy), (byte) => byte.charCodeAt(0));
  const writing = navigator.clipboard?.writeText(new TextDecoder().decode(bytes)); // none without https
  const isCopied = await writing?.then(
    () => true,
    () => false,
  );
  const show = (icon, label) => ([button.dataset.icon, button.ariaLabel] = [icon, label]);
  show(...(isCopied ? ["check", "Copied"] : ["block", "Copy failed"]));
  setTimeout(() => show("content_copy", button.title), 1400);
});

document.addEventListener("copy", (event) => {
  const text = String(getSelection());
  if (!text.includes("\u2060")) return;
  event.clipboardData.setData("text/plain", text.replaceAll("\u2060", ""));
  event.preventDefault();
});
