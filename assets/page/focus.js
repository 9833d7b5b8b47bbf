// The composer gets the focus after a load, in a new chat and in an opened chat, and receives what is typed
// while no element has the focus. Never on touch screens: each focus would open the keyboard.

let isComing = false; // true while a reply streams
let place = null; // the address at which the composer was focused last

// Streamlit focuses the composer when a prompt is sent.
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
  if (here && isComing && !isNow && document.activeElement === document.body) focus(); // focus was on Stop
  isComing = isNow;
});

daybook.capture(document, "click", ({ target }) => {
  // also if the link leads to the chat that is open
  if (target.closest(daybook.LEADS)) place = null;
});

daybook.capture(window, "keydown", (event) => {
  const isCommand = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  // those keys scroll the page or open help
  const isPrinted = event.key?.length === 1 && !isCommand && ![" ", "?"].includes(event.key);
  const isNowhere = [document.body, daybook.page()].includes(document.activeElement);
  if (!isPrinted || !isNowhere || !daybook.composer()) return;
  event.stopPropagation(); // Streamlit has shortcuts of single letters
  focus();
});
