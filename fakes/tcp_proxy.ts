// A TCP proxy that fails like a network: it loses replies, breaks connections and adds delays.

import { type Socket, connect, createServer } from "node:net";

/** The conditions that a test sets; each can be changed at any time. */
interface Conditions {
  /** Port to which new connections lead. */
  target: number;
  /** Treatment of bytes from the server. */
  replies: "pass" | "drop" | "cut" | "hold";
  /** Only replies that contain this text are dropped, cut or held. A held reply holds up those behind it. */
  onlyWith: string;
  /** Treatment of bytes to the server. */
  requests: "pass" | "drop" | "hold";
  /** Whether new connections are reset immediately. */
  refusing: boolean;
  /** Delay of every reply, ms. */
  delayMs: number;
  /** Rate of replies; 0 for no limit. */
  bytesPerSecond: number;
}

export interface Proxy extends Conditions {
  readonly port: number;
  /** Open connections. */
  readonly connections: number;
  /** Replies dropped or cut. */
  readonly lost: number;
  /** Pieces of replies that are held now. */
  readonly heldReplies: number;
  /** Forwards everything that is held, in both directions. */
  release(): void;
  /** Resets every connection. */
  cutAll(): void;
  stop(): void;
}

/** State shared by all links of a proxy. */
interface Traffic {
  readonly links: Set<Link>;
  readonly heldRequests: (() => void)[];
  readonly heldReplies: (() => void)[];
  lost: number;
}

/** A client's connection and the matching one to the server. */
class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #conditions: Conditions;
  readonly #traffic: Traffic;
  #trickling = Promise.resolve();
  #isHeld = false;
  /** Delayed replies, in order: none overtakes another, even when the delay is switched off. */
  readonly #delayed: Buffer[] = [];

  constructor(client: Socket, conditions: Conditions, traffic: Traffic) {
    this.#client = client;
    this.#server = connect(conditions.target, "127.0.0.1");
    this.#conditions = conditions;
    this.#traffic = traffic;
    traffic.links.add(this);
    for (const socket of [this.#client, this.#server]) {
      socket.setNoDelay(true);
      socket.on("error", () => this.#end());
      socket.on("close", () => this.#end());
    }
    this.#client.on("data", (bytes) => this.#forwardRequest(bytes as Buffer));
    this.#server.on("data", (bytes) => this.#forwardReply(bytes as Buffer));
  }

  cut(): void {
    this.#client.resetAndDestroy();
    this.#server.destroy();
  }

  #end(): void {
    this.#traffic.links.delete(this);
    this.#client.destroy();
    // Held requests must still reach the server after their client has gone.
    if (this.#traffic.heldRequests.length === 0) this.#server.destroy();
  }

  #forwardRequest(bytes: Buffer): void {
    const { requests } = this.#conditions;
    if (requests === "hold") this.#traffic.heldRequests.push(() => this.#server.write(bytes));
    else if (requests === "pass") this.#server.write(bytes);
  }

  #forwardReply(bytes: Buffer): void {
    const { replies, onlyWith, delayMs, bytesPerSecond } = this.#conditions;
    if (!this.#isHeld && (replies === "pass" || !bytes.includes(onlyWith))) {
      if (delayMs > 0 || this.#delayed.length > 0) this.#delay(Buffer.from(bytes));
      else if (bytesPerSecond > 0) this.#trickle(Buffer.from(bytes));
      else this.#client.write(bytes);
    } else if (this.#isHeld || replies === "hold") {
      this.#isHeld = true;
      this.#traffic.heldReplies.push(() => {
        this.#isHeld = false;
        this.#client.write(bytes);
      });
    } else {
      this.#traffic.lost += 1;
      if (replies === "cut") this.#client.resetAndDestroy();
    }
  }

  #delay(bytes: Buffer): void {
    this.#delayed.push(bytes);
    setTimeout(() => this.#client.write(this.#delayed.shift()!), this.#conditions.delayMs);
  }

  #trickle(bytes: Buffer): void {
    for (let start = 0; start < bytes.length; start += 16_384) {
      const piece = bytes.subarray(start, start + 16_384);
      this.#trickling = this.#trickling
        .then(() => Bun.sleep((piece.length / this.#conditions.bytesPerSecond) * 1000))
        .then(() => void this.#client.write(piece));
    }
  }
}

/** Listens on a free port of 127.0.0.1 and forwards to its `targetPort`. */
export async function startProxy(targetPort: number): Promise<Proxy> {
  const traffic: Traffic = { links: new Set(), heldRequests: [], heldReplies: [], lost: 0 };
  const listener = createServer((client) => {
    if (!proxy.refusing) return void new Link(client, proxy, traffic);
    client.on("error", () => {});
    client.resetAndDestroy();
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  const proxy: Proxy = {
    port: typeof address === "object" && address !== null ? address.port : 0,
    target: targetPort,
    replies: "pass",
    onlyWith: "",
    requests: "pass",
    refusing: false,
    delayMs: 0,
    bytesPerSecond: 0,
    get connections() {
      return traffic.links.size;
    },
    get lost() {
      return traffic.lost;
    },
    get heldReplies() {
      return traffic.heldReplies.length;
    },
    release() {
      proxy.requests = "pass";
      for (const write of traffic.heldRequests.splice(0)) write();
      if (proxy.replies === "hold") proxy.replies = "pass";
      for (const write of traffic.heldReplies.splice(0)) write();
    },
    cutAll() {
      for (const link of traffic.links) link.cut();
    },
    stop() {
      listener.close();
      proxy.cutAll();
    },
  };
  return proxy;
}
