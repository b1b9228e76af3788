/**
 * A project of Supabase, stood in for: `deno run main.ts` prints its address and answers until it is ended. The environment:
 *
 *     STAND_IN_DATABASE   postgresql://… of a database with supabase/migrations
 *     STAND_IN_SECRET     secret of HS256 tokens
 *     STAND_IN_JWKS       {"keys": […]}, public keys of other tokens
 *     STAND_IN_API_KEYS   {"sb_publishable_…": "anon", "sb_secret_…": "service_role"}
 *     STAND_IN_STORAGE    folder of folders, one a bucket
 *
 * `POST /stand-in {"delay_ms": 0}` holds answers of PostgREST back, and says how many functions were called and how many objects read.
 */

import { Rest } from "../rest/rest.ts";
import { Storage } from "../storage/storage.ts";
import { gateway, type Project } from "./gateway.ts";

const variable = (name: string) => Deno.env.get(name) ?? "";
const project: Project = {
  rest: new Rest(variable("STAND_IN_DATABASE")),
  storage: new Storage(variable("STAND_IN_STORAGE")),
  keys: {
    secret: variable("STAND_IN_SECRET") || null,
    published: JSON.parse(variable("STAND_IN_JWKS") || '{"keys":[]}').keys,
  },
  apiKeys: new Map(Object.entries(JSON.parse(variable("STAND_IN_API_KEYS") || "{}"))),
  delayMs: 0,
  calls: 0,
};
const answer = gateway(project);

const onListen = ({ port }: Deno.NetAddr) => console.log(`http://127.0.0.1:${port}`);
Deno.serve({ hostname: "127.0.0.1", port: 0, onListen }, async (request) => {
  if (new URL(request.url).pathname !== "/stand-in") {
    return await answer(request);
  }
  project.delayMs = (await request.json()).delay_ms ?? project.delayMs;
  return Response.json({ calls: project.calls, storage_reads: project.storage.reads });
});
