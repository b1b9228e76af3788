/** Recommendations for the token's user. The HTTP API is that of `twotower serve`: docs/api.md. */

import { parseObject, readBody } from "../_shared/http/body.ts";
import { endpoint } from "../_shared/http/endpoint.ts";
import { consoleLog } from "../_shared/http/log.ts";
import { Database } from "../_shared/project/database.ts";
import { Rest } from "../_shared/project/rest.ts";
import { Storage } from "../_shared/project/storage.ts";
import { readSettings } from "../_shared/settings.ts";
import { Authenticator } from "../_shared/token/authenticator.ts";
import { UserTowers } from "../_shared/tower/user_towers.ts";
import { Answers } from "./answers.ts";
import { parseQuery } from "./query.ts";
import { recommend } from "./recommend.ts";

const name = "two_tower_recommendations";
const settings = readSettings((variable) => Deno.env.get(variable));
const authenticator = await Authenticator.create(settings);
const parts = {
  name,
  database: new Database(new Rest(settings)),
  towers: new UserTowers(new Storage(settings), name, consoleLog),
  answers: new Answers(),
  log: consoleLog,
  softDeadlineMs: settings.softDeadlineMs,
};

Deno.serve(endpoint({ name, allowedOrigins: settings.allowedOrigins, log: consoleLog }, async (request, exchange) => {
  const body = await readBody(request);
  const caller = await exchange.timing.measure("auth", () => authenticator.authenticate(request, exchange.signal));
  const answer = await recommend(parts, caller, parseQuery(parseObject(request.headers, body)), exchange);
  const { source, cached, partial } = answer;
  return { body: answer, log: { source, cached, partial } };
}));
