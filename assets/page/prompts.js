// A long prompt is folded until its reader wants all of it. What is read stays where it is: at the end of the page
// Streamlit would scroll with what grows.

function hold(top, until) {
  daybook.page().scrollTop = top;
  if (performance.now() < until) requestAnimationFrame(() => hold(top, until));
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-more");
  if (!button) return;
  const top = daybook.page().scrollTop;
  const isFolded = button.previousElementSibling.classList.toggle("db-folded");
  button.ariaExpanded = String(!isFolded);
  button.textContent = isFolded ? "Show all" : "Show less";
  if (isFolded) button.scrollIntoView({ block: "nearest" });
  else hold(top, performance.now() + 500);
});
