// What stands in a button's `data-copy`, in base64, goes to the clipboard.

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-copy]");
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
