// A page without its server says that it goes on by itself; Streamlit's dialog would cover what was read, and is closed.
// Where the server refuses the page, Streamlit says nothing: the reason is asked for, and shown.

let wasConnected = false;

async function reason() {
  if (document.querySelector(".db-not-found")) return ""; // which needs no server
  const isConnected = document.querySelector(".stApp")?.dataset.testConnectionState === "CONNECTED";
  wasConnected ||= isConnected;
  if (isConnected) return "";
  const answer = await fetch("/_stcore/stream", { method: "POST" }).catch(() => null);
  if ([403, 429].includes(answer?.status)) return answer.text();
  return wasConnected ? "Reconnecting… Your text is kept." : "";
}

setInterval(async () => {
  const words = await reason(), shown = document.querySelector(".db-refused");
  if (!words) shown?.remove();
  else if (!shown) {
    const line = document.createElement("p");
    line.className = "db-refused";
    line.setAttribute("role", "alert");
    line.textContent = words;
    document.body.append(line);
  } else if (shown.textContent !== words) shown.textContent = words;
}, 1000);

daybook.onDraw(() => {
  for (const dialog of document.querySelectorAll('[data-testid="stDialog"]')) {
    const name = dialog.querySelector('[slot="title"]')?.textContent;
    if (name === "Connection error") dialog.querySelector('button[aria-label="Close"]')?.click();
  }
});
