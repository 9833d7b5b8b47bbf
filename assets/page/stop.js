// Escape stops a reply. Streamlit handles the key once the Stop button is drawn, but the first words are
// drawn earlier. So an Escape during drawing is kept until the button is there, unless another key or button
// is pressed first.

const stopButton = () => document.querySelector(".st-key-stop button");
const isPopoverOpen = () => document.querySelector('[data-testid="stPopoverBody"]') !== null;
let isAsked = false;

// on the document: a script that stops the event on the window keeps the key to itself
daybook.capture(document, "keydown", ({ key }) => {
  if (key === "Escape")
    isAsked = !stopButton() && daybook.isRunning() && !daybook.isCovered() && !isPopoverOpen();
  else if (key === "Enter") isAsked = false;
});
document.addEventListener("click", () => (isAsked = false), true);

daybook.onDraw(() => {
  if (!isAsked || !stopButton()) return;
  isAsked = false;
  stopButton().click();
});
