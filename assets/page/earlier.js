// Earlier messages come in above those that are read: Streamlit writes them into the elements of later ones, so the
// browser's own anchor is of no use. The first exchange stays where it is until they stand, or the reader moves on.

const SETTLED = 1000; // milliseconds after which they stand
const LONGEST = 10_000;

const page = () => document.querySelector('[data-testid="stAppScrollToBottomContainer"]');
const exchanges = () => document.querySelectorAll('[class*="st-key-exchange-"]');

document.addEventListener("click", ({ target }) => {
  if (!target.closest(".st-key-earlier button")) return;
  const [name] = exchanges()[0].className.match(/st-key-exchange-\d+/);
  const top = () => document.querySelector(`.${name}`)?.getBoundingClientRect().top;
  const before = top();
  let count = exchanges().length;
  let until = performance.now() + LONGEST;
  for (const sign of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(sign, () => (until = 0), { once: true, passive: true });
  }
  function keep() {
    if (performance.now() > until) return;
    if (exchanges().length !== count) until = performance.now() + SETTLED;
    count = exchanges().length;
    page().scrollTop += (top() ?? before) - before;
    requestAnimationFrame(keep);
  }
  keep();
}, true);
