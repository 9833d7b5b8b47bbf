// Checks an email address and the length of a new password (pages/_parts/form_fields.py) before their form is
// sent. The browser shows the sentence at the field and gives it the focus.

function refusal({ value, dataset }) {
  const { pattern, least, most } = dataset;
  if (pattern && value && !new RegExp(`^(?:${pattern})$`, "i").test(value))
    return /^[ -~]*$/.test(value) ? dataset.refusal : dataset.notPlain;
  if (least && [...value].length < Number(least)) return dataset.short;
  if (most && new Blob([value]).size > Number(most)) return dataset.long;
  return "";
}

// on the press, which Enter in a field makes, too: no event tells of what a password manager has filled in
daybook.capture(document, "click", ({ target }) => {
  const form = target.closest('.db-form [type="submit"]')?.form;
  for (const field of form?.elements ?? []) field.setCustomValidity(refusal(field));
});
