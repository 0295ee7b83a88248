// Waiting for a condition instead of for a time. No test may depend on the speed of the machine, so every wait ends
// only at a deadline that nothing but a hang exceeds.

import { createServer } from "node:net";

/**
 * Longest wait for what is due to happen, ms. Other programs may use the machine as well: it is far longer than any
 * step takes.
 */
export const hangMs = 60_000;

/** Resolves when `condition` returns something true, with it. Fails after `withinMs`, naming `what`, as it is then. */
export async function eventually<T>(
  what: string | (() => string),
  condition: () => T | Promise<T>,
  withinMs = hangMs,
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

/** Not among those that the kernel gives to outgoing connections, from 32768 on. */
const firstPort = 20_000;
const ports = 12_000;
/** Each process begins elsewhere: between the look and its use, another may take a port. */
let nextPort = (process.pid * 7919) % ports;

/**
 * A TCP port of 127.0.0.1 that nobody listens on at the moment, and that can be listened on again after a restart.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = firstPort + nextPort;
    nextPort = (nextPort + 1) % ports;
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
