// Scrolls an element with `data-reveal` into view, once for each value, because the button that opened the
// element is elsewhere on the page. It does the same with each refusal on a page without a composer, because
// refusals are drawn below everything else there (pages/_parts/frame.py).

const REVEALED = '[data-reveal], .stApp:not(:has(.st-key-composer)) [class*="st-key-refusal-"]';
const revealed = new Set();

daybook.onDraw(() => {
  for (const one of document.querySelectorAll(REVEALED)) {
    const { reveal } = one.dataset,
      value = reveal ?? one.className.match(/st-key-refusal-\S+/)[0];
    if (revealed.has(value)) continue;
    revealed.add(value);
    one.scrollIntoView({ block: reveal ? "start" : "center" });
  }
});
