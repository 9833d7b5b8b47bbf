// Streamlit writes earlier messages into the elements of later ones, so the browser's own anchor is of no use:
// what stands below keeps its distance from the end instead, until the run is over or the reader scrolls.

const isRunning = () => document.querySelector(".stApp")?.dataset.testScriptState !== "notRunning";

function keep(distance, until, isOver) {
  if (isOver.now) return;
  daybook.page().scrollTop = daybook.page().scrollHeight - distance;
  if (isRunning()) until = performance.now() + 500;
  if (performance.now() < until) requestAnimationFrame(() => keep(distance, until, isOver));
}

document.addEventListener("click", ({ target }) => {
  if (!target.closest(".st-key-earlier button")) return;
  const isOver = { now: false };
  for (const sign of ["wheel", "touchmove", "keydown", "pointerdown"]) {
    addEventListener(sign, () => (isOver.now = true), { once: true, passive: true });
  }
  keep(daybook.page().scrollHeight - daybook.page().scrollTop, performance.now() + 2000, isOver);
}, true);
