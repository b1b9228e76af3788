declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void } | undefined;

/**
 * Lets `work` continue after the answer was given. Otherwise the platform may stop an idle isolate.
 */
export function afterAnswer(work: Promise<unknown>): void {
  if (typeof EdgeRuntime !== "undefined") {
    EdgeRuntime.waitUntil(work);
  }
}
