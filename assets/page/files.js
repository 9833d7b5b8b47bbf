// Files cannot be attached yet: if files are dropped or pasted, the page says so. If text comes with the
// files, for example from a spreadsheet, the text is pasted as usual.

const SENTENCE = "Files can't be attached yet. Paste text instead.";
const FIELD = "input, textarea";

function say() {
  if (daybook.composer()) daybook.tell(document.querySelector('[data-testid="stBottom"]'), SENTENCE);
}

// Returns true if the event drags files and must be prevented: the browser would open a dropped file in place
// of the page.
function refuses({ target, dataTransfer }) {
  const types = dataTransfer?.types ?? [];
  return types.includes("Files") && !(types.includes("text/plain") && target.closest?.(FIELD));
}

daybook.capture(window, "dragover", (event) => {
  if (refuses(event)) event.preventDefault();
});

daybook.capture(window, "drop", (event) => {
  if (!refuses(event)) return;
  event.preventDefault();
  say();
});

daybook.capture(window, "paste", ({ target, clipboardData }) => {
  const isElsewhere = target !== daybook.composer() && target.closest?.(FIELD);
  if (clipboardData?.files.length && !clipboardData.getData("text/plain") && !isElsewhere) say();
});
