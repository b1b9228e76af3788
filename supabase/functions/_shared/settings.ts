/** The settings from the environment, validated once, when the function starts. */
export interface Settings {
  /** Address of the project, without a trailing slash. */
  readonly url: string;
  /** For calls under the caller's token. */
  readonly publishableKey: string;
  /**
   * For reading the user tower's file and for writing vectors. Without it, SQL blends the user's
   * vector.
   */
  readonly secretKey: string | null;
  readonly tokens: TokenSettings;
  /** Origins whose pages may read answers, or `*` alone. */
  readonly allowedOrigins: readonly string[];
  /** Private bucket that `twotower publish` writes to. */
  readonly modelBucket: string;
  /** Prefix of keys in the bucket, with a trailing slash; may be empty. */
  readonly modelPrefix: string;
  /** Milliseconds after which an earlier answer of popular videos is given instead. */
  readonly softDeadlineMs: number;
}

/** Keys and claims that tokens are checked against. */
export interface TokenSettings {
  /** A JWKS, as JSON text. */
  readonly jwks: string | null;
  /** Address from which a JWKS is fetched. */
  readonly jwksUrl: string;
  /** Shared secret of HS256 tokens. */
  readonly secret: string | null;
  /** The `iss` that a token must carry; `null`: any. */
  readonly issuer: string | null;
  readonly audience: string;
}

/** A missing or wrong setting, which the message names. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
}

/** HS256 requires a key at least as long as its hash (RFC 7518, section 3.2). */
const MIN_SECRET_BYTES = 32;

/** Reads the settings. `variable` returns a variable of the environment. Throws `SettingsError`. */
export function readSettings(variable: (name: string) => string | undefined): Settings {
  const first = (...names: string[]) => names.map((name) => variable(name)?.trim()).find((text) => text) ?? null;
  const url = projectUrl(first("SUPABASE_URL"));
  const publishableKey = keyOf("SUPABASE_PUBLISHABLE_KEYS", first("SUPABASE_PUBLISHABLE_KEYS")) ??
    first("SUPABASE_ANON_KEY");
  if (publishableKey === null) {
    throw new SettingsError("set SUPABASE_PUBLISHABLE_KEYS or SUPABASE_ANON_KEY: PostgREST asks for one of them");
  }
  const secretKey = keyOf("SUPABASE_SECRET_KEYS", first("SUPABASE_SECRET_KEYS")) ?? first("SUPABASE_SERVICE_ROLE_KEY");
  const jwks = first("SUPABASE_JWKS");
  const inline = jwks?.startsWith("{") ? jwks : null;
  return {
    url,
    publishableKey,
    secretKey,
    tokens: {
      jwks: inline,
      jwksUrl: inline === null && jwks !== null
        ? encrypted("SUPABASE_JWKS", jwks)
        : `${url}/auth/v1/.well-known/jwks.json`,
      secret: secretOf(first("TWOTOWER_JWT_SECRET", "SUPABASE_JWT_SECRET")),
      issuer: issuerOf(first("TWOTOWER_JWT_ISSUER"), url),
      audience: first("TWOTOWER_JWT_AUDIENCE") ?? "authenticated",
    },
    allowedOrigins: origins(first("ALLOWED_ORIGINS")),
    ...modelPlace(first("TWOTOWER_MODEL_BUCKET") ?? "models"),
    softDeadlineMs: softDeadline(first("TWOTOWER_SOFT_DEADLINE_MS")),
  };
}

function projectUrl(text: string | null): string {
  if (text === null) {
    throw new SettingsError("SUPABASE_URL is not set");
  }
  if (!/^https?:\/\/[^/?#@]+\/?$/.test(text)) {
    throw new SettingsError("SUPABASE_URL must be scheme and host alone, as in https://your-project.supabase.co");
  }
  return text.replace(/\/$/, "");
}

/** The key named `default`, or else the first one, in an object of keys by name. */
function keyOf(name: string, text: string | null): string | null {
  if (text === null) {
    return null;
  }
  let keys: unknown;
  try {
    keys = JSON.parse(text);
  } catch {
    keys = null;
  }
  if (typeof keys === "object" && keys !== null && !Array.isArray(keys)) {
    const named = keys as Record<string, unknown>;
    const key = named["default"] ?? Object.values(named)[0];
    if (typeof key === "string" && key !== "") {
      return key;
    }
  }
  throw new SettingsError(`${name} must be a JSON object with keys by name, as in {"default": "sb_…"}`);
}

function encrypted(name: string, text: string): string {
  if (!/^https:\/\/|^http:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?(?:\/|$)/.test(text)) {
    throw new SettingsError(`${name} must be an https:// address or the JSON itself`);
  }
  return text;
}

function secretOf(text: string | null): string | null {
  const bytes = text === null ? MIN_SECRET_BYTES : new TextEncoder().encode(text).length;
  if (bytes < MIN_SECRET_BYTES) {
    throw new SettingsError(`the JWT secret has ${bytes} bytes; HS256 needs at least ${MIN_SECRET_BYTES}`);
  }
  return text;
}

/**
 * The issuer of a hosted project is its own address. On a developer's machine, the address that
 * functions see differs from the issuer.
 */
function issuerOf(text: string | null, url: string): string | null {
  if (text === "*") {
    return null;
  }
  return text ?? (url.startsWith("https://") ? `${url}/auth/v1` : null);
}

function origins(text: string | null): string[] {
  const listed = (text ?? "").split(",").map((origin) => origin.trim()).filter((origin) => origin !== "");
  if (listed.includes("*") && listed.length > 1) {
    throw new SettingsError('ALLOWED_ORIGINS: "*" stands for every origin, so it stands alone');
  }
  const malformed = listed.find((origin) => origin !== "*" && !/^https?:\/\/[a-z0-9.\-:[\]_]+$/.test(origin));
  if (malformed !== undefined) {
    throw new SettingsError(
      `ALLOWED_ORIGINS: \`${malformed}\` is no origin: write scheme, host and port alone, in lower case, as in https://app.example`,
    );
  }
  return listed;
}

/** Splits `models` or `models/of/one/team` into a bucket and a prefix of keys. */
function modelPlace(text: string): { modelBucket: string; modelPrefix: string } {
  if (!/^[A-Za-z0-9_.-]+(?:\/[A-Za-z0-9_.-]+)*$/.test(text) || text.split("/").some((part) => /^\.+$/.test(part))) {
    throw new SettingsError(
      "TWOTOWER_MODEL_BUCKET must be the name of a bucket, and may go on with folders: models/team",
    );
  }
  const [modelBucket, ...folders] = text.split("/");
  return { modelBucket, modelPrefix: folders.map((folder) => `${folder}/`).join("") };
}

function softDeadline(text: string | null): number {
  const ms = text === null ? 2000 : Number(text);
  if (!Number.isInteger(ms) || ms < 1 || ms > 20_000) {
    throw new SettingsError("TWOTOWER_SOFT_DEADLINE_MS must be a whole number from 1 to 20000");
  }
  return ms;
}
