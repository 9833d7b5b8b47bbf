// Keeps the focus of the keyboard: if a focused button of the list or of a message is redrawn or removed,
// the focus moves to the redrawn button or to the button that takes its place. The openers of menus and the
// switch of a temporary chat are redrawn, too. After the last notice, what follows it has the focus.

const KEPT = [
  ".db-list button, .db-versions button, .st-key-earlier button, .st-key-is-temporary input",
  '[class*="st-key-notice-"] button',
  daybook.OPENERS,
].join();

let focused = null; // the button with the focus, in the list or below a message
let first = null; // the first button in the list of messages at the time of the last click

document.addEventListener("click", () => {
  first = document.querySelector(".st-key-thread [data-act]");
});

// a button focused by the pointer is not stored, because text typed after that must go to the composer
document.addEventListener(
  "focusin",
  ({ target }) => (focused = target.closest(`:is(${KEPT}):focus-visible`)),
);
daybook.capture(window, "keydown", ({ target }) => (focused = target.closest(KEPT)));
addEventListener("pointerdown", () => (focused = null), true);

// Returns the button that takes the place of `focused`, a button that was removed when it was pressed.
function successor() {
  const { act, options } = focused.dataset;
  if (act === "show") {
    const { versions } = focused.closest(".db-versions").dataset;
    const find = (button) => document.querySelector(`[data-versions="${versions}"] ${button}:enabled`);
    return find(`[aria-label="${focused.ariaLabel}"]`) ?? find("button");
  }
  if (act === "older") {
    const { length } = focused.closest(".db-list").querySelectorAll(".db-row");
    return document.querySelectorAll('[data-act="open"]')[length]; // the first added row
  }
  if (focused.closest('[class*="st-key-notice-"]'))
    return daybook.composer() ?? document.querySelector(`#stMain :is(button, ${daybook.FIELD}):enabled`);
  if (act?.endsWith("archive")) return document.querySelector('[data-act$="archive"]');
  return first && !act && !options ? daybook.redrawn(first) : null;
}

daybook.onDraw(() => {
  if (!focused || focused.isConnected || document.activeElement !== document.body) return;
  (daybook.redrawn(focused) ?? successor())?.focus({ preventScroll: true });
});
