// Earlier messages come in above those that are read: Streamlit writes them into the elements of later ones, so the
// browser's own anchor is of no use. The first exchange stays where it is until they stand, or the reader moves on.

const SETTLED = 1500; // milliseconds after the last of them has come
const LONGEST = 10_000;

const messages = () => document.querySelectorAll('[data-testid="stChatMessage"]');

document.addEventListener("click", ({ target }) => {
  if (!target.closest(".st-key-earlier button")) return;
  const [name] = document.querySelector('[class*="st-key-exchange-"]').className.match(/st-key-exchange-\d+/);
  const top = () => document.querySelector(`.${name}`)?.getBoundingClientRect().top;
  const before = top();
  let count = messages().length;
  let until = performance.now() + LONGEST;
  for (const sign of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(sign, () => (until = 0), { once: true, passive: true });
  }
  function keep() {
    if (performance.now() > until) return;
    if (messages().length !== count) until = performance.now() + SETTLED;
    count = messages().length;
    daybook.page().scrollTop += (top() ?? before) - before;
    requestAnimationFrame(keep);
  }
  keep();
}, true);
