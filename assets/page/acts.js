// Handles plain HTML buttons and links with `data-act`: a Streamlit component (pages/_parts/browser.py)
// sends the data attributes of a pressed button to the server. The browser opens a link itself if the user
// asks for a new tab.

let tell = null;
let waiting = null; // the data of the last button that was pressed before the component was ready

daybook.hearActs = (tellServer) => {
  tell = tellServer;
  if (waiting) tell(waiting);
  waiting = null;
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button || (button.href && (event.ctrlKey || event.metaKey || event.shiftKey))) return;
  event.preventDefault();
  if (tell) tell({ ...button.dataset });
  else waiting = { ...button.dataset };
});
