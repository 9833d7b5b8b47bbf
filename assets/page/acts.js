// Handles plain HTML buttons with `data-act`: a Streamlit component (pages/_parts/browser.py) sends the data
// attributes of a pressed button to the server.

let tell = null;
let waiting = null; // the data of the last button that was pressed before the component was ready

// Returns a function that Streamlit calls when it removes the component: each page has its own component, and
// the server no longer hears the one of the page before.
daybook.hearActs = (tellServer) => {
  tell = tellServer;
  if (waiting) tell(waiting);
  waiting = null;
  return () => {
    if (tell === tellServer) tell = null;
  };
};

daybook.act = (request) => {
  if (tell) tell(request);
  else waiting = request;
};

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-act]");
  if (button) daybook.act({ ...button.dataset });
});
