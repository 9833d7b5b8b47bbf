// Handles the button that shows and hides, on touch screens, a reply's details or a prompt's actions.

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-details");
  if (button) button.ariaExpanded = String(button.closest(".db-acts").classList.toggle("is-open"));
});
