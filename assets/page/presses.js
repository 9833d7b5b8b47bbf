// Streamlit sends a press in a timer, and the values of all widgets whenever an interval runs a fragment.
// If the interval came first, it would send the press too, and a prompt would be sent twice. So no
// function of an interval is called until the press is sent.

const MOMENT = 50; // milliseconds
let unsent = 0; // the number of presses that may not be sent yet

function note() {
  unsent += 1;
  // two timers, because the browser may take longer than MOMENT to handle the press
  setTimeout(() => setTimeout(() => (unsent -= 1), MOMENT));
}

for (const kind of ["click", "keydown"]) daybook.capture(window, kind, note);

const { setInterval } = window;
window.setInterval = (act, pause, ...rest) => setInterval(() => unsent || act(...rest), pause);
