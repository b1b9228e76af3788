import assert from "node:assert/strict";
import { readSettings, SettingsError } from "./settings.ts";

const HOSTED = {
  SUPABASE_URL: "https://your-project.supabase.co/",
  SUPABASE_PUBLISHABLE_KEYS: '{"web":"sb_publishable_web","default":"sb_publishable_a"}',
  SUPABASE_SECRET_KEYS: '{"jobs":"sb_secret_jobs"}',
};

function read(variables: Record<string, string>) {
  return readSettings((name) => variables[name]);
}

Deno.test("keys of the new and of the old kind", () => {
  const hosted = read(HOSTED);
  assert.deepEqual([hosted.publishableKey, hosted.secretKey], ["sb_publishable_a", "sb_secret_jobs"]);
  assert.equal(hosted.tokens.jwksUrl, "https://your-project.supabase.co/auth/v1/.well-known/jwks.json");
  assert.equal(hosted.tokens.issuer, "https://your-project.supabase.co/auth/v1");
  const old = read({ SUPABASE_URL: "http://kong:8000", SUPABASE_ANON_KEY: "a", SUPABASE_SERVICE_ROLE_KEY: "b" });
  assert.deepEqual([old.publishableKey, old.secretKey, old.tokens.issuer], ["a", "b", null]);
  assert.equal(read({ ...HOSTED, SUPABASE_SECRET_KEYS: "" }).secretKey, null);
});

Deno.test("what is set is taken over", () => {
  const settings = read({
    ...HOSTED,
    ALLOWED_ORIGINS: "https://app.example, http://localhost:3000",
    TWOTOWER_MODEL_BUCKET: "assets/models/team",
    TWOTOWER_SOFT_DEADLINE_MS: "500",
    TWOTOWER_JWT_ISSUER: "*",
    SUPABASE_JWKS: '{"keys":[]}',
  });
  assert.deepEqual(settings.allowedOrigins, ["https://app.example", "http://localhost:3000"]);
  assert.deepEqual([settings.modelBucket, settings.modelPrefix], ["assets", "models/team/"]);
  assert.deepEqual([settings.softDeadlineMs, settings.tokens.issuer, settings.tokens.jwks], [500, null, '{"keys":[]}']);
});

Deno.test("what is wrong is named", () => {
  const wrong: [string, string][] = [
    ["SUPABASE_URL", ""],
    ["SUPABASE_URL", "https://your-project.supabase.co/rest/v1"],
    ["SUPABASE_URL", "https://user@your-project.supabase.co"],
    ["SUPABASE_PUBLISHABLE_KEYS", "sb_publishable_a"],
    ["SUPABASE_PUBLISHABLE_KEYS", "{}"],
    ["SUPABASE_SECRET_KEYS", "[]"],
    ["SUPABASE_JWKS", "http://your-project.supabase.co/jwks"],
    ["JWT secret", "short"],
    ["ALLOWED_ORIGINS", "https://app.example/"],
    ["ALLOWED_ORIGINS", "*,https://app.example"],
    ["TWOTOWER_MODEL_BUCKET", "models/../other"],
    ["TWOTOWER_SOFT_DEADLINE_MS", "0"],
    ["TWOTOWER_SOFT_DEADLINE_MS", "soon"],
  ];
  for (const [name, value] of wrong) {
    const variable = name === "JWT secret" ? "TWOTOWER_JWT_SECRET" : name;
    assert.throws(
      () => read({ ...HOSTED, [variable]: value }),
      (error) => error instanceof SettingsError && error.message.includes(name),
      `${name}=${value}`,
    );
  }
});
