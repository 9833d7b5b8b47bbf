// Prints the page once it is completely drawn, then tells the server, which draws the normal page again. The
// stylesheet determines what is printed. Returns a function that cancels the printing; Streamlit calls this
// function when the component is removed, for example because another page is opened.

const STILL = 3; // animation frames without a pending element, after which the page counts as drawn

// The width of the narrowest paper, in CSS pixels. A table with wider words breaks them when it is printed.
const PAPER = 640;

addEventListener("beforeprint", () => {
  for (const table of document.querySelectorAll(".stMarkdown table")) {
    table.style.width = "min-content";
    table.toggleAttribute("data-wide", table.scrollWidth > PAPER);
    table.style.width = "";
  }
});

daybook.print = (tellServer) => {
  let frames = 0,
    next = 0;
  const over = new AbortController();
  const { signal } = over;
  const look = () => {
    const isWaiting = daybook.isRunning() || document.querySelector('.stMain [data-testid="stSkeleton"]');
    frames = isWaiting ? 0 : frames + 1;
    if (frames < STILL) {
      next = requestAnimationFrame(look);
      return;
    }
    // waits for an event, because Safari's `print` returns too early; if a key or the pointer is pressed on
    // the page, the print dialog is closed
    for (const end of ["afterprint", "pointerdown", "keydown"]) addEventListener(end, finish, { signal });
    print();
  };
  const finish = () => {
    over.abort();
    tellServer();
  };
  next = requestAnimationFrame(look);
  return () => {
    cancelAnimationFrame(next);
    over.abort();
  };
};
