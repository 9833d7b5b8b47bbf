// The button that shows a password. The password is hidden again before it is sent, so that the browser
// recognises it as a password and offers to save it.

function show(button, isShown) {
  button.form.elements.password.type = isShown ? "text" : "password";
  button.textContent = isShown ? "Hide password" : "Show password";
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-show");
  if (button) show(button, button.form.elements.password.type === "password");
});

document.addEventListener(
  "submit",
  ({ target }) => {
    const button = target.querySelector(".db-show");
    if (button) show(button, false);
  },
  true,
);
