// Reloads a tab that shows the sign-in page once the user has signed in in another tab of this browser: a
// second sign-in would end the new session, and with it a streaming reply and a temporary chat.

const tabs = new BroadcastChannel("daybook-signed-in");
let isTold = false;

daybook.onDraw(() => {
  if (isTold || !document.querySelector(".st-key-account-menu")) return;
  isTold = true;
  tabs.postMessage(null);
});

tabs.onmessage = () => {
  const page = document.querySelector(".st-key-sign-in-page");
  if (!page || daybook.isPosting()) return;
  // the address without the reason of a refused sign-in, which the account's pages would show
  location.replace(page.querySelector('[name="next"]')?.value ?? location.href);
};
