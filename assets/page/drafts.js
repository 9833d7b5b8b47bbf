// Drafts stay in the browser, one a conversation, until they stand in it or the user signs out, and for a month at most.
// A component (pages/_parts/browser.py) calls `keepDrafts` after a run: the composer then holds a draft, nothing (sent),
// or a prompt that was refused.

const DRAFTS = "daybook-draft:", MONTH = 30 * 24 * 3600 * 1000;
let person = null;
let place = null; // the conversation of what is in the composer, "new" or "temporary", where no draft is
let last = ""; // what this tab has written or shown
let isShowing = false;

const key = () => `${DRAFTS}${person}:${place}`;
const parse = (stored) => { try { return { text: "", ...JSON.parse(stored) } } catch { return { text: "" } } };
const draft = () => parse(localStorage.getItem(key()));
const stored = () => draft().text;

const joined = (sent, text) => text.startsWith(sent ?? "") ? text : text ? `${sent}\n\n${text}` : sent;

// What has been sent is kept, beside what is typed since, until it is the last prompt: the run that sends it may have been
// replaced.
function isSaid([length, start]) {
  const text = draft().sent?.trim();
  return text?.length === length && text.startsWith(start);
}

function save(text, sent = draft().sent) {
  if (!text && stored() !== last) return; // another tab goes on writing it
  last = text;
  if (!text && !sent) localStorage.removeItem(key());
  else if (place !== "temporary") localStorage.setItem(key(), JSON.stringify({ text, sent, at: Date.now() }));
}

function show(text) {
  last = text;
  if (daybook.composer().value === text) return;
  isShowing = true; // two tabs that each saved what the other did would undo what is being typed
  daybook.typeInto(daybook.composer(), text);
  isShowing = false;
}

function arrive(data) {
  place = data.place;
  last = stored();
  const sent = isSaid(data.prompt) ? "" : draft().sent;
  show(data.given ? joined(data.given, stored()) : joined(sent, stored()));
  save(daybook.composer().value, "");
}

daybook.noteDraftSent = () => {
  const sent = last;
  last = stored();
  if (sent) save("", sent);
};

daybook.keepDrafts = (data) => {
  if (!daybook.composer()) {
    setTimeout(daybook.keepDrafts, 50, data); // not drawn yet
    return; // nothing: Streamlit would call it when the component goes
  }
  const typed = daybook.composer().value, before = place;
  person = data.person;
  if (before === null && !typed) arrive(data);
  else if (before === null || before === data.place) {
    place = data.place;
    const isWrittenElsewhere = typed === last && typed !== stored(); // and is shown here a moment later
    if (data.given) { // what was refused, which took the place of what was typed since, or of nothing: Streamlit sets no value twice
      show(joined(data.given, last));
      save(daybook.composer().value, "");
    } else if (isSaid(data.prompt)) save(typed, "");
    else if (typed && !isWrittenElsewhere) save(typed);
  } else if (data.place === "temporary" || (data.is_begun && (typed || before !== "temporary"))) {
    // a fresh page became this conversation, or a temporary chat; what is typed now belongs to it
    save("", "");
    place = data.place;
    last = stored();
    save(typed, "");
  } else {
    if (before === "new" && !typed && isSaid(data.prompt)) save("", ""); // it began the conversation that is read now
    arrive(data);
  }
};

function drop(isOver) {
  for (const name of Object.keys(localStorage)) {
    if (name.startsWith(DRAFTS) && isOver(name)) localStorage.removeItem(name);
  }
}

drop((name) => !(parse(localStorage.getItem(name)).at > Date.now() - MONTH));

document.addEventListener("submit", ({ target }) => {
  if (target.id === "sign-out") drop((name) => name.startsWith(`${DRAFTS}${person}:`));
}, true);

document.addEventListener("input", ({ target }) => {
  if (place !== null && target === daybook.composer() && !isShowing) save(target.value);
}, true);

addEventListener("storage", ({ key: changed, oldValue, newValue }) => {
  if (changed === null && place !== null && daybook.composer()) show(""); // the page "Your data" cleared this browser
  // another tab wrote, and this one has no other text
  if (changed === key() && daybook.composer()?.value === parse(oldValue).text) show(parse(newValue).text);
});
