// The vocabulary of scenarios. A scenario is data: which faults strike a running service, how often, and which promises
// the service still has to keep. inject.ts injects the faults.

import type { Fault as ProviderFault } from "../fakes/faults.ts";
import type { PostmarkSettings } from "../fakes/postmark.ts";
import type { ResendSettings } from "../fakes/resend.ts";
import type { Limits } from "./lateness.ts";

/** Where the queue is: in a file, on one Redis, on Redis with Sentinel, or on a Redis Cluster. */
export type Store = "embedded" | "redis" | "sentinel" | "cluster";
export type Provider = "resend" | "postmark";

/** A process of the service or of the store; if there are several, one is drawn. */
export type Component = "server" | "worker" | "redis";

/** The role of a node of Sentinel or Cluster when a fault strikes it. */
export type NodeRole = "primary" | "replica" | "sentinel";

/** A network link that can fail. */
export type Link =
  /** Between the clients and a server. */
  | "clients"
  /** Between a server, or a worker, and Redis. */
  | "server-redis"
  | "worker-redis"
  /** Between a worker and a provider. */
  | Provider;

/** Owners of a wall clock. The embedded queue uses the service's. */
export type Clocked = "service" | "redis";

/** A range from which a number is drawn. */
export type Range = readonly [number, number];

export type Fault =
  /** kill -9 of one component, or of everything at the same time, and an immediate restart. */
  | { readonly do: "kill"; readonly component: Component | "everything" }
  /** SIGTERM, and a restart after the exit. */
  | { readonly do: "restart"; readonly component: "server" | "worker" }
  /** SIGSTOP, then SIGCONT. */
  | { readonly do: "freeze"; readonly component: Component; readonly forMs: Range }
  /** Redis's replica is promoted behind the same address. The old primary finally becomes its replica. */
  | { readonly do: "failOver"; readonly old: "demoted" | "hung" | "dead"; readonly forMs: Range }
  /** One node of Sentinel or Cluster fails. Another one may take its role meanwhile. */
  | {
      readonly do: "node";
      readonly role: NodeRole;
      readonly how:
        | "kill"
        /** SIGSTOP, then SIGCONT. */
        | "freeze"
        /** Nothing passes between it and the others, and connections stay open; what was sent arrives in the end. */
        | "cutFromEveryone"
        /** The same between it and the other nodes: the service still reaches it. */
        | "cutFromPeers"
        | "cutFromService";
      readonly forMs: Range;
      /** It does not come back until another primary has all other replicas. */
      readonly untilReplaced?: true;
    }
  /** An operator promotes a replica. */
  | { readonly do: "promote"; readonly forMs: Range }
  /**
   * An operator moves a partition's slot to another primary of the cluster. With `killSource` the source is killed in the
   * middle, and the operator repairs the cluster when it is back.
   */
  | { readonly do: "moveSlot"; readonly killSource?: true }
  /** kill -9 of everything; all but the first `keep` writes that no fsync followed are lost. */
  | { readonly do: "cutPower"; readonly keep: Range }
  /** kill -9 of Redis, which leaves half of an unanswered command at the end of its log. */
  | { readonly do: "tearLog" }
  /** Redis has reached its `maxmemory`. */
  | { readonly do: "fillMemory"; readonly forMs: Range }
  | { readonly do: "fillDisk"; readonly forMs: Range }
  /** Each fsync takes longer. */
  | { readonly do: "slowDisk"; readonly syncMs: Range; readonly forMs: Range }
  /** The wall clock of Redis, or of all processes of the service, is wrong by one of these offsets, ms. */
  | {
      readonly do: "stepClock";
      readonly of: Clocked;
      readonly aheadMs: readonly number[];
      readonly forMs: Range;
    }
  | {
      readonly do: "network";
      readonly link: Link;
      readonly how:
        /** Requests arrive, but replies are dropped. */
        | "dropReplies"
        /** The connection is reset instead of a reply. */
        | "cutReplies"
        /** Nothing arrives, and the connection stays open. */
        | "halfOpen"
        /** All connections are reset, new ones too. */
        | "reset"
        /** Every answer takes `delayMs` longer. */
        | "delay";
      readonly delayMs?: Range;
      readonly forMs: Range;
    }
  /** A provider's API fails some requests, in one way or in several. */
  | {
      readonly do: "provider";
      readonly name: Provider;
      readonly fault: ProviderFault | readonly ProviderFault[];
      /** Probability of each effect; effects are drawn one after another. */
      readonly probability: number;
      readonly forMs: Range;
    }
  /** A provider's API cannot be reached. */
  | { readonly do: "providerDown"; readonly name: Provider; readonly forMs: Range }
  /** A provider behaves differently for a while. */
  | {
      readonly do: "providerBehaves";
      readonly name: "resend";
      readonly as: Partial<ResendSettings>;
      readonly forMs: Range;
    }
  | {
      readonly do: "providerBehaves";
      readonly name: "postmark";
      readonly as: Partial<PostmarkSettings>;
      readonly forMs: Range;
    }
  /**
   * A worker is frozen at one exact point: it has read the provider's answer, which is `fault` or the normal one, and
   * its settlement has not reached the store. It continues when its lease has expired and another worker has the batch.
   */
  | {
      readonly do: "freezeBeforeSettlement";
      readonly name: Provider;
      readonly fault?: ProviderFault;
      /**
       * The fault that other workers meet at that provider, from the end of the lease until the frozen worker
       * continues.
       */
      readonly meanwhile?: ProviderFault;
      /** Counted from the end of the lease. With `fault`, until the next worker has claimed the batch. */
      readonly forMs: Range;
    };

export interface Scenario {
  readonly name: string;
  /** Describes in one line what the scenario shows. */
  readonly about: string;
  /** A file and one Redis if absent. */
  readonly stores?: readonly Store[];
  readonly servers?: number;
  readonly workers?: number;
  /** How many of the workers are of the adjacent release. */
  readonly previousWorkers?: number;
  /** Settings of the service. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Settings of redis.conf. */
  readonly redis?: Readonly<Record<string, string>>;
  /** Behavior of the providers for the whole run. */
  readonly resend?: Partial<ResendSettings>;
  readonly postmark?: Partial<PostmarkSettings>;
  /** All emails have the same sender, so that they go out in few batches. */
  readonly oneSender?: true;
  /** Whether no email has files, copies, headers, tags or `send_at`. */
  readonly onlyPlain?: true;
  /** One email in this many is poisoned: at one provider or both, every request that contains it fails. */
  readonly poisonEvery?: number;
  /** How soon emails must be accepted; no limit if absent. Limits restart when a wrong clock is right again. */
  readonly limits?: Limits;
  /** Emails offered per second. */
  readonly rate?: number;
  /** The faults to draw from; a fault listed twice is drawn twice as often. */
  readonly faults: readonly Fault[];
  /** Pause between the end of one fault and the next, ms. */
  readonly pauseMs: Range;
  /** Extra time of each fsync of the store's disk, for the whole run, ms. */
  readonly diskSyncMs?: number;
  /** How many faults may strike at the same time. */
  readonly lanes?: number;
  /**
   * Postmark may accept an email twice if the service reports it as a possible duplicate: a request can reach Postmark,
   * or show up there, later than anybody waits for it.
   */
  readonly mayDuplicateAtPostmark?: true;
  /** Any provider may accept an email twice if the service reports it as a possible duplicate. */
  readonly mayDuplicateIfCounted?: true;
  /** Redis reaches its `maxmemory` when the faults are over, and the queue must drain nevertheless. */
  readonly drainsWithMemoryFull?: true;
  /** The workers are restarted after healing, as by an operator who has replaced a key. */
  readonly healedByRestart?: true;
  /** Clients may wait longer than SUBMIT_TIMEOUT, because their server is frozen or cut off. */
  readonly mayHang?: true;
  /** Processes must stay ready, except for reasons that follow from faults of the store or the providers. */
  readonly staysReady?: true;
}

/** The stores on which a scenario runs. */
export function storesOf({ stores = ["redis", "embedded"] }: Scenario): readonly Store[] {
  return stores;
}
