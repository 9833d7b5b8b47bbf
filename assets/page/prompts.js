// Handles the button that unfolds and folds a long prompt.

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-more");
  if (!button) return;
  const isFolded = button.previousElementSibling.classList.toggle("db-folded");
  button.ariaExpanded = String(!isFolded);
  button.textContent = isFolded ? "Show all" : "Show less";
  if (isFolded) button.scrollIntoView({ block: "nearest" });
});
