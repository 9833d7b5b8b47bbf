// Helpers for the other page scripts, which are loaded after this file, and for the scripts of Streamlit
// components.

// Safari before 17.4 does not have it
Element.prototype.checkVisibility ??= function () {
  return this.getClientRects().length > 0;
};

const drawn = [];
let frame = 0; // the id of the animation frame in which the functions in `drawn` will run; 0: none
// the storage key of the choice in Preferences whether Enter sends, and the choice that this page last showed
const ENTER = "daybook-enter";
let enter = null;

window.daybook = {
  // The CSS selector of the buttons that open another chat.
  LEADS: 'button:is([data-act="open"], [data-act="continue"]), .st-key-new-chat button',

  // The CSS selector of the buttons that open a menu (menu.js).
  OPENERS: "button[data-options], button:has(+ template)",

  // The CSS selector of visible fields.
  FIELD: ':is(input:not([type="hidden"], [hidden]), textarea)',

  // The CSS selector of content that a new session on the server would not draw again: an edited message,
  // title or fact, a temporary chat, choices for a new chat, a refused prompt, and the link of an invitation.
  KEPT: [
    '.st-key-edit-prompt, .st-key-edit-reply, [class*="st-key-editing-"]',
    '.st-key-temporary-sign, i[data-chosen], [class*="st-key-refusal-"] [class*="st-key-dismiss-"]',
    ".st-key-invitation-link",
  ].join(),

  // Registers `act`, a function that is called in the animation frame after each change of the page and after
  // each start and end of a script run, before the change is painted; at most once per frame, because most of
  // these functions measure elements, which forces a layout.
  onDraw(act) {
    drawn.push(act);
  },

  // Calls `act` with each event of `type` before the listeners of elements inside `target` get the event.
  capture: (target, type, act) => target.addEventListener(type, act, true),

  // Returns the element whose scroll position is the page's.
  page: () => document.getElementById("stMain"),

  composer: () => document.querySelector(".st-key-composer textarea"),

  // Returns true if a dialog or menu that Escape closes is open above the page.
  isCovered: () => document.querySelector('[role="dialog"], [role="menu"], dialog[open]') !== null,

  // Returns the element to which a native dialog is added: Streamlit makes all outside its dialog inert.
  front: () => document.querySelector('[data-testid="stDialog"] [role="dialog"]') ?? document.body,

  // Returns `element`, or the element that replaced it when it was redrawn.
  redrawn(element) {
    if (element.isConnected) return element;
    const data = ["act", "chat", "message", "place"].filter((name) => name in element.dataset);
    const key = element.closest('[class*="st-key-"]')?.className.match(/st-key-[\w-]+/)[0];
    if (!data.length) return key ? document.querySelector(`.${key} ${element.localName}`) : null;
    const named = data.map((name) => `[data-${name}="${element.dataset[name]}"]`).join("");
    const options = "options" in element.dataset ? "[data-options]" : "";
    return document.querySelector(`${element.localName}${named}${options}`);
  },

  isRunning: () => document.querySelector('.stApp:not([data-test-script-state="notRunning"])') !== null,

  isTouch: () => matchMedia("(hover: none)").matches,

  // Returns true if Enter sends the composer's text or, if `isEdited`, that of an edited message.
  entersSend(isEdited = false) {
    const chosen = enter ?? localStorage.getItem(ENTER) ?? "device";
    return chosen === "device" ? !isEdited && !daybook.isTouch() : chosen === "always";
  },

  // Returns true for the key of `letter`, or for its place on a keyboard without Latin letters.
  isKey: ({ key, code }, letter, place) =>
    key?.toLowerCase() === letter || (code === place && key?.length === 1 && key > "~"),

  // The key that is held for shortcuts.
  control: /^Mac|^iP/.test(navigator.platform) ? "⌘" : "Ctrl",

  // Shows a sentence at the end of `place` until the next key press or click; with the class `name`
  // "db-outcome", as a line of the bar at the bottom left.
  tell(place, sentence, name = "db-told") {
    if (!place) return;
    place.querySelector(`.${name}`)?.remove();
    const line = document.createElement("p");
    line.className = name;
    line.setAttribute("role", "alert");
    line.textContent = sentence;
    place.append(line);
    // not on "pointerdown": if the line were removed then, the elements below it would move away from the
    // pointer before the press becomes a click
    for (const sign of ["keydown", "click"])
      addEventListener(sign, () => line.remove(), { once: true, capture: true });
  },

  // Stores `value` in local storage. Returns false if local storage is full.
  store(name, value) {
    try {
      localStorage.setItem(name, value);
      return true;
    } catch {
      return false;
    }
  },

  // Sets the value of a field by the native setter and an `input` event: React ignores a plain assignment.
  typeInto(field, text) {
    const { set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value");
    set.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  },
};

daybook.onDraw(() => {
  const shown = document.querySelector("i[data-enter]")?.dataset.enter ?? enter;
  if (shown !== enter) daybook.store(ENTER, shown); // for the next page, until it is drawn
  enter = shown;
});

// Hides key presses that belong to an input method (for example for Japanese) from all other scripts. Safari
// marks such key presses only by the key code 229.
daybook.capture(window, "keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) event.stopImmediatePropagation();
});

new MutationObserver(() => {
  if (frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    for (const act of drawn) {
      try {
        act();
      } catch (error) {
        reportError(error); // the other functions are called all the same
      }
    }
  });
}).observe(document, {
  childList: true,
  subtree: true,
  attributeFilter: ["data-stale", "data-test-script-state"],
});
