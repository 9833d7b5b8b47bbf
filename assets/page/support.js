// The sign-in page says so if the browser lacks something that the other pages need (README.md names the
// browsers).

const isSupported =
  "showPopover" in HTMLElement.prototype && CSS.supports("color", "light-dark(#000000, #ffffff)");

daybook.onDraw(() => {
  const form = !isSupported && document.querySelector(".st-key-login");
  if (!form || form.querySelector(".db-old")) return;
  const line = document.createElement("p");
  line.className = "db-told db-old";
  line.setAttribute("role", "alert");
  line.textContent =
    "This browser is too old: parts of Daybook will not work. Update it, or use Chrome or Edge 123, " +
    "Firefox 125, Safari 17.5 or newer.";
  form.append(line);
});
