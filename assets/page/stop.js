// Escape stops a reply: Streamlit hears it once Stop is drawn, but the first words are drawn before. So an
// Escape while the page is being drawn is kept until Stop is there, unless something else is done first.

const stopButton = () => document.querySelector(".st-key-stop button");
const isPopoverOpen = () => document.querySelector('[data-testid="stPopoverBody"]') !== null;
let isAsked = false;

// on the document: a key that another script keeps for itself on the window is not heard here
document.addEventListener(
  "keydown",
  ({ key }) => {
    if (key === "Escape")
      isAsked = !stopButton() && daybook.isRunning() && !daybook.isCovered() && !isPopoverOpen();
    else if (key === "Enter") isAsked = false;
  },
  true,
);
document.addEventListener("click", () => (isAsked = false), true);

daybook.onDraw(() => {
  if (!isAsked || !stopButton()) return;
  isAsked = false;
  stopButton().click();
});
