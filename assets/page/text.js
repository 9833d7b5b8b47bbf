// Additions to Streamlit's Markdown: the direction of text, line breaks in list items and table cells, room
// for the numbers of long lists, keyboard scrolling of wide tables, formulas and code, names of check boxes,
// ids of footnotes that differ in each reply, and a line above code with its language and a button that wraps
// lines.

const DIRECTED = [
  "> p",
  "> ul",
  "> ol",
  "> blockquote",
  "> table",
  '> [data-testid="stHeadingWithActionElements"] > *',
]
  .map((part) => `.stMarkdown [data-testid="stMarkdownContainer"] ${part}:not([dir])`)
  .concat([".st-key-chat-head h1", ".stTextInput input"].map((field) => `${field}:not([dir])`))
  .join();

const BLOCKS = ".stMarkdown li > :is(ul, ol, blockquote, table, div, hr, .katex-display):not([data-apart])";
const WIDE = ".stMarkdown :is(table, .katex-display, .stCode > pre):not([tabindex])";
// the first character with a direction of its own, and those written from right to left
const STRONG = /[\p{L}\u200e\u200f\u061c]/u,
  RIGHT_TO_LEFT = /[\u0590-\u08ff\u200f\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u,
  SEARCHED = 1000; // characters

// Sets the direction of a field by its first strong character. `dir="auto"` would make Chromium search each
// line of a long text, which takes minutes for 20,000 lines.
function direct(field) {
  const [first = ""] = field.value.slice(0, SEARCHED).match(STRONG) ?? [];
  const dir = RIGHT_TO_LEFT.test(first) ? "rtl" : "ltr";
  if (field.dir !== dir) field.dir = dir;
}

function headOf(block) {
  const known = block.querySelector(":scope > .db-code-head");
  if (known) return known;
  const head = document.createElement("div");
  head.className = "db-code-head";
  head.innerHTML =
    '<span></span><button type="button" class="db-wrap" aria-pressed="false">Wrap lines</button>';
  block.prepend(head);
  return head;
}

// The ids and links of footnotes, which are the same in each reply.
const NOTES = '.stMarkdown :is([id^="user-content-fn"], a[href^="#user-content-fn"], [data-footnotes] h2)';
let replies = 0; // with footnotes, so far

// Prefixes the id and the link of a footnote's part `one` with a number of its reply. React does not reset
// what it did not change, so the prefix stays while the reply streams.
function nameNote(one) {
  const reply = one.closest(".stMarkdown");
  reply.dataset.notes ??= `note-${++replies}-`;
  const own = reply.dataset.notes;
  // Streamlit gives the heading another id than the one that notes are described by
  const id = one.localName === "h2" ? "footnote-label" : one.id;
  if (id && !one.id.startsWith(own)) one.id = own + id;
  if (one.hash?.startsWith("#user-content-fn")) one.setAttribute("href", `#${own}${one.hash.slice(1)}`);
  const label = one.getAttribute("aria-describedby");
  if (label && !label.startsWith(own)) one.setAttribute("aria-describedby", own + label);
}

// Breaks the line at a `<br>` of a table's cell, which Streamlit draws as text. The text node is emptied and
// not removed, because React may change it; React does not know of the break.
function breakLines(cell) {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    if (!/^<br ?\/?>$/.test(node.data) || node.parentElement.closest("code, .katex")) continue;
    node.data = "";
    const added = document.createElement("br");
    added.dataset.added = "";
    node.before(added);
  }
}

// safe_md writes "diagram" for "mermaid", because Streamlit would draw a mermaid block
const NAMES = { diagram: "mermaid" };

daybook.onDraw(() => {
  for (const part of document.querySelectorAll(DIRECTED)) part.dir = "auto";
  for (const field of document.querySelectorAll("textarea")) direct(field);
  for (const reply of document.querySelectorAll(
    '[class*="st-key-past-"] .stMarkdown:not([role], .stChatMessage *)',
  )) {
    reply.role = "group";
    reply.ariaLabel = "Chat message from assistant"; // the name that st.chat_message gives a reply
  }
  for (const list of document.querySelectorAll(".stMarkdown ol")) {
    list.style.setProperty("--digits", String(list.start + list.childElementCount - 1).length);
  }
  // the stylesheet draws a line end in a list item as a break: those beside a block are none of the text
  for (const block of document.querySelectorAll(BLOCKS)) {
    block.dataset.apart = "";
    for (const beside of [block.previousSibling, block.nextSibling])
      if (beside?.nodeType === Node.TEXT_NODE && /^\s+$/.test(beside.data)) beside.data = "";
  }
  for (const wide of document.querySelectorAll(WIDE)) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  }
  for (const one of document.querySelectorAll(NOTES)) nameNote(one);
  for (const added of document.querySelectorAll(".stMarkdown br[data-added]"))
    if (added.nextSibling?.data !== "") added.remove(); // React has changed the cell
  for (const table of document.querySelectorAll(".stMarkdown table"))
    if (table.textContent.includes("<br")) table.querySelectorAll("td, th").forEach(breakLines);
  for (const box of document.querySelectorAll(".stMarkdown .task-list-item input:not([aria-label])"))
    box.ariaLabel = "Task";
  for (const block of document.querySelectorAll(".stMarkdown .stCode")) {
    const [, language = ""] = block.querySelector("code")?.className.match(/language-(\w+)/) ?? [];
    const name = headOf(block).firstChild,
      shown = NAMES[language] ?? language;
    if (name.textContent !== shown) name.textContent = shown; // the name grows while the reply streams
  }
});

daybook.capture(document, "input", ({ target }) => target.localName === "textarea" && direct(target));

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-wrap");
  if (button) button.ariaPressed = String(button.closest(".stCode").toggleAttribute("data-wrapped"));
});
