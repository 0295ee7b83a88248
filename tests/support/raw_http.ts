// HTTP over a bare socket, for requests that no client library would send.

import { eventually, hangMs } from "./eventually.ts";

export interface RawConnection {
  write(text: string): void;
  /** Writes as fast as the other side reads, until all is written or the connection is closed. */
  writeAll(bytes: Uint8Array): Promise<void>;
  /** Resolves with everything received so far, once it matches. */
  received(pattern: RegExp, withinMs?: number): Promise<string>;
  /** Everything received so far. */
  text(): string;
  closed(): Promise<string>;
  isClosed(): boolean;
  end(): void;
}

export async function connectRaw(port: number): Promise<RawConnection> {
  let text = "";
  let isClosed = false;
  let drained = Promise.withResolvers<void>();
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_, bytes) {
        text += bytes.toString("latin1");
      },
      drain() {
        drained.resolve();
      },
      close() {
        isClosed = true;
        drained.resolve();
      },
      error() {},
    },
  });
  return {
    write(more) {
      socket.write(more);
    },
    async writeAll(bytes) {
      for (let start = 0; start < bytes.length && !isClosed;) {
        drained = Promise.withResolvers();
        const written = socket.write(bytes.subarray(start, start + 65_536));
        if (written < 0) return;
        start += written;
        if (written < 65_536 && start < bytes.length) await drained.promise;
      }
    },
    received: (pattern, withinMs = hangMs) =>
      eventually(`${pattern} is received`, () => (pattern.test(text) ? text : ""), withinMs),
    text: () => text,
    async closed() {
      await eventually("the connection is closed", () => isClosed);
      return text;
    },
    isClosed: () => isClosed,
    end: () => void socket.end(),
  };
}

/**
 * Sends bytes and returns everything received until the other side closes the connection, or with `hangUp` until it has
 * noticed that this side will send no more. Much faster than waiting for conditions.
 */
export async function exchangeRaw(port: number, bytes: Uint8Array, hangUp = false): Promise<string> {
  const received: Uint8Array[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = bytes;
  const write = (socket: { write(bytes: Uint8Array): number; shutdown(): void }) => {
    if (left.length > 0) left = left.subarray(Math.max(0, socket.write(left)));
    if (left.length === 0 && hangUp) socket.shutdown();
  };
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: write,
      drain: write,
      data: (_, piece) => void received.push(Uint8Array.from(piece)),
      close: () => resolve(),
      error: () => resolve(),
    },
  });
  await promise;
  return Buffer.concat(received).toString("latin1");
}
