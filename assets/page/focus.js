// The composer gets the focus after a load and when a chat is opened or begun. It also gets the keys that
// are typed while no element, or only a switch on the page, has the focus. On the sign-in page, the field
// that was refused has it, or the first one. All this is off on touch screens, where each focus would open
// the keyboard.

let isComing = false; // true while a reply streams
let place = null; // the path and the chat of the page that was last drawn; null: a page without a composer
let entered = null; // the form of the sign-in page that was in view at the last redraw, if there was one

// On touch screens, keeps Streamlit from focusing the composer, which it would do after each sent prompt.
HTMLTextAreaElement.prototype.focus = function (options) {
  if (daybook.isTouch() && this.closest(".st-key-composer")) return;
  HTMLElement.prototype.focus.call(this, options);
};

function focus() {
  const isField = document.activeElement?.matches('input:not([role="switch"]), textarea, select');
  const isBusy = isField || daybook.isCovered();
  if (isBusy || daybook.isTouch()) return;
  HTMLElement.prototype.focus.call(daybook.composer(), { preventScroll: true });
}

daybook.onDraw(() => {
  const chat = new URLSearchParams(location.search).get("c");
  const here = daybook.composer() ? `${location.pathname}?${chat}` : null;
  if (here && here !== place) focus();
  place = here;
  const isNow = document.querySelector(".st-key-stop") !== null;
  // the composer gets the focus once the Stop button, which had the focus, has disappeared
  if (here && isComing && !isNow && document.activeElement === document.body) focus();
  isComing = isNow;
});

daybook.onDraw(() => {
  const all = document.querySelectorAll(`.st-key-login .db-form ${daybook.FIELD}:not([type="checkbox"])`);
  const shown = [...all].filter((field) => field.offsetParent);
  const form = shown[0]?.form ?? null,
    field = shown.find((candidate) => candidate.ariaInvalid) ?? shown[0];
  const isNew = form !== entered;
  entered = form;
  if (form && isNew && document.activeElement === document.body && !daybook.isTouch()) field.focus();
});

daybook.capture(document, "click", ({ target }) => {
  // reset, so that the composer gets the focus even if the chosen chat is already open
  if (target.closest(daybook.LEADS)) place = null;
});

daybook.capture(window, "keydown", (event) => {
  const isCommand = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  // excludes the space bar, which scrolls the page
  const isPrinted = event.key?.length === 1 && !isCommand && event.key !== " ";
  const here = document.activeElement;
  // a pressed switch keeps the focus, so the first space in a typed message would switch it back
  const isNowhere = [document.body, daybook.page()].includes(here) || here?.matches('main [role="switch"]');
  if (!isPrinted || !isNowhere || !daybook.composer()) return;
  event.stopPropagation(); // otherwise Streamlit would take the letter as one of its shortcuts
  focus();
});
