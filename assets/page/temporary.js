// A temporary chat is gone when its page is: the browser asks before. Not where it is over, as after signing
// out, nor where a form brings a file.

let isLeaving = false,
  isPosting = false;

daybook.leave = () => (isLeaving = true);

// Whether another page is on its way, the answer to a form: to reload this one would lose that answer.
daybook.isPosting = () => isPosting;

document.addEventListener(
  "submit",
  ({ target }) => {
    daybook.leave();
    isPosting = target.method === "post";
    if (!isPosting) setTimeout(() => (isLeaving = false), 1000);
  },
  true,
);

// Signing out ends it at once: no Undo.
document.addEventListener(
  "click",
  (event) => {
    const isSigningOut =
      event.target.closest("#sign-out button") && document.querySelector(".st-key-temporary-sign");
    if (isSigningOut && !confirm("Sign out? This temporary chat will be deleted.")) event.preventDefault();
  },
  true,
);

addEventListener("beforeunload", (event) => {
  if (!isLeaving && document.querySelector(".st-key-temporary-sign")) event.preventDefault();
});
