// A network between hosts on this machine, in which some can be cut off from others: every connection passes through here.
// A host is told from others by the address from which it connects, since all of 127.0.0.0/8 is this machine. It runs in a
// thread of its own: a test that waits for redis-cli would hold up the nodes otherwise.

/** The name of every process that is no host. */
export const outside = "outside";

export interface Cut {
  readonly host: string;
  /** Its peers are the other hosts. */
  readonly from: "everyone" | "peers" | "outside";
}

/** A message to the thread. */
export type NetworkOrder =
  | { readonly do: "name"; readonly host: string; readonly address: string }
  | { readonly do: "expose"; readonly number: number; readonly host: string; readonly port: number }
  | { readonly do: "cut"; readonly number: number; readonly cut: Cut }
  | { readonly do: "heal"; readonly number: number };

/** Its answer to `expose`. */
interface Exposed {
  readonly number: number;
  readonly port: number;
}

export interface Network {
  /** The address from which this host has to connect. */
  addressOf(host: string): string;
  /** Returns a port of 127.0.0.1 through which everybody reaches this port of the host. */
  expose(host: string, port: number): Promise<number>;
  /**
   * From now on nothing passes between the host and the others, and no connection breaks; what they send arrives when the
   * cut is over.
   * @returns a function that ends the cut
   */
  cut(cut: Cut): () => void;
  stop(): void;
}

export function createNetwork(): Network {
  const thread = new Worker(new URL("network_thread.ts", import.meta.url).href);
  const send = (order: NetworkOrder) => thread.postMessage(order);
  const addresses = new Map<string, string>();
  const waiting = new Map<number, (port: number) => void>();
  let last = 0;
  thread.onmessage = ({ data: { number, port } }: MessageEvent<Exposed>) => {
    waiting.get(number)!(port);
    waiting.delete(number);
  };
  return {
    addressOf(host) {
      const address = addresses.get(host) ?? `127.0.1.${addresses.size + 1}`;
      addresses.set(host, address);
      send({ do: "name", host, address });
      return address;
    },
    expose(host, port) {
      last += 1;
      const { promise, resolve } = Promise.withResolvers<number>();
      waiting.set(last, resolve);
      send({ do: "expose", number: last, host, port });
      return promise;
    },
    cut(cut) {
      last += 1;
      const number = last;
      send({ do: "cut", number, cut });
      return () => send({ do: "heal", number });
    },
    stop: () => thread.terminate(),
  };
}
