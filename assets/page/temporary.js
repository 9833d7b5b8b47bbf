// A temporary chat ends with its page, so the browser asks before the page is left. It does not ask once the
// chat has ended, as after signing out, nor when a form only downloads a file.

let isLeaving = false,
  isPosting = false;

daybook.leave = () => (isLeaving = true);

// Returns true while a form is being posted; other scripts then do not reload, which would lose the response.
daybook.isPosting = () => isPosting;

daybook.capture(document, "submit", ({ target }) => {
  daybook.leave();
  isPosting = target.method === "post";
  if (!isPosting) setTimeout(() => (isLeaving = false), 1000);
});

// Asks before signing out, which ends a temporary chat at once, without Undo.
daybook.capture(document, "click", (event) => {
  const isSigningOut =
    event.target.closest("#sign-out button") && document.querySelector(".st-key-temporary-sign");
  if (isSigningOut && !confirm("Sign out? This temporary chat will be deleted.")) event.preventDefault();
});

addEventListener("beforeunload", (event) => {
  if (!isLeaving && document.querySelector(".st-key-temporary-sign")) event.preventDefault();
});
