/**
 * Recomputes and writes the vector of the token's user, so that readers of `user_embeddings` get
 * one that includes the user's latest like.
 */

import { parseObject, readBody } from "../_shared/http/body.ts";
import { endpoint } from "../_shared/http/endpoint.ts";
import { invalid } from "../_shared/http/error.ts";
import { consoleLog } from "../_shared/http/log.ts";
import { Database } from "../_shared/project/database.ts";
import { Rest } from "../_shared/project/rest.ts";
import { Storage } from "../_shared/project/storage.ts";
import { readSettings } from "../_shared/settings.ts";
import { Authenticator } from "../_shared/token/authenticator.ts";
import { UserTowers } from "../_shared/tower/user_towers.ts";
import { type Parts, update } from "./update.ts";

const name = "update_user_embedding";
const settings = readSettings((variable) => Deno.env.get(variable));
const authenticator = await Authenticator.create(settings);
const parts: Parts = {
  database: new Database(new Rest(settings)),
  towers: new UserTowers(new Storage(settings), name, consoleLog),
};

Deno.serve(endpoint({ name, allowedOrigins: settings.allowedOrigins, log: consoleLog }, async (request, exchange) => {
  const body = await readBody(request);
  const caller = await exchange.timing.measure("auth", () => authenticator.authenticate(request, exchange.signal));
  if (Object.keys(parseObject(request.headers, body)).length > 0) {
    throw invalid("this address takes no fields: the user is the token's, and the vector is computed here");
  }
  return { body: await update(parts, caller, exchange) };
}));
