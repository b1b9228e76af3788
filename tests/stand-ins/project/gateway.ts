import { answer as answerAuth } from "../auth/auth.ts";
import { type Keys, verified } from "../rest/token.ts";
import type { Rest } from "../rest/rest.ts";
import type { Storage } from "../storage/storage.ts";

/** What a project consists of. */
export interface Project {
  readonly rest: Rest;
  readonly storage: Storage;
  readonly keys: Keys;
  /** API keys, old ones (tokens) and new ones (`sb_…`), with their roles. */
  readonly apiKeys: ReadonlyMap<string, string>;
  /** Milliseconds that answers of PostgREST are held back; a test turns it. */
  delayMs: number;
  /** Functions of the database that were called so far. */
  calls: number;
}

/** One address with PostgREST, Auth and Storage behind it, each asked with an `apikey`, as a project of Supabase has it. */
export function gateway(project: Project): (request: Request) => Promise<Response> {
  return async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/auth/v1/.well-known/jwks.json") {
      return answerAuth(pathname.slice("/auth/v1".length), null, project.keys);
    }
    const apiKey = request.headers.get("apikey");
    const role = apiKey === null ? undefined : project.apiKeys.get(apiKey);
    if (apiKey === null || role === undefined) {
      return Response.json({ message: "No API key found in request" }, { status: 401 });
    }
    // A new key is no token: the gateway puts one of its role in its place.
    const bearer = bearerOf(request) ?? (apiKey.startsWith("sb_") ? null : apiKey);
    const claims = bearer === null ? { role } : verified(bearer, project.keys);
    const rpc = /^\/rest\/v1\/rpc\/(\w+)$/.exec(pathname);
    if (rpc !== null) {
      project.calls += 1;
      await new Promise((resolve) => setTimeout(resolve, project.delayMs));
      return await project.rest.answer(request, rpc[1], claims);
    }
    if (pathname.startsWith("/auth/v1/")) {
      return answerAuth(pathname.slice("/auth/v1".length), bearer, project.keys);
    }
    if (pathname.startsWith("/storage/v1/")) {
      return await project.storage.answer(request, pathname.slice("/storage/v1".length), String(claims?.role));
    }
    return Response.json({ message: "this address is not stood in for" }, { status: 404 });
  };
}

function bearerOf(request: Request): string | null {
  return /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? null;
}
