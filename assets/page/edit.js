// Editing a message in place: its field gets the focus, Escape leaves the field, and Ctrl+Enter or Send
// brings the sent prompt into view. (Streamlit itself sends on Ctrl+Enter, and this script on Enter if
// Preferences say so.) The server gets the text only when it is sent, so drafts.js keeps it until the server
// has taken it, or until Escape or Cancel is pressed.

const field = () => document.querySelector(":is(.st-key-edit-prompt, .st-key-edit-reply) textarea");
let drawn = null; // the field that was open when the page was last drawn; null: none
let edited = null; // the Edit button of the message whose field is open; null: its text was sent
let sent = null; // the id of the sent message, until the page shows whether the server took its text
let isLeaving = false; // true while Escape waits for the button Cancel, which is drawn after the field

const id = () =>
  field()
    .closest('[class*="st-key-text-of-"]')
    .className.match(/st-key-text-of-(\S+)/)[1];

// Forgets the sent text once the page says that it was stored. The text is kept if it was refused, if the
// session had ended, or if a new session on the server ignored the press and closed the field.
function settle() {
  if (!sent) return;
  if (document.querySelector(`i[data-stored-edit="${sent}"]`)) daybook.keepEdited(sent, null);
  else if (daybook.isRunning()) return;
  sent = null;
}

function leave() {
  const cancel = document.querySelector(".st-key-leave-message button");
  isLeaving = !cancel && field() !== null;
  cancel?.click();
}

daybook.onDraw(() => {
  const now = field();
  if (isLeaving) leave();
  if (now && now !== drawn) {
    daybook.leavePlace(); // the focus scrolls the page to the field, so the page must not keep its position
    const { text, at } = daybook.edited(id());
    if (at) daybook.typeInto(now, text);
    now.focus();
    now.setSelectionRange(now.value.length, now.value.length);
  }
  if (!now) settle();
  if (!now && drawn && edited) daybook.returnTo(edited);
  drawn = now;
});

function send(event) {
  const place = field().closest(".st-key-edit-prompt, .st-key-edit-reply");
  if (daybook.isAway() || daybook.isTooLong(field().value.trim(), place)) {
    event.preventDefault();
    event.stopPropagation();
    return;
  }
  edited = null;
  sent = id();
  if (field().closest(".st-key-edit-prompt")) daybook.noteSent();
}

// Streamlit sends the field's text with a press of Cancel, too, and a text that is much too long would close
// the websocket. Returns true if the field was emptied.
function emptyIfTooLong() {
  if (!daybook.isTooLong(field().value)) return false;
  daybook.typeInto(field(), "");
  return true;
}

daybook.capture(document, "click", (event) => {
  const { target } = event;
  const button = target.closest('button[data-act="edit"]');
  if (button) edited = button;
  if (target.closest(".st-key-send-message button")) send(event);
  if (!target.closest(".st-key-leave-message button")) return;
  emptyIfTooLong();
  daybook.keepEdited(id(), null);
});

daybook.capture(document, "input", ({ target }) => {
  if (target === field()) daybook.keepEdited(id(), target.value);
});

daybook.capture(window, "keydown", (event) => {
  if (event.target !== field()) return;
  if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation(); // otherwise Escape would stop a reply
    if (emptyIfTooLong())
      setTimeout(leave); // Streamlit takes the empty text only after this listener
    else leave();
  } else if (event.key !== "Enter") return;
  else if (event.ctrlKey || event.metaKey) send(event);
  else if (daybook.entersSend(true) && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    event.stopPropagation();
    const keys = { key: "Enter", ctrlKey: true, bubbles: true, cancelable: true };
    event.target.dispatchEvent(new KeyboardEvent("keydown", keys));
  }
});
