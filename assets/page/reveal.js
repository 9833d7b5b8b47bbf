// Scrolls an element with `data-reveal` into view when it appears, because the button or the page that opened
// it is elsewhere, and puts the focus on its first field, but not on touch screens, where it would open the
// keyboard. If it disappears with the focus, the button that opened it has the focus again. It scrolls to
// each refusal on a page without a composer, because refusals are drawn below everything else there
// (pages/_parts/frame.py).

const REVEALED = '[data-reveal], .stApp:not(:has(.st-key-composer)) [class*="st-key-refusal-"]';
const FIELDS = 'input:not([hidden], [type="hidden"], [type="checkbox"]), [type="submit"]';
let revealed = new Set();
let gone = ""; // the last that disappeared, until the next key or press: its button may be drawn later

for (const type of ["keydown", "pointerdown"]) daybook.capture(window, type, () => (gone = ""));

daybook.onDraw(() => {
  const shown = new Set();
  for (const one of document.querySelectorAll(REVEALED)) {
    const { reveal } = one.dataset,
      value = reveal ?? one.className.match(/st-key-refusal-\S+/)[0];
    shown.add(value);
    if (revealed.has(value)) continue;
    const field = reveal ? one.querySelector(FIELDS) : null;
    one.scrollIntoView({ block: reveal && !field ? "start" : "center" });
    if (!daybook.isTouch()) field?.focus({ preventScroll: true });
  }
  for (const name of revealed) if (!shown.has(name)) gone = CSS.escape(name);
  const opener = `:is(.st-key-${gone}, .st-key-open-${gone}) :is(button, input)`;
  if (gone && document.activeElement === document.body) document.querySelector(opener)?.focus();
  revealed = shown;
});
