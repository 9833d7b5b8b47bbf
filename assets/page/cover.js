// Escape closes what is on top, at once, and the focus returns to where it was. Streamlit leaves a popover
// open below the dialog that it opened, where it takes the first Escape, and loses the focus where its place
// was drawn anew meanwhile.

let place = null; // what had the focus last on the page, or was pressed there
let isOwed = false; // the focus, to `place`: something above the page was closed, and nothing was done since

const isOnPage = (element) => !element.closest('[role="dialog"], [role="menu"], [role="listbox"], dialog');

// A closed dialog of the browser's own keeps the focus for a moment.
const isLost = () => document.activeElement === document.body || !document.activeElement.checkVisibility();

// The element as it is drawn now.
function find(element) {
  if (element.isConnected) return element;
  const key = element.closest('[class*="st-key-"]')?.className.match(/st-key-[\w-]+/)[0];
  const data = ["act", "chat", "message"].filter((name) => name in element.dataset);
  if (!key && !data.length) return null;
  const named = data.map((name) => `[data-${name}="${element.dataset[name]}"]`).join("");
  const options = "options" in element.dataset ? "[data-options]" : "";
  return document.querySelector(`${key ? `.${key} ` : ""}${element.localName}${named}${options}`);
}

function giveBack() {
  if (daybook.isCovered()) isOwed = true;
  else if (isOwed && place && isLost()) {
    const found = find(place);
    const opensKeyboard = daybook.isTouch() && found?.matches("input, textarea");
    if (!opensKeyboard) found?.focus({ preventScroll: true });
  }
}

document.addEventListener("focusin", ({ target }) => {
  if (isOnPage(target)) place = target;
});

addEventListener(
  "pointerdown",
  ({ target }) => {
    if (daybook.isCovered()) return;
    place = target.closest("button"); // which Safari does not focus
    isOwed = false;
  },
  true,
);

addEventListener("keydown", () => (isOwed = daybook.isCovered()), true);
document.addEventListener("close", giveBack, true); // of the browser's own dialog
daybook.onDraw(() => {
  const isOpen = document.querySelector('[data-testid="stDialog"], dialog[open]') !== null;
  if (isOpen)
    document
      .querySelector('[data-testid="stPopoverButton"][aria-expanded="true"]:not([role="dialog"] *)')
      ?.click();
  giveBack();
});
