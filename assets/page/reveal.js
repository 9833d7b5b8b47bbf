// Scrolls an element with `data-reveal` into view, once for each value, because the button that opened the
// element is elsewhere on the page.

let revealed = null;

daybook.onDraw(() => {
  const opened = document.querySelector("[data-reveal]");
  if (!opened || opened.dataset.reveal === revealed) return;
  revealed = opened.dataset.reveal;
  opened.scrollIntoView();
});
