import type { Exchange } from "../_shared/http/endpoint.ts";
import { erased, unavailable } from "../_shared/http/error.ts";
import type { Database } from "../_shared/project/database.ts";
import type { Caller } from "../_shared/token/authenticator.ts";
import type { UserTowers } from "../_shared/tower/user_towers.ts";
import { userVector } from "../_shared/tower/user_vector.ts";

/** No list waits for this, so loading the tower may take longer. */
const TOWER_DEADLINE_MS = 10_000;

/** The body of an answer. */
export interface Updated {
  readonly user_id: string;
  readonly model_version: number | null;
  /** Whether the vector was written, or one of a later history was already there. */
  readonly updated: boolean;
  /** Why it was not updated. `superseded`: another version became active meanwhile; ask again. */
  readonly reason?: "no_model" | "no_history" | "superseded";
}

/** The parts needed to compute vectors. */
export interface Parts {
  readonly database: Database;
  readonly towers: UserTowers;
}

/**
 * Computes the caller's vector from their current likes and skips, and writes it. Throws
 * `ApiError`.
 */
export async function update(parts: Parts, caller: Caller, { timing, signal }: Exchange): Promise<Updated> {
  const context = await timing.measure("db", () => parts.database.context(caller.token, null, signal));
  if (context.erased) {
    throw erased();
  }
  const result = (rest: Pick<Updated, "updated" | "reason">): Updated => ({
    user_id: caller.user,
    model_version: context.modelVersion,
    ...rest,
  });
  const made = await userVector(parts.towers, context, timing, TOWER_DEADLINE_MS);
  if (made.kind === "no_tower") {
    const reason = "there is no user tower of the active model version: publish it to the bucket";
    throw unavailable(reason, "the vector cannot be computed at the moment");
  }
  if (made.kind !== "vector") {
    return result({ updated: false, reason: made.kind });
  }
  const written = await timing.measure(
    "db",
    () => parts.database.writeUserEmbedding(caller.user, context, made.vector, signal),
  );
  return result(written ? { updated: true } : { updated: false, reason: "superseded" });
}
