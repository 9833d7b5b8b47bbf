// On touch screens, the details of a reply and the actions of a prompt are behind a button.

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-details");
  if (button) button.ariaExpanded = String(button.closest(".db-acts").classList.toggle("is-open"));
});
