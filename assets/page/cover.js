// Escape closes the topmost dialog or menu and returns the focus to the page. Streamlit alone would leave a
// popover open behind a dialog that was opened from it, and the popover would take the first Escape.
// Streamlit would also lose the focus if the focused element was redrawn meanwhile.

let place = null; // the element of the page that last had the focus or was last pressed
let isOwed = false; // true: once no dialog or menu is open, the focus must return to `place`

const isOnPage = (element) => !element.closest('[role="dialog"], [role="menu"], [role="listbox"], dialog');

// Returns true if no visible element has the focus: a closed <dialog> keeps the focus for a moment.
const isLost = () => document.activeElement === document.body || !document.activeElement.checkVisibility();

function giveBack() {
  if (daybook.isCovered()) isOwed = true;
  else if (isOwed && place && isLost()) {
    const found = daybook.redrawn(place);
    const opensKeyboard = daybook.isTouch() && found?.matches("input, textarea");
    if (!opensKeyboard) found?.focus({ preventScroll: true });
  }
}

// Returns the element of the page that last had the focus or was last pressed.
daybook.lastPlace = () => place;

// Returns the focus to `element`, or to the element that replaces it, once that is drawn; unless another
// element gets the focus, or a key or button is pressed before.
daybook.returnTo = (element) => {
  if (!isLost()) return;
  [place, isOwed] = [element, true];
  giveBack();
};

document.addEventListener("focusin", ({ target }) => {
  if (isOnPage(target)) place = target;
});

daybook.capture(window, "pointerdown", ({ target }) => {
  if (daybook.isCovered()) return;
  place = target.closest("button"); // stored here too, because Safari does not focus a pressed button
  isOwed = false;
});

daybook.capture(window, "keydown", (event) => {
  isOwed = daybook.isCovered();
  // Streamlit's dialog handles Escape only while the focus is in the dialog, which loses the focus if the
  // focused element is redrawn.
  const close = document.querySelector('[data-testid="stDialog"] button[aria-label="Close"]');
  const isBelow = document.querySelector("dialog[open]") !== null; // the sheet of shortcuts gets the key
  if (event.key !== "Escape" || !close || isBelow || !isOnPage(event.target)) return;
  event.stopPropagation(); // otherwise Escape would stop a reply
  close.click();
});
document.addEventListener("close", giveBack, true); // a native dialog was closed
daybook.onDraw(() => {
  const isOpen = document.querySelector('[data-testid="stDialog"], dialog[open]') !== null;
  if (isOpen)
    document
      .querySelector('[data-testid="stPopoverButton"][aria-expanded="true"]:not([role="dialog"] *)')
      ?.click();
  giveBack();
});
