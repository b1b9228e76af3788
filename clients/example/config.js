// The server that the page gets its lists from and sends passwords and tokens to.
//
//   twotower serve       baseUrl is its address, publishableKey is empty. The server's `cors_origins`
//                        must include the page's origin.
//   Supabase project     baseUrl is https://<ref>.supabase.co, publishableKey is the project's
//                        sb_publishable_…
const settings = {
  baseUrl: "http://127.0.0.1:8080",
  publishableKey: "",
};

// For experiments on one machine, the query of the page's address takes precedence:
// index.html?baseUrl=http://127.0.0.1:8080. On other machines it is ignored, since the author of a
// link could then redirect passwords.
const query = new URLSearchParams(location.search);
if (isLoopback(location.href) && isLoopback(query.get("baseUrl"))) {
  settings.baseUrl = query.get("baseUrl");
  settings.publishableKey = query.get("publishableKey") ?? "";
}

/** Whether an address can only lead to the machine on which it is used. */
function isLoopback(address) {
  return URL.canParse(address) && ["127.0.0.1", "localhost", "[::1]"].includes(new URL(address).hostname);
}

export const baseUrl = settings.baseUrl.replace(/\/+$/, "");
export const publishableKey = settings.publishableKey;
