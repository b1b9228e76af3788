/** The time that one request spends in each stage, for the header `Server-Timing`. */
export class Timing {
  readonly #begun = performance.now();
  readonly #stages = new Map<Stage, number>();

  /** Runs `work` and adds its time to `stage`. */
  async measure<T>(stage: Stage, work: () => Promise<T> | T): Promise<T> {
    const begun = performance.now();
    try {
      return await work();
    } finally {
      this.#stages.set(stage, (this.#stages.get(stage) ?? 0) + performance.now() - begun);
    }
  }

  /** Milliseconds since the request arrived. */
  elapsedMs(): number {
    return performance.now() - this.#begun;
  }

  header(): string {
    const entries = [...this.#stages, ["total", this.elapsedMs()] as const];
    return entries.map(([name, ms]) => `${name};dur=${ms.toFixed(2)}`).join(", ");
  }
}

/**
 * `db`: reading the user's state, and writing; `model`: loading weights; `tower`: computing the
 * user's vector; `rank`: making the list.
 */
export type Stage = "auth" | "db" | "model" | "tower" | "rank";
