// Editing a message in place: its field gets the focus, Escape leaves the field, and Ctrl+Enter or Send
// brings the sent prompt into view. (Streamlit itself sends on Ctrl+Enter.) The server gets the text only
// when it is sent, so this script keeps it while another chat is shown.

const field = () => document.querySelector(":is(.st-key-edit-prompt, .st-key-edit-reply) textarea");
let drawn = null; // the field that was open when the page was last drawn; null: none
let edited = null; // the id of the message whose field is open
let left = null; // the id of the message whose field was closed; null once its Edit button has the focus
// the text of the field and the key of its element, kept while another chat or page is shown
let typed = { key: null, text: "" };

const key = () =>
  field()
    .closest('[class*="st-key-text-of-"]')
    .className.match(/st-key-text-of-\S+/)[0];

daybook.onDraw(() => {
  const now = field();
  if (now && now !== drawn) {
    daybook.leavePlace(); // the focus scrolls the page to the field, so the page must not keep its position
    if (typed.key === key()) daybook.typeInto(now, typed.text);
    now.focus();
    now.setSelectionRange(now.value.length, now.value.length);
  }
  if (!now && drawn) left = edited;
  drawn = now;
  const button = !now && left && document.querySelector(`button[data-act="edit"][data-message="${left}"]`);
  if (!button) return;
  left = null;
  if (document.activeElement === document.body) button.focus({ preventScroll: true });
});

function send() {
  edited = null;
  if (field().closest(".st-key-edit-prompt")) daybook.noteSent();
}

daybook.capture(document, "click", ({ target }) => {
  const button = target.closest('button[data-act="edit"]');
  if (button) [edited, typed] = [button.dataset.message, { key: null, text: "" }];
  if (target.closest(".st-key-send-message button")) send();
});

daybook.capture(document, "input", ({ target }) => {
  if (target === field()) typed = { key: key(), text: target.value };
});

daybook.capture(window, "keydown", (event) => {
  if (event.target !== field()) return;
  if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation(); // otherwise Escape would stop a reply
    document.querySelector(".st-key-leave-message button")?.click();
  } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
});
