// All menus. A menu is a native popover, created for the pressed button and closed by the browser. Its
// items are named in the button's `data-options`, or are the buttons and links in the <template> after the
// button, whose paragraphs are drawn above the items. Arrow keys, Home, End and letters move the focus;
// Escape returns it to the button, and Tab leaves.

let menu = null;
let opener = null; // the button whose menu is open, or was closed by the click that is being handled

const items = () => [...menu.querySelectorAll('[role="menuitem"]')];

function forgetMenu() {
  opener.ariaExpanded = "false";
  menu = opener = null;
}

// Returns the elements of the menu of `button`: its items, and the paragraphs above them.
function contents({ dataset: { options, icon, ...about }, nextElementSibling: template }) {
  if (options === undefined) return [...template.content.cloneNode(true).children];
  return options.split("|").map((choice) => {
    const item = document.createElement("button");
    item.textContent = choice;
    Object.assign(item.dataset, about, { act: "choose", choice });
    return item;
  });
}

function open(button) {
  if (opener) opener.ariaExpanded = "false";
  opener = button;
  opener.ariaExpanded = "true";
  menu = document.createElement("div");
  menu.className = "db-menu db-popover";
  menu.popover = "auto";
  const list = document.createElement("div");
  list.role = "menu";
  list.ariaLabel = button.ariaLabel ?? button.textContent.trim();
  for (const part of contents(button)) {
    const isItem = part.localName !== "p";
    if (isItem) part.role = "menuitem";
    if (part.pathname === location.pathname) part.ariaCurrent = "page";
    (isItem ? list : menu).append(part);
  }
  menu.append(list);
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
  menu.style.left = `${Math.max(8, Math.min(left, innerWidth - menu.offsetWidth - 8))}px`;
  items()[0].focus();
}

document.addEventListener("click", (event) => {
  const { target } = event,
    button = target.closest(daybook.OPENERS),
    item = menu?.contains(target) && target.closest('[role="menuitem"]');
  if (button && button !== opener) {
    button.focus(); // so that the browser returns the focus to this button when the menu closes
    open(button);
  } else if (item) {
    menu.hidePopover();
    if (!event.defaultPrevented) document.getElementById(item.dataset.submits)?.requestSubmit();
    if (!item.href || event.ctrlKey || event.metaKey || event.shiftKey) return; // the last three: a new tab
    event.preventDefault();
    // as the browser's Back button does, so that Streamlit opens the page without loading anew
    history.pushState(null, "", item.href);
    dispatchEvent(new PopStateEvent("popstate"));
  }
});

daybook.capture(window, "keydown", (event) => {
  if (!menu) return;
  const { key } = event,
    all = items(),
    here = all.indexOf(document.activeElement);
  const isLetter = key.length === 1 && key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
  const isLink = key === " " && document.activeElement.href !== undefined; // buttons hear Space by themselves
  const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: -1 }[key];
  if (to !== undefined) all.at(to % all.length).focus();
  else if (isLetter) {
    const inOrder = [...all.slice(here + 1), ...all.slice(0, here + 1)];
    inOrder
      .find(({ textContent }) => textContent.trim().toLowerCase().startsWith(key.toLowerCase()))
      ?.focus();
  } else if (isLink) document.activeElement.click();
  else if (["Escape", "Tab"].includes(key)) {
    menu.hidePopover();
    forgetMenu(); // the toggle event comes later, and the next key may press the same button again
  }
  if (to === undefined && !isLetter && !isLink && key !== "Escape") return;
  event.preventDefault();
  event.stopPropagation(); // otherwise Escape would stop a reply, and a letter be a shortcut of Streamlit
});
