// Makes the sockets of ioredis's connections to the primary.

import { connect as connectTcp, Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { AbstractConnector, type RedisOptions } from "ioredis";
import type { RedisAddress } from "../../runtime/redis_url.ts";
import type { Place } from "./topology/topology.ts";

/** The fields of an INFO that matter here, as ioredis reads it. */
export interface NodeInfo {
  readonly role?: string;
  readonly redis_mode?: string;
}

interface ConnectorEvents {
  /** Where this connection has to lead. */
  locate(): Promise<Place>;
  /** Called when a TLS handshake begins and when it has ended. */
  onTls(isInHandshake: boolean): void;
  /** Whether the connection may become ready. @param info of INFO; empty where Redis hides it */
  check(info: NodeInfo): boolean;
}

/** Makes ioredis's connections, locating the primary and resolving its name each time. */
export function createConnector({ locate, onTls, check }: ConnectorEvents) {
  return class extends AbstractConnector {
    readonly #options: RedisOptions;

    constructor(options: unknown) {
      super((options as RedisOptions).disconnectTimeout ?? 2000);
      this.#options = options as RedisOptions;
    }

    override async connect() {
      this.connecting = true;
      delete this.firstError;
      onTls(false);
      // Not before ioredis's constructor has returned, whose caller may close it at once: an await does that.
      const place = await locate();
      if (place.kind === "unknown") this.firstError = new Error(place.reason);
      const stream =
        place.kind === "unknown" || !this.connecting ? brokenSocket() : this.#open(place.address);
      this.stream = stream;
      return stream;
    }

    override check(info: NodeInfo): boolean {
      return check(info);
    }

    #open(address: RedisAddress): Socket {
      const { tls } = this.#options;
      const stream = tls ? connectTls({ ...address, ...tls }) : connectTcp(address);
      if (tls) {
        stream.once("connect", () => onTls(true));
        stream.once("secureConnect", () => onTls(false));
      }
      stream.once("error", (error) => (this.firstError = error));
      return stream;
    }
  };
}

/** ioredis tries again later if a connection breaks, but never again if none is made. */
function brokenSocket(): Socket {
  return new Socket().destroy();
}
