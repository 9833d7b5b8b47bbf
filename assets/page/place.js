// A conversation's end is in view as soon as it is drawn: Streamlit would scroll there, for half a second.
// Whoever moves the page meanwhile stays where they are.

const SETTLED = 1500; // milliseconds after which all of it has been drawn
let opened = null; // the conversation whose messages stand on the page
let until = 0;

function jump() {
  const page = daybook.page();
  if (!page || performance.now() > until) return;
  if (page.scrollHeight - page.clientHeight - page.scrollTop >= 1) {
    page.scrollTop = page.scrollHeight;
    page.dispatchEvent(new Event("wheel")); // ends a scroll that Streamlit has begun
  }
  // tells Streamlit the new height, else it takes the reader's next move for growth and scrolls back
  page.dispatchEvent(new Event("focus"));
}

function keep() {
  jump();
  if (performance.now() < until) requestAnimationFrame(keep);
}

daybook.onDraw(() => {
  const named = new URLSearchParams(location.search).get("c");
  const last = [...document.querySelectorAll('[data-testid="stChatMessage"]')].at(-1);
  if (!last) opened = null;
  else if (named && named !== opened && last.querySelector('[data-stale="false"]')) { // else still the one before
    opened = named;
    until = performance.now() + SETTLED;
    keep();
  } else jump();
});

for (const act of ["pointerdown", "wheel", "touchmove", "keydown"]) {
  addEventListener(act, ({ target, isTrusted }) => {
    const isTyping = act === "keydown" && target.closest?.("input, textarea");
    if (isTrusted && !isTyping) until = 0;
  }, { capture: true, passive: true });
}
