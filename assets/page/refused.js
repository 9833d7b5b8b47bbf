// Streamlit goes on trying where a websocket is refused, and says nothing: the reason is asked for, and shown.

async function reason() {
  if (document.querySelector(".stApp")?.dataset.testConnectionState === "CONNECTED") return "";
  const answer = await fetch("/_stcore/stream", { method: "POST" }).catch(() => null); // no server: Streamlit says so
  return [403, 429].includes(answer?.status) ? answer.text() : "";
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
  }
}, 2000);
