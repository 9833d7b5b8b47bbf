// A temporary chat is gone when its page is: the browser asks before. Not where it is over, as after signing out, nor
// where a form brings a file.

let isLeaving = false;

daybook.leave = () => (isLeaving = true);

document.addEventListener("submit", ({ target }) => {
  daybook.leave();
  if (target.id !== "sign-out") setTimeout(() => (isLeaving = false), 1000);
}, true);

addEventListener("beforeunload", (event) => {
  if (!isLeaving && document.querySelector(".st-key-temporary-sign")) event.preventDefault();
});
