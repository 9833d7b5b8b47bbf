// Ctrl+Enter sends. A text that is too long is not sent and stays in the composer, as does any text while a
// reply streams or the server cannot be reached; a line says why. Whether Enter sends, too, is chosen in
// Preferences. By default it does not on touch screens, which have no Shift key for new lines. If a prompt is
// sent while the page draws the beginning or the end of a reply, this script sends the prompt once the page
// is drawn.

// bytes; services/domain/limits.py refuses longer texts, and much longer ones would close the websocket
const LONGEST = 200_000;
const HINT = `${daybook.control}+Enter sends. Preferences can make Enter send, too.`;
const WAIT = "Wait for the reply to finish, or press Stop. Your message is kept.";
const SUBMIT = '[data-testid="stChatInputSubmitButton"]';
const submit = () => document.querySelector(SUBMIT);
// Returns the Stop button. Streamlit marks it as stale after a reply and while the page is being drawn.
const stop = () => document.querySelector(".st-key-stop");
let isHinted = false; // true once the page has said which keys send
let isSent = false; // true: a prompt was sent, and the Stop button may not be drawn yet
let waiting = 0; // the id of the animation frame in which sending is tried again; 0: none

function cancel() {
  cancelAnimationFrame(waiting);
  waiting = 0;
}

const grouped = (number) => number.toLocaleString("en");
const tooLong = (size) =>
  `This message is too long (${grouped(size)} of ${grouped(LONGEST)} bytes). Send it in parts.`;
const bottom = () => document.querySelector('[data-testid="stBottom"]');

// Returns true if `text` is too long to be sent; a line at the end of `place`, if given, says so.
daybook.isTooLong = (text, place) => {
  const size = 3 * text.length > LONGEST ? new Blob([text]).size : 0;
  if (size > LONGEST) daybook.tell(place, tooLong(size));
  return size > LONGEST;
};

// Says once which keys send, on a tablet, which may have a keyboard.
function hint() {
  if (isHinted || !daybook.isTouch() || !matchMedia("(min-width: 40rem)").matches) return;
  isHinted = true;
  daybook.tell(bottom(), HINT);
}

// Returns true if the composer's text can be sent now. If not, a line says why; or, if the page is only
// being drawn, the text is sent once the page is drawn.
function isFree() {
  cancel();
  const text = daybook.composer().value.trim();
  if (!text) return true;
  if (daybook.isAway()) return false;
  if (daybook.isTooLong(text, bottom())) return false;
  if (stop()?.dataset.stale === "false") daybook.tell(bottom(), WAIT);
  else if (daybook.isRunning() && (stop() || isSent))
    waiting = requestAnimationFrame(() => submit()?.click());
  else return true;
  return false;
}

function noteSent() {
  if (!daybook.composer().value.trim()) return; // Streamlit does not send an empty text
  isSent = true;
  // first, because a sent text that stays a draft would come back if the other functions failed
  daybook.noteDraftSent();
  daybook.noteSent();
  daybook.noteUnanswered();
}

function hold(event) {
  event.preventDefault();
  event.stopPropagation();
}

daybook.capture(window, "keydown", (event) => {
  cancel();
  const isEnter = event.key === "Enter" && !event.isComposing;
  if (!isEnter || event.target !== daybook.composer()) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    submit()?.click();
  } else if (!daybook.entersSend()) {
    event.stopPropagation(); // otherwise Streamlit would send the text
    hint();
  } else if (!event.shiftKey && !event.altKey) isFree() ? noteSent() : hold(event);
});

daybook.capture(document, "click", (event) => {
  if (event.target.closest(SUBMIT)) isFree() ? noteSent() : hold(event);
  else cancel();
});

daybook.onDraw(() => {
  if (stop()) isSent = false;
});
