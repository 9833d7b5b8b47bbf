// A screen reader announces only that a reply streams, and how it ended.

const region = document.createElement("div"); // one that is new is not heard at once
region.className = "db-heard";
region.ariaLive = "polite";
document.body.append(region);
let news = ""; // words there or not: after a failure the same news is news again

daybook.onDraw(() => {
  const { said, after } = document.querySelector("i[data-said]")?.dataset ?? {};
  if (said === undefined || news === `${after} ${said}`) return;
  news = `${after} ${said}`;
  if (!said) return;
  region.textContent = ""; // nor is a sentence that stands there already
  setTimeout(() => (region.textContent = said), 100);
});
