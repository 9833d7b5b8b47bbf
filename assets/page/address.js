// Remembers the email address that was entered in this tab. Fills it in again after a refused sign-in, in the
// forms that request a code and, for password managers, in the form that sets a new password with a mailed
// code. Shows it above the field for the code, where the user notices a mistyped address. The address is
// never put into a URL of the app.

const KEY = "daybook-address";

const DONE = ["address-restored", "cleared", "deleted", "left", "password-reset"]; // reasons of no refusal

const query = new URLSearchParams(location.search),
  isRefused = query.has("reason") && !DONE.includes(query.get("reason"));
if (!isRefused && !query.has("step")) sessionStorage.removeItem(KEY);

daybook.onDraw(() => {
  for (const field of document.querySelectorAll('.db-form [name="email"]:not([data-known])')) {
    field.dataset.known = "";
    if (field !== document.activeElement) field.value ||= sessionStorage.getItem(KEY) ?? "";
  }
  const line = document.querySelector(".db-sent-to[hidden]");
  const address = sessionStorage.getItem(KEY);
  if (!line || !address) return;
  line.textContent = `${line.dataset.label ?? "Email"}: ${address}`;
  line.hidden = false;
});

for (const type of ["change", "submit"])
  daybook.capture(document, type, ({ target }) => {
    const field = target.closest(".db-form")?.elements.email;
    if (field) sessionStorage.setItem(KEY, field.value);
  });
