// Ctrl+Enter sends. On touch Enter begins a new line instead: there is no Shift to press with it.

function noteSent() {
  daybook.noteSent();
  daybook.noteDraftSent();
  daybook.noteUnanswered();
}

addEventListener("keydown", (event) => {
  const isEnter = event.key === "Enter" && !event.isComposing;
  if (!isEnter || event.target !== daybook.composer()) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    document.querySelector('[data-testid="stChatInputSubmitButton"]')?.click();
  } else if (daybook.isTouch()) event.stopPropagation(); // Streamlit would send
  else if (!event.shiftKey && !event.altKey) noteSent();
}, true);

document.addEventListener("click", ({ target }) => {
  if (target.closest('[data-testid="stChatInputSubmitButton"]')) noteSent();
}, true);
