// When a title or fact is edited in place, its text is selected, ready to be overwritten. Escape restores the
// old text; leaving the field unchanged also ends the editing.

const field = () => document.querySelector('[class*="st-key-editing-"] input');
const leave = () => document.querySelector('[class*="st-key-editing-"] button')?.click();
const isUnchanged = ({ value, dataset }) => value === dataset.was;

let drawn = null;

function begin(tries) {
  if (!drawn) return;
  if (!drawn.value && tries) return setTimeout(begin, 20, tries - 1); // React sets the value a moment later
  drawn.dataset.was = drawn.value;
  drawn.select();
}

daybook.onDraw(() => {
  if (field() === drawn) return;
  drawn = field();
  if (drawn) begin(50);
});

daybook.capture(window, "keydown", (event) => {
  const { target, key } = event;
  if (target !== field()) return;
  if (key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    daybook.typeInto(target, target.dataset.was);
    leave();
  } else if (key === "Enter" && isUnchanged(target)) leave();
});

daybook.capture(document, "focusout", ({ target }) => {
  if (target === field() && isUnchanged(target)) leave();
});
