// Files cannot be attached yet: where some are dropped or pasted, the page says so, and stays. Text that
// comes along, as from a spreadsheet, goes where it would go without them.

const SENTENCE = "Files can't be attached yet. Paste text instead.";
const FIELD = "input, textarea";

function say() {
  if (daybook.composer()) daybook.tell(document.querySelector('[data-testid="stBottom"]'), SENTENCE);
}

// A browser would leave the page for a file that is dropped on it.
function refuses({ target, dataTransfer }) {
  const types = dataTransfer?.types ?? [];
  return types.includes("Files") && !(types.includes("text/plain") && target.closest?.(FIELD));
}

addEventListener(
  "dragover",
  (event) => {
    if (refuses(event)) event.preventDefault();
  },
  true,
);

addEventListener(
  "drop",
  (event) => {
    if (!refuses(event)) return;
    event.preventDefault();
    say();
  },
  true,
);

addEventListener(
  "paste",
  ({ target, clipboardData }) => {
    const isElsewhere = target !== daybook.composer() && target.closest?.(FIELD);
    if (clipboardData?.files.length && !clipboardData.getData("text/plain") && !isElsewhere) say();
  },
  true,
);
