// The checkboxes that select which sign-in methods a password reset keeps. Streamlit draws them again, in
// their initial state, with each form for a second factor; this script restores the user's choices.

const choices = new Map(); // the chosen state of each checkbox (true: ticked), by name

document.addEventListener("change", ({ target }) => {
  if (target.closest(".db-kept")) choices.set(target.name, target.checked);
});

daybook.onDraw(() => {
  for (const box of document.querySelectorAll(".db-kept input")) {
    box.checked = choices.get(box.name) ?? box.checked;
  }
});
