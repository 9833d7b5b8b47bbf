// A screen reader announces only that a reply streams, and how it ended.

const region = document.createElement("div"); // a new live region is not announced at once, so this one stays
region.className = "db-heard";
region.ariaLive = "polite";
document.body.append(region);
// the last announcement, even if its text was removed: a repeated failure is not announced again
let news = "";

daybook.onDraw(() => {
  const { said, after } = document.querySelector("i[data-said]")?.dataset ?? {};
  if (said === undefined || news === `${after} ${said}`) return;
  news = `${after} ${said}`;
  if (!said) return;
  region.textContent = ""; // a text that stands there already is not announced again
  setTimeout(() => (region.textContent = said), 100);
});
