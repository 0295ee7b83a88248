// Where the primary is, and who says so.

import type { RedisAddress, RedisNode } from "../../../runtime/redis_url.ts";

export type Place =
  | { readonly kind: "primary"; readonly address: RedisAddress }
  /** No connection may be made now. */
  | { readonly kind: "unknown"; readonly reason: string };

export interface Topology {
  /** Asks all nodes, then says where a new connection has to lead. @param slot on a cluster, of the queue's keys */
  locate(slot: number): Promise<Place>;
  /** As `locate`, according to the last answers. */
  place(slot: number): Place;
  /** The replicas that may be promoted; undefined if only the primary's INFO knows them. */
  replicas(slot: number): readonly RedisNode[] | undefined;
  /** Calls a function whenever the place may have changed. @returns a function that ends this */
  onAnswer(listener: () => void): () => void;
  close(): void;
}
