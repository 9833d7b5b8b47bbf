// Fills in the email address again after a refused sign-in; also fills it in beside a new password that is
// set with a code, for password managers, and shows it where the code is entered, so that a mistyped address
// is noticed. The address is never put into a URL of the app.

const KEY = "daybook-address";

const query = new URLSearchParams(location.search);
if (!query.has("reason") && !query.has("step")) sessionStorage.removeItem(KEY);

daybook.onDraw(() => {
  for (const field of document.querySelectorAll('.db-form [name="email"]:not([data-known])')) {
    field.dataset.known = "";
    if (field !== document.activeElement) field.value ||= sessionStorage.getItem(KEY) ?? "";
  }
  const line = document.querySelector(".db-sent-to[hidden]");
  const address = sessionStorage.getItem(KEY);
  if (!line || !address) return;
  line.textContent = `Email: ${address}`;
  line.hidden = false;
});

daybook.capture(document, "submit", ({ target }) => {
  const field = target.closest(".db-form")?.elements.email;
  if (field) sessionStorage.setItem(KEY, field.value);
});
