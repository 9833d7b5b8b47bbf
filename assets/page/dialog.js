// The focus in dialogs. If a dialog begins with a text field, the field gets the focus when the dialog
// opens, but not on touch screens, where it would open the keyboard. Streamlit's popovers are dialogs, too,
// but Streamlit leaves the focus behind them: their selected radio button or first control gets it, and Tab
// goes round inside. A focused element that is redrawn or removed leaves the focus to its successor in the
// dialog.

const STOPS = "a[href], button, input, select, summary, textarea, [tabindex]";

const popover = () => document.querySelector('[data-testid="stPopoverBody"]');
const modal = () => document.querySelector('[data-testid="stDialog"] [role="dialog"]');

let opened = null; // the dialog that was open at the last redraw
let isFresh = false; // true: no key or button has been pressed since `opened` was drawn
let last = null; // the element in `opened` that last had the focus

// Returns the elements in `dialog` that Tab reaches, in order: of radio buttons, the selected one.
const stops = (dialog) =>
  [...dialog.querySelectorAll(STOPS)].filter(
    (element) => element.tabIndex >= 0 && !element.disabled && element.checkVisibility(),
  );

// Returns the element with which the user begins in `dialog`, or the dialog itself.
function beginning(dialog) {
  const all = stops(dialog),
    [field] = dialog.querySelectorAll(daybook.FIELD);
  if (dialog === popover()) return all.find(({ type }) => type === "radio") ?? all[0] ?? dialog;
  const isText = field?.matches('textarea, input:not([type]), [type="text"]:not([role])');
  return isText && !daybook.isTouch() ? field : dialog;
}

function focus(element) {
  if (element === document.activeElement) return;
  if (element === opened) element.tabIndex = -1;
  element.focus();
  if (element.matches('textarea, [type="text"]'))
    element.setSelectionRange(element.value.length, element.value.length);
}

daybook.onDraw(() => {
  const dialog = modal() ?? popover(),
    here = document.activeElement;
  if (dialog !== opened) [opened, isFresh, last] = [dialog, true, null];
  if (!dialog) return;
  const isInside = dialog !== here && dialog.contains(here);
  // a popover's radio buttons may be drawn after its other controls
  if (isFresh && (!isInside || dialog === popover())) focus(beginning(dialog));
  else if (here === document.body) {
    const again = last && last.type !== "radio" ? daybook.redrawn(last) : null;
    focus(dialog.contains(again) ? again : beginning(dialog));
  }
});

document.addEventListener("focusin", ({ target }) => {
  if (target !== opened && opened?.contains(target)) last = target;
});

for (const type of ["keydown", "pointerdown"]) daybook.capture(window, type, () => (isFresh = false));

daybook.capture(window, "keydown", (event) => {
  if (event.key !== "Tab" || !popover() || modal()) return;
  const all = stops(popover()),
    here = all.indexOf(document.activeElement);
  if (here >= 0 && here !== (event.shiftKey ? 0 : all.length - 1)) return;
  event.preventDefault();
  all.at(event.shiftKey ? -1 : 0)?.focus();
});
