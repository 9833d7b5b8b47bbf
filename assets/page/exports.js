// A user's exports run one at a time. This script first asks the server whether an export may begin: a
// refused download cannot show the reason.

daybook.capture(document, "submit", async (event) => {
  const form = event.target;
  if (!form.matches('form[action^="/export/"]')) return;
  event.preventDefault();
  const address = `${form.action}?${new URLSearchParams(new FormData(form))}`;
  const answer = await fetch(address, { method: "HEAD" }).catch(() => null);
  if (answer?.status !== 429) form.submit();
  else daybook.tell(form, form.dataset.running);
});
