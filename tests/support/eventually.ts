// Waiting for a condition instead of for a time.

import { createServer } from "node:net";

/** Resolves when `condition` returns something true, with it. Fails, naming `what`, after `withinMs`. */
export async function eventually<T>(
  what: string,
  condition: () => T | Promise<T>,
  withinMs = 15_000,
): Promise<NonNullable<T>> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > endMs) throw new Error(`Not within ${withinMs} ms: ${what}`);
    await Bun.sleep(10);
  }
}

/** A TCP port of 127.0.0.1 that nobody listens on at the moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
