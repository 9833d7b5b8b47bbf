// A temporary chat ends with its page, so the browser asks before the page is left. It does not ask once the
// chat has ended, for example after signing out, nor when a form only downloads a file.

const REPEATED = 10_000; // milliseconds in which a form is posted only once
const posted = new Set();
let isLeaving = false,
  isPosting = false;

daybook.leave = () => (isLeaving = true);

// Returns true while a form is being posted; other scripts then do not reload, which would lose the response.
daybook.isPosting = () => isPosting;

function noteSubmission(form) {
  daybook.leave();
  isPosting = form.method === "post";
  if (!isPosting) {
    setTimeout(() => (isLeaving = false), 1000);
    return;
  }
  posted.add(form);
  setTimeout(() => posted.delete(form), REPEATED);
}

// Scripts call this in place of `form.submit()`, which fires no submit event.
daybook.submit = (form) => {
  noteSubmission(form);
  form.submit();
};

// Prevents a second submission: the browser would drop the response to the first, and with it a new cookie.
daybook.capture(document, "submit", (event) => {
  if (!posted.has(event.target)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
});
addEventListener("pageshow", ({ persisted }) => {
  if (!persisted) return;
  // reset, because the browser's Back button shows the page in the state in which it was left
  isLeaving = isPosting = false;
  posted.clear();
});

// runs after the scripts that first ask the server or the browser, and prevent the event for this
document.addEventListener("submit", (event) => {
  if (!event.defaultPrevented) noteSubmission(event.target);
});

// Asks before signing out, which ends a temporary chat immediately, without Undo.
daybook.capture(document, "click", (event) => {
  const isSigningOut =
    event.target.closest('[data-submits="sign-out"]') && document.querySelector(".st-key-temporary-sign");
  if (isSigningOut && !confirm("Sign out? This temporary chat will be deleted.")) event.preventDefault();
});

addEventListener("beforeunload", (event) => {
  if (!isLeaving && document.querySelector(".st-key-temporary-sign")) event.preventDefault();
});
