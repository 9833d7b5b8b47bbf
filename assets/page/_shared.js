// For the other scripts, which come after it, and for those that a component brings.

const drawn = [];
let frame = 0; // in which they are done

window.daybook = {
  // What leads to another chat.
  LEADS: 'button[data-act="open"], .st-key-new-chat button',

  // Has `act` done whenever something of the page was drawn, before that is seen: once a frame, for most acts
  // measure.
  onDraw(act) {
    drawn.push(act);
  },

  // What scrolls.
  page: () => document.getElementById("stMain"),

  composer: () => document.querySelector(".st-key-composer textarea"),

  // Whether something stands above the page that Escape closes.
  isCovered: () => document.querySelector('[role="dialog"], [role="menu"], dialog[open]') !== null,

  isRunning: () => document.querySelector('.stApp:not([data-test-script-state="notRunning"])') !== null,

  isTouch: () => matchMedia("(hover: none)").matches,

  // Says a sentence at the end of `place` until the next press.
  tell(place, sentence) {
    if (!place) return;
    place.querySelector(".db-told")?.remove();
    const line = document.createElement("p");
    line.className = "db-told";
    line.setAttribute("role", "alert");
    line.textContent = sentence;
    place.append(line);
    for (const sign of ["keydown", "pointerdown"])
      addEventListener(sign, () => line.remove(), { once: true, capture: true });
  },

  // React hears of a value only this way.
  typeInto(field, text) {
    const { set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value");
    set.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  },
};

new MutationObserver(() => {
  if (frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    for (const act of drawn) act();
  });
}).observe(document, { childList: true, subtree: true, attributeFilter: ["data-stale"] });
