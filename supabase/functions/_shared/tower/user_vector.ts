import type { Timing } from "../http/timing.ts";
import type { RecommendationContext } from "../project/database.ts";
import type { UserTowers } from "./user_towers.ts";
import { decodeVectors, encodeVector } from "./vectors.ts";

/**
 * A user's vector in the database's form, or why there is none. `no_tower`: the version's file
 * cannot be loaded, or is for other vectors.
 */
export type UserVector =
  | { readonly kind: "vector"; readonly vector: string }
  | { readonly kind: "no_model" | "no_history" | "no_tower" };

/**
 * Computes the user's vector with the active version's tower from the likes and skips in `context`.
 * Waits at most `patienceMs` for the tower.
 */
export async function userVector(
  towers: UserTowers,
  context: RecommendationContext,
  timing: Timing,
  patienceMs?: number,
): Promise<UserVector> {
  const { modelVersion: version, dim, manifestSha256, likes, skips } = context;
  if (version === null || dim === null || manifestSha256 === null) {
    return { kind: "no_model" };
  }
  if (!likes && !skips) {
    return { kind: "no_history" };
  }
  const tower = await timing.measure("model", () => towers.get({ version, manifestSha256 }, patienceMs));
  if (tower === null || tower.dim !== dim) {
    return { kind: "no_tower" };
  }
  const vector = await timing.measure(
    "tower",
    () => tower.embed(decodeVectors(likes ?? "", dim), decodeVectors(skips ?? "", dim)),
  );
  return vector === null ? { kind: "no_history" } : { kind: "vector", vector: encodeVector(vector) };
}
