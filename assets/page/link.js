// Supabase Auth's link that confirms an address leads to the app, with tokens or an error behind "#", or
// with a code in the query. Removes them at once, because the history would keep them, and reloads the
// page, which then says what the link did. Only `error_code` is read; the other values are not.

const ADDED = ["code", "error", "error_code", "error_description"];
const url = new URL(location.href);
const behind = new URLSearchParams(url.hash.slice(1));
const error = behind.get("error_code") ?? url.searchParams.get("error_code");
// the app's own values of `code` are words; Supabase's are UUIDs
const isForeign = /[^a-z_]/.test(url.searchParams.get("code") ?? "");

if (error !== null || isForeign || behind.has("access_token")) {
  url.hash = "";
  for (const name of ADDED) url.searchParams.delete(name);
  if (error === null) url.searchParams.set("reason", "link-followed");
  // no other error says that the link has expired, and the page has no sentence for it
  else if (error === "otp_expired") url.searchParams.set("reason", "link-expired");
  history.replaceState(null, "", url);
  location.reload();
}
