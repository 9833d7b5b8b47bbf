// A user's exports run one at a time. Before a download, this script asks the server whether an export may
// begin: a refused download could not show the reason, and the browser would leave the page if there were no
// answer, a redirection, or the error page of a proxy.

const OFFLINE = "Daybook did not answer. Try again in a moment.",
  REDIRECTED = "The export could not begin. Reload the page."; // for example, the session has ended
const STARTED = 1000; // milliseconds within which the server begins an export
const asked = new Set(); // forms that wait for the server's answer, or were submitted within STARTED

daybook.capture(document, "submit", async (event) => {
  const form = event.target;
  if (!form.matches('form[action^="/export/"]')) return;
  event.preventDefault();
  if (asked.has(form)) return; // a second download would cancel the first
  asked.add(form);
  const address = `${form.action}?${new URLSearchParams(new FormData(form))}`;
  const request = { method: "HEAD", redirect: "manual", signal: AbortSignal.timeout(10_000) };
  const answer = await fetch(address, request).catch(() => null);
  const refusals = { 429: form.dataset.running, 0: REDIRECTED }; // the status of a redirection reads as 0
  const refusal = answer?.ok ? "" : (refusals[answer?.status] ?? OFFLINE);
  setTimeout(() => asked.delete(form), refusal ? 0 : STARTED);
  const place = form.hidden ? document.querySelector('[data-testid="stBottom"]') : form;
  if (refusal) return daybook.tell(place, refusal);
  daybook.submit(form);
  // the page then shows the progress (pages/_parts/full_export.py)
  if (form.action.endsWith("/everything.zip")) setTimeout(daybook.redraw, STARTED);
});
