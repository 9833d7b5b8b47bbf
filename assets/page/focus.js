// The composer has the focus after a load, on a new chat and in a chat that was opened, and takes what is
// typed while nothing has it. Never on touch: each focus would open the keyboard.

let isComing = false; // a reply
let place = null; // the address where the composer has been given the focus

// Streamlit gives it the focus when something was sent.
HTMLTextAreaElement.prototype.focus = function (options) {
  if (daybook.isTouch() && this.closest(".st-key-composer")) return;
  HTMLElement.prototype.focus.call(this, options);
};

function focus() {
  const isBusy = document.activeElement?.matches("input, textarea, select") || daybook.isCovered();
  if (isBusy || daybook.isTouch()) return;
  HTMLElement.prototype.focus.call(daybook.composer(), { preventScroll: true });
}

daybook.onDraw(() => {
  const chat = new URLSearchParams(location.search).get("c");
  const here = daybook.composer() ? `${location.pathname}?${chat}` : null;
  if (here && here !== place) focus();
  place = here;
  const isNow = document.querySelector(".st-key-stop") !== null;
  if (here && isComing && !isNow && document.activeElement === document.body) focus(); // Stop had it
  isComing = isNow;
});

document.addEventListener(
  "click",
  ({ target }) => {
    // also where it leads to the chat that is open
    if (target.closest(daybook.LEADS)) place = null;
  },
  true,
);

addEventListener(
  "keydown",
  (event) => {
    const isCommand = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
    // those scroll and help
    const isPrinted = event.key?.length === 1 && !isCommand && ![" ", "?"].includes(event.key);
    const isNowhere = [document.body, daybook.page()].includes(document.activeElement);
    if (!isPrinted || !isNowhere || !daybook.composer()) return;
    event.stopPropagation(); // Streamlit has letters of its own
    focus();
  },
  true,
);
