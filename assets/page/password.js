// Handles the button that shows the passwords of its form. They are hidden again before they are sent, so
// that the browser recognises them as passwords and offers to save the new one.

const fields = (button) =>
  button
    .getAttribute("aria-controls")
    .split(" ")
    .map((id) => document.getElementById(id));

function show(button, isShown) {
  for (const field of fields(button)) field.type = isShown ? "text" : "password";
  button.textContent = isShown ? "Hide password" : "Show password";
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-show");
  if (button) show(button, fields(button)[0].type === "password");
});

daybook.capture(document, "submit", ({ target }) => {
  const button = target.querySelector(".db-show");
  if (button) show(button, false);
});
