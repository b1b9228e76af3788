// Where the page gets its lists from, and where it sends passwords and tokens.
//
//   twotower serve          baseUrl is its address, publishableKey stays empty. The page's own origin must be among its `cors_origins`.
//   A Supabase project      baseUrl is https://<ref>.supabase.co, publishableKey is the project's sb_publishable_…
const settings = {
  baseUrl: "http://127.0.0.1:8080",
  publishableKey: "",
};

// For trying things out on one machine the query of the page's address takes precedence: index.html?baseUrl=http://127.0.0.1:8080
// Elsewhere whoever makes up a link would decide where passwords go.
const query = new URLSearchParams(location.search);
if (isLoopback(location.href) && isLoopback(query.get("baseUrl"))) {
  settings.baseUrl = query.get("baseUrl");
  settings.publishableKey = query.get("publishableKey") ?? "";
}

/** Whether an address leads nowhere but to the machine that it is used on. */
function isLoopback(address) {
  return URL.canParse(address) && ["127.0.0.1", "localhost", "[::1]"].includes(new URL(address).hostname);
}

export const baseUrl = settings.baseUrl.replace(/\/+$/, "");
export const publishableKey = settings.publishableKey;
