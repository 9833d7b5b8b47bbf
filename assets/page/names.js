// Streamlit leaves a toast without a name, and gives a menu its label with the escapes of Markdown in it.

daybook.onDraw(() => {
  for (const toast of document.querySelectorAll('[data-testid="stToast"]:not([aria-label])')) {
    toast.removeAttribute("aria-labelledby");
    toast.setAttribute("aria-label", toast.innerText);
  }
  for (const menu of document.querySelectorAll('[role="menu"]')) {
    const name = menu.ariaLabel?.replace(/\\(.)/g, "$1");
    if (name && name !== menu.ariaLabel) menu.ariaLabel = name;
  }
});
