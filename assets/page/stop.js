// Escape stops a reply. Streamlit handles the key once the Stop button is drawn, but the first words of the
// reply appear before that. If Escape is pressed in between, this script presses Stop as soon as the
// button is drawn, unless the user presses Enter or a button first.

const stopButton = () => document.querySelector(".st-key-stop button");
let isAsked = false;

// listens on the document, because scripts that listen on the window get the event first and may stop it
daybook.capture(document, "keydown", ({ key }) => {
  if (key === "Escape") isAsked = !stopButton() && daybook.isRunning() && !daybook.isCovered();
  else if (key === "Enter") isAsked = false;
});
document.addEventListener("click", () => (isAsked = false), true);

daybook.onDraw(() => {
  if (!daybook.isRunning()) isAsked = false;
  if (!isAsked || !stopButton()) return;
  isAsked = false;
  stopButton().click();
});
