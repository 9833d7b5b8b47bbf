// What a reply took, and what can be done with a prompt, stands behind a button where nothing can be pointed
// at.

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-details");
  if (button) button.ariaExpanded = String(button.closest(".db-acts").classList.toggle("is-open"));
});
