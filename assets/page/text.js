// What Streamlit's Markdown leaves out: the direction of a text, room for long numbers, wide tables under a
// keyboard, and above code its language and a button that wraps it.

const DIRECTED = [
  "> p",
  "> ul",
  "> ol",
  "> blockquote",
  "> table",
  '> [data-testid="stHeadingWithActionElements"] > *',
]
  .map((part) => `.stMarkdown [data-testid="stMarkdownContainer"] ${part}:not([dir])`)
  .concat(".st-key-composer textarea:not([dir])")
  .join();

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

const NAMES = { diagram: "mermaid" }; // safe_md's name for it: under its own Streamlit would draw it

daybook.onDraw(() => {
  for (const part of document.querySelectorAll(DIRECTED)) part.dir = "auto";
  for (const reply of document.querySelectorAll(
    '[class*="st-key-past-"] .stMarkdown:not([role], .stChatMessage *)',
  )) {
    reply.role = "group";
    reply.ariaLabel = "Chat message from assistant"; // as Streamlit's are named
  }
  for (const list of document.querySelectorAll(".stMarkdown ol")) {
    list.style.setProperty("--digits", String(list.start + list.childElementCount - 1).length);
  }
  for (const table of document.querySelectorAll(".stMarkdown table:not([tabindex])")) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
  }
  for (const block of document.querySelectorAll(".stMarkdown .stCode")) {
    const [, language = ""] = block.querySelector("code")?.className.match(/language-(\w+)/) ?? [];
    const name = headOf(block).firstChild,
      shown = NAMES[language] ?? language;
    if (name.textContent !== shown) name.textContent = shown; // a name that is still being written grows
  }
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-wrap");
  if (button) button.ariaPressed = String(button.closest(".stCode").toggleAttribute("data-wrapped"));
});
