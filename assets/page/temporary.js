// A temporary chat is gone when its page is: the browser asks before. Not where a form is sent: signing out, or an export.

let isSending = false;

document.addEventListener("submit", ({ target }) => {
  isSending = true;
  // signing out waits until the reply that is coming is settled
  setTimeout(() => (isSending = false), target.id === "sign-out" ? 30_000 : 1000);
}, true);

addEventListener("beforeunload", (event) => {
  if (!isSending && document.querySelector(".st-key-temporary-sign")) event.preventDefault();
});
