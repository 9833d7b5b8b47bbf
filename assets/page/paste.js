// Pasted text. A field with a limit keeps what fits, up to a whole character as people see it, and a line
// says so: Streamlit would ignore the whole text. A long text is set at once: Chromium would insert it line
// by line, which takes seconds, and then as long again for each change.

const LONG = 20_000; // characters
const characters = Intl.Segmenter && new Intl.Segmenter();

// Returns the most characters that `field` may have. Streamlit shows them below a wide field with the focus.
// Our own forms have no `maxlength`, with which the browser would cut the text before this script sees it.
function limit(field) {
  const given = field.closest('[class*="st-key-editing-"]')?.querySelector("i[data-most]");
  const shown = boxOf(field)?.querySelector('[data-testid="InputInstructions"]')?.textContent;
  const most = field.dataset.limit ?? given?.dataset.most ?? shown?.match(/\/(\d+)$/)?.[1];
  return Number(most ?? Number.POSITIVE_INFINITY);
}

const boxOf = (field) => field.closest('[data-testid="stTextInput"], [data-testid="stTextArea"]');

// before Streamlit's listeners, which then get the text that fits
daybook.capture(window, "input", ({ target, isComposing }) => {
  const { value, selectionStart: end } = target;
  const most = value ? limit(target) : Number.POSITIVE_INFINITY;
  if (isComposing || value.length <= most || end === null) return;
  const room = Math.max(0, end + most - value.length);
  const begin = characters?.segment(value.slice(0, end)).containing(room)?.index ?? room;
  target.setRangeText("", begin, end, "end");
  daybook.tell(
    boxOf(target) ?? target.form,
    `Shortened to ${most.toLocaleString("en")} characters, the maximum.`,
  );
});

daybook.capture(document, "paste", (event) => {
  const { target, clipboardData } = event;
  const text = clipboardData.getData("text/plain");
  if (target.localName !== "textarea" || text.length < LONG || clipboardData.files.length) return;
  event.preventDefault();
  target.setRangeText(text, target.selectionStart, target.selectionEnd, "end");
  target.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertFromPaste" }));
});
