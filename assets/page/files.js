// Files cannot be attached yet: where some are dropped or pasted, the page says so, and stays. Text that comes along,
// as from a spreadsheet, goes where it would go without them.

const SENTENCE = "Files can't be attached yet. Paste text instead.";
const FIELD = "input, textarea";

function say() {
  const place = document.querySelector('[data-testid="stBottom"]');
  if (!daybook.composer() || !place || place.querySelector(".db-files")) return;
  const line = document.createElement("p");
  line.className = "db-files";
  line.setAttribute("role", "alert");
  line.textContent = SENTENCE;
  place.append(line);
  for (const sign of ["keydown", "pointerdown"]) addEventListener(sign, () => line.remove(), { once: true, capture: true });
}

// A browser would leave the page for a file that is dropped on it.
function refuses({ target, dataTransfer }) {
  const types = dataTransfer?.types ?? [];
  return types.includes("Files") && !(types.includes("text/plain") && target.closest?.(FIELD));
}

addEventListener("dragover", (event) => {
  if (refuses(event)) event.preventDefault();
}, true);

addEventListener("drop", (event) => {
  if (!refuses(event)) return;
  event.preventDefault();
  say();
}, true);

addEventListener("paste", ({ target, clipboardData }) => {
  const isElsewhere = target !== daybook.composer() && target.closest?.(FIELD);
  if (clipboardData?.files.length && !clipboardData.getData("text/plain") && !isElsewhere) say();
}, true);
