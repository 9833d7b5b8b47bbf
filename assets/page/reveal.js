// An element with `data-reveal` that a press has opened far away is scrolled into view, once for each value.

let revealed = null;

daybook.onDraw(() => {
  const opened = document.querySelector("[data-reveal]");
  if (!opened || opened.dataset.reveal === revealed) return;
  revealed = opened.dataset.reveal;
  opened.scrollIntoView();
});
