// Light or dark, as chosen in Preferences, on every page. Streamlit keeps a choice in the browser, for each
// path by itself, and reads it when a page is loaded.

const KEY = "daybook-theme",
  PATHS = ["/", "/memory", "/usage", "/data", "/admin"];
let shown = localStorage.getItem(KEY) ?? "system"; // another tab may have chosen since

function apply() {
  // of popovers and dialogs, which are drawn outside .stApp
  document.documentElement.style.colorScheme = shown === "system" ? "" : shown;
  const name = JSON.stringify(shown[0].toUpperCase() + shown.slice(1));
  for (const path of PATHS) localStorage.setItem(`stActiveTheme-${path}-v2`, name);
}

apply();

daybook.onDraw(() => {
  const theme = document.querySelector("i[data-theme]")?.dataset.theme ?? shown;
  if (theme === shown) return;
  shown = theme;
  localStorage.setItem(KEY, shown);
  apply();
  if (!document.querySelector(".st-key-temporary-sign")) location.reload(); // which would end that chat
});
