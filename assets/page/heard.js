// Makes screen readers announce when a reply begins to stream and how it ended, but not its text.

// never removed, because text in a new live region may not be announced
const region = document.createElement("div");
region.className = "db-heard";
region.ariaLive = "polite";
document.body.append(region);
// the last announcement, kept even if its text was removed, so that the same announcement is not repeated
let news = "";

daybook.onDraw(() => {
  const { said, after } = document.querySelector("i[data-said]")?.dataset ?? {};
  if (said === undefined || news === `${after} ${said}`) return;
  news = `${after} ${said}`;
  if (!said) return;
  region.textContent = ""; // emptied, because an unchanged text would not be announced
  setTimeout(() => (region.textContent = said), 100);
});
