// After a refused sign-in, the email address is filled in again; beside a new password that a code sets, for
// password managers. It is never put into a URL of the app.

const KEY = "daybook-address";

const query = new URLSearchParams(location.search);
if (!query.has("reason") && !query.has("step")) sessionStorage.removeItem(KEY);

daybook.onDraw(() => {
  for (const field of document.querySelectorAll('.db-form [name="email"]:not([data-known])')) {
    field.dataset.known = "";
    if (field !== document.activeElement) field.value ||= sessionStorage.getItem(KEY) ?? "";
  }
});

document.addEventListener(
  "submit",
  ({ target }) => {
    const field = target.closest(".db-form")?.elements.email;
    if (field) sessionStorage.setItem(KEY, field.value);
  },
  true,
);
