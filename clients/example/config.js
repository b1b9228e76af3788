// Where the page gets its lists from.
//
//   twotower serve          baseUrl is its address, publishableKey stays empty. The page's own origin must be among its `cors_origins`.
//   A Supabase project      baseUrl is https://<ref>.supabase.co, publishableKey is the project's sb_publishable_…
//
// The query of the page's address takes precedence, for trying things out: index.html?baseUrl=http://127.0.0.1:8080
const query = new URLSearchParams(location.search);

export const baseUrl = (query.get("baseUrl") ?? "http://127.0.0.1:8080").replace(/\/+$/, "");
export const publishableKey = query.get("publishableKey") ?? "";
