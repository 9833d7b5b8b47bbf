// What a press far above has opened comes into view: an element with `data-reveal`, once for each value.

let revealed = null;

daybook.onDraw(() => {
  const opened = document.querySelector("[data-reveal]");
  if (!opened || opened.dataset.reveal === revealed) return;
  revealed = opened.dataset.reveal;
  opened.scrollIntoView();
});
