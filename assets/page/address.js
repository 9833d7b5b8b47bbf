// The address of somebody who was refused at the door, for the next try; it never stands in an address of
// ours.

const KEY = "daybook-address";

if (!new URLSearchParams(location.search).has("reason")) sessionStorage.removeItem(KEY);

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
