// Drafts stay in the browser, one for each chat and tab, until they are sent or the user signs out, but at
// most for a month. Tabs do not share drafts, but a tab without a draft takes over the draft of a closed
// tab. A Streamlit component (pages/_parts/browser.py) calls `keepDrafts` after a script run. The composer
// then contains a draft or a refused prompt, or is empty because its text was sent. The texts of edited
// messages are drafts, too (edit.js).

const DRAFTS = "daybook-draft:",
  MONTH = 30 * 24 * 3600 * 1000,
  MINUTE = 60 * 1000,
  TAB = "daybookTab",
  // the storage key for the id of a user who signs out, the name of that tab and the time, until a later page
  // knows if the session has ended
  LEAVING = "daybook-leaving",
  LOCK = "daybook-tab:";
let tab = sessionStorage.getItem(TAB) ?? named(); // the name of this tab, which survives a reload
let person = null;
// the conversation that the composer's text belongs to: its id, "new", or "temporary" (never stored)
let place = null;
let drawn = null; // the chat in the URL when the component was last called
// the draft before the text that was typed since the URL names another chat; null: no such text
let base = null;
let last = ""; // the text that this tab last stored or showed
let count = 0; // the number of prompts that the chat had when the component was last called
let unstored = []; // texts sent in a temporary chat that have not become prompts of the chat yet
let returned = []; // sent texts that were put back into the composer
let isCut = false; // true: the connection was lost or restored after the last text was sent
let rest = 0; // seconds for which the page has been connected without a script run in progress

const unsaved = new Map(); // drafts that are only in memory, by their storage keys

const keyOf = (name) => `${DRAFTS}${person}:${name}:${tab}`;
const key = () => keyOf(place);
const read = (name) => {
  try {
    return { text: "", sent: [], ...(unsaved.get(name) ?? JSON.parse(localStorage.getItem(name))) };
  } catch {
    return { text: "", sent: [] };
  }
};
const stored = () => read(key()).text;
// Returns the texts sent from this place that may not have become prompts yet. `after` is the number of
// prompts that the chat had when a text was sent.
const sentHere = () => (place === "temporary" ? unstored : read(key()).sent);

function named() {
  const name = Math.random().toString(36).slice(2);
  sessionStorage.setItem(TAB, name);
  return name;
}

// Acquires a lock with the name of this tab, by which other tabs see that this tab is open. Locks need https;
// without them, no tab takes over a draft.
function hold() {
  navigator.locks?.request(LOCK + tab, { ifAvailable: true }, (lock) => {
    if (lock) return new Promise(() => {}); // the lock is held until the tab closes
    tab = named(); // this tab was duplicated from another tab, so it gets a new name
    hold();
  });
}

hold();

const inUrl = () => new URLSearchParams(location.search).get("c");
const textOf = (sent) => sent.map(({ text }) => text).join("\n\n");
const joined = (sent, text) => (text.startsWith(sent) ? text : text ? `${sent}\n\n${text}` : sent);

// Returns the texts in `sent` that have not become prompts of the chat. `chat.prompts` contains the lengths
// and beginnings of the last prompts. A sent text stays in the draft, with any text typed later, until it
// has become a prompt, because another script run may replace the run that should store the prompt.
function unsaid(chat, sent = sentHere()) {
  const first = chat.count - chat.prompts.length; // the number of prompts before `chat.prompts`
  // the last prompt of a chat is always compared, because the page may show a shorter branch now
  const last = chat.place === "new" ? chat.count : chat.count - 1;
  return sent.filter(({ text, after }) => {
    // earlier prompts may have the same text, so only those after the sending are compared
    const since = chat.prompts.slice(Math.max(0, Math.min(after, last) - first));
    return !since.some(([length, start]) => text.trim().length === length && text.trim().startsWith(start));
  });
}

// Removes the sent texts that were put back into the composer from the beginning of `text`, if they have
// become prompts after all. Returns the rest.
function withoutReturned(chat, text) {
  const again = textOf(returned);
  if (!again || unsaid(chat, returned).length) return text;
  returned = [];
  return text.startsWith(again) ? text.slice(again.length).trimStart() : text;
}

// Stores `draft`, or keeps it in memory if it must not be stored or if local storage is full; null: drops it.
function write(name, draft, isStored = true) {
  unsaved.delete(name);
  localStorage.removeItem(name);
  if (draft && !(isStored && daybook.store(name, JSON.stringify(draft)))) unsaved.set(name, draft);
}

function save(text, sent = sentHere()) {
  last = text;
  unstored = place === "temporary" ? sent : [];
  if (place !== "temporary") write(key(), text || sent.length ? { text, sent, at: Date.now() } : null);
}

function show(text) {
  last = text;
  if (daybook.composer().value !== text) daybook.typeInto(daybook.composer(), text);
}

// Removes the newest prompt of the conversation `data` from the new chat's draft, if it was sent from there.
function dropBegun(data) {
  if (place !== "new") returned = []; // these texts belong to another place
  place = "new";
  const newest = { ...data, prompts: data.prompts.slice(-1) },
    text = withoutReturned(newest, stored()),
    sent = unsaid(newest);
  if (text !== stored() || sent.length < sentHere().length) save(text, sent);
}

// Shows the draft of `data.place`, above the text that was `typed` there before the component was called.
function arrive(data, typed = "") {
  dropBegun(data);
  [place, returned] = [data.place, []];
  const draft = joined(data.given ?? textOf(unsaid(data)), stored());
  // `given` is a refused prompt: Streamlit has already put it into the composer, so `typed` repeats it
  show(data.given ? draft : joined(draft, typed));
  save(daybook.composer().value, []);
  takeOver(data);
}

async function takeOver(data) {
  const here = `${DRAFTS}${person}:${place}:`;
  const isHere = () => key().startsWith(here) && daybook.composer()?.value === "";
  const others = () => Object.keys(localStorage).filter((name) => name.startsWith(here) && name !== key());
  if (place === "temporary" || !navigator.locks || !isHere() || !others().length) return;
  const { held } = await navigator.locks.query(),
    open = new Set(held.map(({ name }) => name));
  const left = others()
    .filter((name) => !open.has(LOCK + name.slice(here.length)))
    .sort((a, b) => read(b).at - read(a).at);
  for (const name of left) {
    const { text, sent } = read(name),
      found = joined(textOf(unsaid(data, sent)), text);
    if (found && !isHere()) continue;
    localStorage.removeItem(name);
    if (found) show(found);
  }
}

// Returns the draft of an edited message (without `at` if there is none). Only its own tab shows this draft.
daybook.edited = (message) => read(keyOf(message));

// Keeps the text of an edited message, in a temporary chat only in memory; `text` null: forgets the text.
daybook.keepEdited = (message, text) => {
  const isTemporary = place === "temporary" || document.querySelector(".st-key-temporary-sign"),
    draft = text === null ? null : { text, sent: [], at: Date.now() };
  write(keyOf(message), draft, place !== null && !isTemporary);
};

daybook.noteDraftSent = () => {
  [isCut, returned, base] = [false, [], null];
  if (last) save("", [...sentHere(), { text: last, after: count }]);
};

new MutationObserver(() => (isCut = true)).observe(document, {
  subtree: true,
  attributeFilter: ["data-test-connection-state"],
});

// Puts a sent text back into the composer if it has not become a prompt by the time the page is connected
// again: Streamlit does not send it a second time.
setInterval(() => {
  const isConnected = document.querySelector('.stApp[data-test-connection-state="CONNECTED"]');
  rest = isConnected && !daybook.isRunning() ? rest + 1 : 0;
  if (!isCut || rest < 2 || place === null || !daybook.composer() || !sentHere().length) return;
  returned = sentHere();
  show(joined(textOf(returned), last));
  save(last, []);
}, 1000);

daybook.keepDrafts = (data) => {
  if (!daybook.composer()) {
    setTimeout(daybook.keepDrafts, 50, data); // the composer is not drawn yet
    return; // without a value, because Streamlit would call a returned function when it removes the component
  }
  if (person !== data.person) noteUser(data.person);
  const before = place,
    isSame = before === data.place || data.is_begun,
    typed = isSame ? withoutReturned(data, daybook.composer().value) : daybook.composer().value,
    isAnother = person !== null && person !== data.person,
    draft = base;
  [person, count, drawn, base] = [data.person, data.count, inUrl(), null];
  if (isAnother) arrive(data);
  else if (before === null) arrive(data, typed);
  else if (before === data.place) {
    if (data.given) {
      // Streamlit does not set the same value twice, so this script shows the refused prompt, and below it
      // any text typed since
      show(joined(data.given, last));
      save(daybook.composer().value, []);
    } else {
      const left = unsaid(data);
      show(typed);
      if (typed || left.length < sentHere().length) save(typed, left);
    }
  } else if (
    (data.place === "temporary" && before === "new") ||
    (data.is_begun && (typed || before !== "temporary"))
  ) {
    // the new chat became a conversation, or was switched to or from temporary: the typed text stays with it
    save("", []);
    place = data.place;
    show(typed);
    save(typed, []);
  } else if (draft !== null && typed.startsWith(draft)) {
    save(draft);
    arrive(data, typed.slice(draft.length));
  } else arrive(data);
};

// While the page has no composer, `place` is null: text that is typed later belongs to the next page.
daybook.onDraw(() => {
  if (daybook.composer()) return;
  const isHere = inUrl() === place;
  if (place !== null && isHere && document.querySelector(".st-key-way-out")) {
    // the chat was deleted on another device: its draft becomes the new chat's draft
    const text = last;
    save("", []);
    place = "new";
    save(joined(stored(), text));
  }
  [place, last, returned] = [null, "", []];
});

function drop(isOver) {
  for (const name of Object.keys(localStorage)) {
    if (name.startsWith(DRAFTS) && isOver(name)) localStorage.removeItem(name);
  }
}

drop((name) => !(read(name).at > Date.now() - MONTH));

// A page that follows a sign-out or the deletion of the account drops the user's drafts, unless the session
// still exists because the request was refused or did not reach the server. A response other than 401 does
// not show that it exists: another user may have signed in, or it may end after the page of another tab has
// loaded.
const [leaving, leavingTab, leavingAt] = (localStorage.getItem(LEAVING) ?? "").split(":");

function dropLeft() {
  localStorage.removeItem(LEAVING);
  drop((name) => name.startsWith(`${DRAFTS}${leaving}:`));
}

if (leaving)
  fetch("/poll", { cache: "no-store" }).then(
    ({ status }) => status === 401 && dropLeft(),
    () => {},
  );

// Drops the drafts of the user who signed out if `user`, the page's user, is another. If the same user is
// signed in, the session was not ended; in a tab other than that of the sign-out, this is certain after a
// minute.
function noteUser(user) {
  if (leaving && leaving !== user) dropLeft();
  else if (leavingTab === tab || Date.now() - leavingAt > MINUTE) localStorage.removeItem(LEAVING);
}

daybook.capture(document, "submit", ({ target }) => {
  const who = target.dataset.person; // `person` is not known on a page without a composer
  if (who && !daybook.store(LEAVING, [who, tab, Date.now()].join(":")))
    drop((name) => name.startsWith(`${DRAFTS}${who}:`)); // because the next page cannot know that `who` left
});

daybook.capture(document, "input", ({ target }) => {
  if (place === null || target !== daybook.composer()) return;
  // stored here until the other chat, to which it belongs, is drawn
  if (inUrl() !== drawn) base ??= last;
  save(target.value);
});

addEventListener("storage", ({ key: changed }) => {
  // null: the page "Your data", in another tab, has cleared all drafts of this browser
  if (changed !== null) return;
  unsaved.clear();
  if (place !== null && daybook.composer()) show("");
});
