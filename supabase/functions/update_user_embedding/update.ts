import type { Exchange } from "../_shared/http/endpoint.ts";
import { erased, unavailable } from "../_shared/http/error.ts";
import type { Database } from "../_shared/project/database.ts";
import type { Caller } from "../_shared/token/authenticator.ts";
import type { UserTowers } from "../_shared/tower/user_towers.ts";
import { decodeVectors, encodeVector } from "../_shared/tower/vectors.ts";

/** Nobody is shown a list meanwhile, so weights may take their time. */
const PATIENCE_MS = 10_000;

/** The body of an answer. */
export interface Updated {
  readonly user_id: string;
  readonly model_version: number | null;
  /** Whether the vector was written, or one of a later history was there already. */
  readonly updated: boolean;
  /** Why not. `superseded`: another version became active meanwhile; ask again. */
  readonly reason?: "no_model" | "no_history" | "superseded";
}

/** What vectors are made with. */
export interface Parts {
  readonly database: Database;
  readonly towers: UserTowers;
}

/** Computes the caller's vector from what they have liked and skipped by now, and writes it. Throws `ApiError`. */
export async function update(parts: Parts, caller: Caller, { timing, signal }: Exchange): Promise<Updated> {
  const context = await timing.measure("db", () => parts.database.context(caller.token, null, null, signal));
  if (context.erased) {
    throw erased();
  }
  const { modelVersion, dim, manifestSha256, likes, skips } = context;
  const result = (rest: Pick<Updated, "updated" | "reason">): Updated => ({
    user_id: caller.user,
    model_version: modelVersion,
    ...rest,
  });
  if (modelVersion === null || dim === null || manifestSha256 === null) {
    return result({ updated: false, reason: "no_model" });
  }
  if (!likes && !skips) {
    return result({ updated: false, reason: "no_history" });
  }
  const key = { version: modelVersion, manifestSha256 };
  const tower = await timing.measure("model", () => parts.towers.get(key, PATIENCE_MS));
  if (tower === null || tower.dim !== dim) {
    throw unavailable("there is no user tower of the active model version: publish it to the bucket");
  }
  const vector = await timing.measure(
    "tower",
    () => tower.embed(decodeVectors(likes ?? "", dim), decodeVectors(skips ?? "", dim)),
  );
  if (vector === null) {
    return result({ updated: false, reason: "no_history" });
  }
  const written = await timing.measure(
    "db",
    () => parts.database.writeUserEmbedding(caller.user, context, encodeVector(vector), signal),
  );
  return result(written ? { updated: true } : { updated: false, reason: "superseded" });
}
