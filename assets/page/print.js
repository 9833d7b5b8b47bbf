// Prints the page once all of it is drawn, and tells the server, which then draws it as before. What paper
// shows is in the stylesheet.

const STILL = 3; // frames in which nothing is awaited

daybook.print = (tellServer) => {
  let frames = 0;
  const look = () => {
    const isWaiting = daybook.isRunning() || document.querySelector('.stMain [data-testid="stSkeleton"]');
    frames = isWaiting ? 0 : frames + 1;
    if (frames < STILL) return requestAnimationFrame(look);
    print(); // returns when the browser's dialog is closed
    tellServer();
  };
  requestAnimationFrame(look);
};
