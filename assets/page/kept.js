// The checkboxes for what a reset of the password keeps. Streamlit draws them again with each form for a
// second factor; this script keeps what the user has ticked and unticked.

const choices = new Map(); // true for a ticked checkbox, by its name

document.addEventListener("change", ({ target }) => {
  if (target.closest(".db-kept")) choices.set(target.name, target.checked);
});

daybook.onDraw(() => {
  for (const box of document.querySelectorAll(".db-kept input")) {
    box.checked = choices.get(box.name) ?? box.checked;
  }
});
