declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void } | undefined;

/** Lets `work` go on after the answer was given: the platform would stop an isolate that has nothing to answer. */
export function afterAnswer(work: Promise<unknown>): void {
  if (typeof EdgeRuntime !== "undefined") {
    EdgeRuntime.waitUntil(work);
  }
}
