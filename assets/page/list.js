// The menus of rows and messages. A menu is a native popover, created for the pressed button and closed by
// the browser. If a focused button of the list or of a message is redrawn or removed, the focus moves to the
// redrawn button or to the button that takes its place; the switch of a temporary chat is redrawn, too.

const KEPT = ".db-list button, .db-versions button, .st-key-earlier button, .st-key-is-temporary input";

let menu = null;
let opener = null; // the button whose menu is open, or was closed by the click that is being handled
let focused = null; // the button with the focus, in the list or below a message
let first = null; // the first button in the list of messages at the time of the last click

function forgetMenu() {
  opener.ariaExpanded = "false";
  menu = opener = null;
}

function open(button) {
  const { options, icon, ...about } = button.dataset;
  if (opener) opener.ariaExpanded = "false";
  opener = button;
  opener.ariaExpanded = "true";
  menu = document.createElement("div");
  menu.className = "db-menu db-popover";
  menu.popover = "auto";
  menu.role = "menu";
  menu.ariaLabel = button.ariaLabel ?? button.textContent;
  menu.append(
    ...options.split("|").map((choice) => {
      const item = document.createElement("button");
      item.role = "menuitem";
      item.textContent = choice;
      Object.assign(item.dataset, about, { act: "choose", choice });
      return item;
    }),
  );
  menu.addEventListener("toggle", ({ newState, target }) => {
    if (newState === "open") return;
    target.remove();
    if (target === menu) forgetMenu();
  });
  document.body.append(menu);
  menu.showPopover();
  const { left, top, bottom } = button.getBoundingClientRect();
  const below = bottom + 4 + menu.offsetHeight < innerHeight;
  menu.style.top = `${below ? bottom + 4 : Math.max(8, top - 4 - menu.offsetHeight)}px`;
  menu.style.left = `${Math.min(left, innerWidth - menu.offsetWidth - 8)}px`;
  menu.firstChild.focus();
}

document.addEventListener("click", ({ target }) => {
  first = document.querySelector(".st-key-thread [data-act]");
  const button = target.closest("button[data-options]");
  if (button && button !== opener) {
    button.focus(); // so that the browser returns the focus to this button when the menu closes
    open(button);
  } else if (target.closest("[role=menuitem]") && menu?.contains(target)) menu.hidePopover();
});

daybook.capture(window, "keydown", (event) => {
  if (!menu) return;
  const items = [...menu.children],
    here = items.indexOf(document.activeElement);
  const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: -1 }[event.key];
  if (to !== undefined) items.at(to % items.length).focus();
  else if (["Escape", "Tab"].includes(event.key)) {
    menu.hidePopover();
    forgetMenu(); // the toggle event comes later, and the next key may press the same button again
  }
  if (to === undefined && event.key !== "Escape") return;
  event.preventDefault();
  event.stopPropagation(); // otherwise Escape would stop a reply
});

// a button focused by the pointer is not stored, because text typed after that must go to the composer
document.addEventListener(
  "focusin",
  ({ target }) => (focused = target.closest(`:is(${KEPT}):focus-visible`)),
);
daybook.capture(window, "keydown", ({ target }) => (focused = target.closest(KEPT)));
addEventListener("pointerdown", () => (focused = null), true);

// Returns the button that takes the place of `focused`, a button that was removed when it was pressed.
function successor() {
  const { act, options } = focused.dataset;
  if (act === "show") {
    const { versions } = focused.closest(".db-versions").dataset;
    const find = (button) => document.querySelector(`[data-versions="${versions}"] ${button}:enabled`);
    return find(`[aria-label="${focused.ariaLabel}"]`) ?? find("button");
  }
  if (act === "older") {
    const { length } = focused.closest(".db-list").querySelectorAll(".db-row");
    return document.querySelectorAll('[data-act="open"]')[length]; // the first added row
  }
  if (act?.endsWith("archive")) return document.querySelector('[data-act$="archive"]');
  return first && !act && !options ? daybook.redrawn(first) : null;
}

daybook.onDraw(() => {
  if (!focused || focused.isConnected || document.activeElement !== document.body) return;
  (daybook.redrawn(focused) ?? successor())?.focus({ preventScroll: true });
});
