// Streamlit sends a press of a button after a short timer. When an interval reruns a fragment, Streamlit
// sends the values of all widgets. If an interval ended before the timer, the press would be sent twice:
// with these values, and by the timer. A prompt would then be sent twice. So intervals do nothing until the
// press is sent.

const MOMENT = 50; // milliseconds within which Streamlit sends a press that the browser has handled
let unsent = 0; // the number of presses that Streamlit may not have sent yet

function note() {
  unsent += 1;
  // two timers, because the browser may take longer than MOMENT to handle the press
  setTimeout(() => setTimeout(() => (unsent -= 1), MOMENT));
}

for (const kind of ["click", "keydown"]) daybook.capture(window, kind, note);

const { setInterval } = window;
window.setInterval = (act, pause, ...rest) => setInterval(() => unsent || act(...rest), pause);
