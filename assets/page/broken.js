// A message that Streamlit cannot draw, for example because an update has removed a script that an open tab
// needs, is shown as it was written. (The stylesheet hides the message and Streamlit's stack trace.)

const TRACE = '[data-testid="stErrorElementStack"]';

daybook.onDraw(() => {
  for (const text of document.querySelectorAll(".db-written"))
    if (!text.previousElementSibling?.querySelector(TRACE)) text.remove();
  for (const trace of document.querySelectorAll(`.st-key-thread ${TRACE}`)) {
    const message = trace.closest(".stMarkdown") ?? trace.closest(".stAlertContainer");
    const copy = [...document.querySelectorAll(".st-key-thread button[data-copy]")].find(
      (button) => trace.compareDocumentPosition(button) & Node.DOCUMENT_POSITION_FOLLOWING,
    );
    if (!copy || message.nextElementSibling?.matches(".db-written")) continue; // or the reply still streams
    const text = document.createElement("p");
    text.className = "db-written";
    text.textContent = daybook.copied(copy);
    message.after(text);
  }
});
