// Ctrl+Enter sends, a text that is too long stays. On touch Enter begins a new line instead: there is no
// Shift to press with it. While a reply comes the composer stays open, but nothing is sent: the text stays,
// and a line says so. What is sent while the page is about to draw the end of a reply, or its beginning,
// waits for that.

// bytes: services/domain/limits.py refuses more, and a websocket that brings much more is closed
const LONGEST = 200_000;
const TOO_LONG = "This message is too long. Send it in parts.";
const WAIT = "Wait for the reply to finish, or press Stop. Your message is kept.";
const SUBMIT = '[data-testid="stChatInputSubmitButton"]';
const submit = () => document.querySelector(SUBMIT);
// after a reply, and while the page is drawn, it is stale
const stop = () => document.querySelector(".st-key-stop");
let isSent = false; // and Stop may not be drawn yet
let waiting = 0; // the frame in which it is tried again

function cancel() {
  cancelAnimationFrame(waiting);
  waiting = 0;
}

const tell = (sentence) => daybook.tell(document.querySelector('[data-testid="stBottom"]'), sentence);

// Whether what is in the composer can be sent now; if not, it is sent once the page is drawn, or the page
// says why not.
function isFree() {
  cancel();
  const text = daybook.composer().value.trim();
  if (!text) return true; // which Streamlit does not send
  if (3 * text.length > LONGEST && new Blob([text]).size > LONGEST) tell(TOO_LONG);
  else if (stop()?.dataset.stale === "false") tell(WAIT);
  else if (daybook.isRunning() && (stop() || isSent))
    waiting = requestAnimationFrame(() => submit()?.click());
  else return true;
  return false;
}

function noteSent() {
  isSent = true;
  daybook.noteSent();
  daybook.noteDraftSent();
  daybook.noteUnanswered();
}

function hold(event) {
  event.preventDefault();
  event.stopPropagation();
}

addEventListener(
  "keydown",
  (event) => {
    cancel();
    const isEnter = event.key === "Enter" && !event.isComposing;
    if (!isEnter || event.target !== daybook.composer()) return;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      submit()?.click();
    } else if (daybook.isTouch())
      event.stopPropagation(); // Streamlit would send
    else if (!event.shiftKey && !event.altKey) isFree() ? noteSent() : hold(event);
  },
  true,
);

document.addEventListener(
  "click",
  (event) => {
    if (event.target.closest(SUBMIT)) isFree() ? noteSent() : hold(event);
    else cancel();
  },
  true,
);

daybook.onDraw(() => {
  if (stop()) isSent = false;
});
