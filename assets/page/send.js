// Ctrl+Enter sends, a text that is too long stays. On touch Enter begins a new line instead: there is no Shift to press with it.

const LONGEST = 200_000; // bytes: services/domain/limits.py refuses more, and a websocket that brings much more is closed
const SUBMIT = '[data-testid="stChatInputSubmitButton"]';

// Keeps a text that is too long from being sent, and says so.
function keeps(event) {
  const text = daybook.composer()?.value.trim() ?? "";
  if (3 * text.length <= LONGEST || new Blob([text]).size <= LONGEST) return false;
  event.preventDefault();
  event.stopImmediatePropagation();
  daybook.tell(document.querySelector('[data-testid="stBottom"]'), "This message is too long. Send it in parts.");
  return true;
}

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
    document.querySelector(SUBMIT)?.click();
  } else if (daybook.isTouch()) event.stopPropagation(); // Streamlit would send
  else if (!event.shiftKey && !event.altKey && !keeps(event)) noteSent();
}, true);

document.addEventListener("click", (event) => {
  if (event.target.closest(SUBMIT) && !keeps(event)) noteSent();
}, true);
