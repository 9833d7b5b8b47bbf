// Prints the page once it is completely drawn, then tells the server, which draws the normal page again. The
// stylesheet determines what is printed.

const STILL = 3; // animation frames without a pending element, after which the page counts as drawn

daybook.print = (tellServer) => {
  let frames = 0;
  const look = () => {
    const isWaiting = daybook.isRunning() || document.querySelector('.stMain [data-testid="stSkeleton"]');
    frames = isWaiting ? 0 : frames + 1;
    if (frames < STILL) return requestAnimationFrame(look);
    print(); // returns when the browser's print dialog is closed
    tellServer();
  };
  requestAnimationFrame(look);
};
