// A TCP proxy between two parties, that loses what a network loses: replies, connections, time.

import { type Socket, connect, createServer } from "node:net";

export interface Proxy {
  readonly port: number;
  /** Where new connections lead to. */
  target: number;
  /** What happens to bytes that come back from the server. */
  replies: "pass" | "drop" | "cut" | "hold";
  /** Only replies that hold this text are dropped, cut or held, and what comes behind a held one on its connection. */
  onlyWith: string;
  /** What happens to bytes on their way to the server. */
  requests: "pass" | "drop" | "hold";
  /** Whether new connections are reset at once. */
  refusing: boolean;
  /** Milliseconds that a reply is held up. */
  delayMs: number;
  /** Open at the moment. */
  readonly connections: number;
  /** How fast replies come back; 0: as fast as they can. */
  bytesPerSecond: number;
  /** Replies dropped or cut. */
  readonly lost: number;
  /** Pieces of replies that are held at the moment. */
  readonly heldReplies: number;
  /** Lets through what was held, on its way to the server and back. */
  release(): void;
  /** Resets every connection. */
  cutAll(): void;
  stop(): void;
}

/** Listens on a free port of 127.0.0.1 and forwards to `targetPort` of it. */
export async function startProxy(targetPort: number): Promise<Proxy> {
  const pairs = new Set<{ client: Socket; server: Socket }>();
  const held: (() => void)[] = [];
  const heldReplies: (() => void)[] = [];
  let lost = 0;
  const listener = createServer((client) => {
    if (proxy.refusing) {
      client.on("error", () => {});
      client.resetAndDestroy();
      return;
    }
    const server = connect(proxy.target, "127.0.0.1");
    const pair = { client, server };
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      // What is held must still reach the server after its client has gone.
      if (held.length === 0) server.destroy();
    };
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on("error", end);
      socket.on("close", end);
    }
    let trickling = Promise.resolve();
    const trickle = (bytes: Buffer) => {
      for (let start = 0; start < bytes.length; start += 16_384) {
        const piece = bytes.subarray(start, start + 16_384);
        trickling = trickling
          .then(() => Bun.sleep((piece.length / proxy.bytesPerSecond) * 1000))
          .then(() => void client.write(piece));
      }
    };
    client.on("data", (bytes) => {
      if (proxy.requests === "hold") held.push(() => server.write(bytes));
      else if (proxy.requests === "pass") server.write(bytes);
    });
    let isHeld = false;
    /** On their way, in order: a reply never overtakes another, also when the delay ends. */
    const delayed: Buffer[] = [];
    const delay = (bytes: Buffer) => {
      delayed.push(bytes);
      setTimeout(() => client.write(delayed.shift()!), proxy.delayMs);
    };
    server.on("data", (bytes) => {
      if (!isHeld && (proxy.replies === "pass" || !bytes.includes(proxy.onlyWith))) {
        if (proxy.delayMs > 0 || delayed.length > 0) delay(Buffer.from(bytes));
        else if (proxy.bytesPerSecond > 0) trickle(Buffer.from(bytes));
        else client.write(bytes);
        return;
      }
      if (isHeld || proxy.replies === "hold") {
        isHeld = true;
        heldReplies.push(() => {
          isHeld = false;
          client.write(bytes);
        });
        return;
      }
      lost += 1;
      if (proxy.replies === "cut") client.resetAndDestroy();
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  const proxy = {
    port: typeof address === "object" && address !== null ? address.port : 0,
    target: targetPort,
    replies: "pass" as Proxy["replies"],
    onlyWith: "",
    requests: "pass" as Proxy["requests"],
    refusing: false,
    delayMs: 0,
    bytesPerSecond: 0,
    get connections() {
      return pairs.size;
    },
    get lost() {
      return lost;
    },
    get heldReplies() {
      return heldReplies.length;
    },
    release() {
      proxy.requests = "pass";
      for (const write of held.splice(0)) write();
      if (proxy.replies === "hold") proxy.replies = "pass";
      for (const write of heldReplies.splice(0)) write();
    },
    cutAll() {
      for (const { client, server } of pairs) {
        client.resetAndDestroy();
        server.destroy();
      }
    },
    stop() {
      listener.close();
      proxy.cutAll();
    },
  };
  return proxy;
}
