// When a title or fact is edited in place, its text is selected, ready to be overwritten. Escape and Cancel
// restore the old text; leaving the field unchanged also ends the editing. Then the focus returns to where
// it was before.

const field = () => document.querySelector('[class*="st-key-editing-"] input');
const cancel = () => document.querySelector('[class*="st-key-editing-"] [class*="st-key-leave-"] button');
const save = () => document.querySelector('[class*="st-key-editing-"] [class*="st-key-save-"] button');
const leave = () => cancel()?.click();
// `was` is not set at first if the field is empty, because `begin` waits up to a second for a value
const restore = () => daybook.typeInto(field(), field().dataset.was ?? "");
const isUnchanged = ({ value, dataset }) => value === dataset.was;

let drawn = null;
let opener = null; // the element that had the focus before the field

function begin(tries) {
  if (!drawn) return;
  if (!drawn.value && tries) return setTimeout(begin, 20, tries - 1); // React sets the value a moment later
  drawn.dataset.was = drawn.value;
  drawn.focus();
  drawn.select();
}

daybook.onDraw(() => {
  if (field() === drawn) return;
  drawn = field();
  if (drawn) {
    opener = daybook.lastPlace();
    begin(50);
  } else daybook.returnTo(opener);
});

daybook.capture(window, "keydown", (event) => {
  const { target, key } = event;
  if (target !== field()) return;
  if (key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    restore();
    leave();
  } else if (key === "Enter" && isUnchanged(target)) leave();
});

daybook.capture(document, "pointerdown", ({ target }) => {
  // restored on the press: the field loses the focus before the click, and losing the focus would save the
  // text
  if (cancel()?.contains(target)) restore();
});

daybook.capture(document, "click", ({ target }) => {
  // sends the text by taking the focus from the field: a screen reader presses Save without moving the focus
  if (save()?.contains(target)) field().blur();
});

// When the whole window loses the focus, the field stays as it is, and Streamlit does not save its text.
daybook.capture(window, "focusout", (event) => {
  if (event.target === field() && !document.hasFocus()) event.stopPropagation();
});

daybook.capture(document, "focusout", ({ target }) => {
  if (target === field() && isUnchanged(target)) leave();
});
