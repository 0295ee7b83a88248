// Waiting for a condition instead of for a time.

import { createServer } from "node:net";

/** Resolves when `condition` returns something true, with it. Fails after `withinMs`, naming `what`, as it is then. */
export async function eventually<T>(
  what: string | (() => string),
  condition: () => T | Promise<T>,
  withinMs = 15_000,
): Promise<NonNullable<T>> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > endMs) {
      throw new Error(`Not within ${withinMs} ms: ${typeof what === "string" ? what : what()}`);
    }
    await Bun.sleep(10);
  }
}

/**
 * A TCP port of 127.0.0.1 that nobody listens on at the moment. Not one of those that the kernel gives to outgoing
 * connections (from 32768 on), so that it can be listened on again after a restart.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await isFree(port)) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
}
