// Light or dark, as chosen in Preferences, on every page. Streamlit keeps a choice in the browser, for each path by
// itself, and reads it when a page is loaded.

const KEY = "daybook-theme", PATHS = ["/", "/memory", "/admin"];
const known = () => localStorage.getItem(KEY) ?? "system";

function apply(theme) {
  // of popovers and dialogs, which are drawn outside .stApp
  document.documentElement.style.colorScheme = theme === "system" ? "" : theme;
  const name = JSON.stringify(theme[0].toUpperCase() + theme.slice(1));
  for (const path of PATHS) localStorage.setItem(`stActiveTheme-${path}-v2`, name);
}

apply(known());

daybook.setTheme = (theme) => {
  if (theme === known()) return;
  localStorage.setItem(KEY, theme);
  apply(theme);
  if (!document.querySelector(".st-key-temporary-sign")) location.reload(); // which would end that chat
};
