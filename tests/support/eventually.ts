// Waits for conditions instead of sleeping. No test may depend on the speed of the machine, so only a hang exceeds the
// deadline of a wait.

import { createServer } from "node:net";

/**
 * Longest wait for something that has to happen, ms. The machine may be busy with something else, so this is far longer
 * than any step takes.
 */
export const hangMs = 60_000;

/**
 * Resolves when `condition` returns a truthy value, with that value. Fails after `withinMs` with `what`, evaluated
 * then.
 */
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
      throw new Error(`not within ${withinMs} ms:  ${typeof what === "string" ? what : what()}`);
    }
    await Bun.sleep(10);
  }
}

/** Below the ports that the kernel gives to outgoing connections, from 32768 on. */
const firstPort = 20_000;
const ports = 12_000;
/** Each process begins elsewhere, because another one may take a port between the check and its use. */
let nextPort = (process.pid * 7919) % ports;

/** A TCP port of 127.0.0.1 that is free, and that can be bound again after a restart. */
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
