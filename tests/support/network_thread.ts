// The thread of a network: its listeners, and the connections that pass through them.

import { type Socket, connect, createServer } from "node:net";
import { type Cut, type NetworkOrder, outside } from "./network.ts";

declare const self: Worker;

/** Names, by the addresses from which hosts connect. */
const hosts = new Map<string, string>();
const links = new Set<Link>();
const cuts = new Map<number, Cut>();

/** Whether nothing passes between these two, of which the other one has been connected to. */
function isCut(one: string, other: string): boolean {
  return [...cuts.values()].some(({ host, from }) => {
    if (one !== host && other !== host) return false;
    const peer = one === host ? other : one;
    return from === "everyone" || (from === "outside") === (peer === outside);
  });
}

self.onmessage = ({ data }: MessageEvent<NetworkOrder>) => {
  switch (data.do) {
    case "name":
      hosts.set(data.address, data.host);
      return;
    case "expose": {
      const { host, port, number } = data;
      const listener = createServer((client) => {
        const from = hosts.get(client.remoteAddress ?? "") ?? outside;
        const link = new Link(client, port, () => isCut(from, host));
        links.add(link);
        client.on("close", () => link.isOver && links.delete(link));
      });
      listener.listen(0, "127.0.0.1", () => {
        const address = listener.address();
        self.postMessage({ number, port: typeof address === "object" ? address?.port : 0 });
      });
      return;
    }
    case "cut":
      cuts.set(data.number, data.cut);
      return;
    case "heal":
      cuts.delete(data.number);
      for (const link of links) {
        link.flush();
        if (link.isOver) links.delete(link);
      }
  }
};

/** A connection to a host. What happens to one side happens to the other one, at the end of a cut if there is one. */
class Link {
  readonly #client: Socket;
  readonly #isCut: () => boolean;
  #server: Socket | undefined;
  /** Data that has not arrived yet, in order. */
  readonly #held: (() => void)[] = [];

  constructor(client: Socket, port: number, isCut: () => boolean) {
    this.#client = client;
    this.#isCut = isCut;
    client.setNoDelay(true);
    client.on("error", () => {});
    client.on("close", () => this.#pass(() => this.#server?.destroy()));
    client.on("data", (bytes) => this.#pass(() => this.#server?.write(bytes)));
    this.#pass(() => {
      const server = connect(port, "127.0.0.1");
      this.#server = server;
      server.setNoDelay(true);
      server.on("error", () => {});
      server.on("close", () => this.#pass(() => client.destroy()));
      server.on("data", (bytes) => this.#pass(() => client.write(bytes)));
    });
  }

  get isOver(): boolean {
    return this.#client.destroyed && this.#held.length === 0;
  }

  flush(): void {
    while (this.#held.length > 0 && !this.#isCut()) this.#held.shift()!();
  }

  #pass(action: () => void): void {
    this.#held.push(action);
    this.flush();
  }
}
