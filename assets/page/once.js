// Shows the hidden buttons of pages that show a secret only once (services/web/shown_once.py), and handles
// Download and Print.

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".db-once button");
  if (button?.dataset.file) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([button.dataset.text], { type: "text/plain" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000); // some browsers read the file after the click
  } else if ("print" in (button?.dataset ?? {})) print();
});

for (const button of document.querySelectorAll(".db-once button[hidden]")) button.hidden = false;
