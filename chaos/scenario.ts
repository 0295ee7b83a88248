// What a scenario can say. A scenario is data: which faults strike a running service, how often, and what the service
// owes all the same. How a fault is done is in inject.ts.

import type { Fault as ProviderFault } from "../fakes/faults.ts";
import type { PostmarkSettings } from "../fakes/postmark.ts";
import type { ResendSettings } from "../fakes/resend.ts";
import type { Limits } from "./lateness.ts";

export type Queue = "redis" | "embedded";
export type Provider = "resend" | "postmark";

/** A process of the service, or the store's; of several one is drawn. */
export type Component = "server" | "worker" | "redis";

/** Between whom a network can fail. */
export type Link =
  /** Between the clients and a server. */
  | "clients"
  /** Between a server, or a worker, and Redis. */
  | "server-redis"
  | "worker-redis"
  /** Between a worker and a provider. */
  | Provider;

/** Who has a wall clock of its own. The embedded queue uses the service's. */
export type Clocked = "service" | "redis";

/** From and to: a number is drawn from it. */
export type Range = readonly [number, number];

export type Fault =
  /** kill -9, of one or of everything at once; all is started again at once. */
  | { readonly do: "kill"; readonly component: Component | "everything" }
  /** SIGTERM, and started again once it has ended. */
  | { readonly do: "restart"; readonly component: "server" | "worker" }
  /** SIGSTOP, then SIGCONT. */
  | { readonly do: "freeze"; readonly component: Component; readonly forMs: Range }
  /** The replica of Redis is promoted, behind the same address, and the old primary becomes its replica in the end. */
  | { readonly do: "failOver"; readonly old: "demoted" | "hung" | "dead"; readonly forMs: Range }
  /** kill -9 of everything; what no fsync had followed is not on the disk, but for the first `keep` writes. */
  | { readonly do: "cutPower"; readonly keep: Range }
  /** kill -9 of Redis; a command that was never answered stands half at the end of its log. */
  | { readonly do: "tearLog" }
  /** Redis has reached its `maxmemory`. */
  | { readonly do: "fillMemory"; readonly forMs: Range }
  | { readonly do: "fillDisk"; readonly forMs: Range }
  /** Each fsync takes so much longer. */
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
        /** Nothing is answered any more, though everything arrives. */
        | "dropReplies"
        /** The connection is reset in place of an answer. */
        | "cutReplies"
        /** Nothing arrives, and nobody is told. */
        | "halfOpen"
        /** All connections are reset, new ones too. */
        | "reset"
        /** Every answer takes `delayMs` longer. */
        | "delay";
      readonly delayMs?: Range;
      readonly forMs: Range;
    }
  /** A provider's API goes wrong in one way, or in several, for some of its requests. */
  | {
      readonly do: "provider";
      readonly name: Provider;
      readonly fault: ProviderFault | readonly ProviderFault[];
      /** Of each way; one is looked at after the other. */
      readonly probability: number;
      readonly forMs: Range;
    }
  /** A provider's API cannot be reached. */
  | { readonly do: "providerDown"; readonly name: Provider; readonly forMs: Range }
  /** A provider behaves otherwise for a while. */
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
   * A worker is stopped at one named point: it has read the provider's answer, which is `fault`, or as it would be, and
   * its settlement has not reached the store. It goes on when its lease is over and another worker has the batch.
   */
  | {
      readonly do: "freezeBeforeSettlement";
      readonly name: Provider;
      readonly fault?: ProviderFault;
      /** What the other workers meet at that provider from the end of the lease until it goes on. */
      readonly meanwhile?: ProviderFault;
      /** From the end of the lease on. With `fault`, until the next worker has taken the batch. */
      readonly forMs: Range;
    };

export interface Scenario {
  readonly name: string;
  /** What it shows, in a line. */
  readonly about: string;
  /** Both, if absent. */
  readonly queues?: readonly Queue[];
  readonly servers?: number;
  readonly workers?: number;
  /** Of the service. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Of redis.conf. */
  readonly redis?: Readonly<Record<string, string>>;
  /** How the providers behave all the time. */
  readonly resend?: Partial<ResendSettings>;
  readonly postmark?: Partial<PostmarkSettings>;
  /** All emails are from one sender, so that they go out in few batches. */
  readonly oneSender?: true;
  /** One email in this many is poisoned: at one provider or both, every request that contains it fails. */
  readonly poisonEvery?: number;
  /** How soon emails must be accepted; no limit if absent. Limits restart when a wrong clock is right again. */
  readonly limits?: Limits;
  /** Emails offered in a second. */
  readonly rate?: number;
  /** The faults to draw from; one named twice is drawn twice as often. */
  readonly faults: readonly Fault[];
  /** Between the end of one fault and the next, ms. */
  readonly pauseMs: Range;
  /** Each fsync of the store's disk takes so much longer, all the time, ms. */
  readonly diskSyncMs?: number;
  /** How many faults may strike at the same time. */
  readonly lanes?: number;
  /**
   * An email may arrive twice where only Postmark could have prevented it, if the service itself says that it may
   * have: when a request can reach Postmark, or be found there, later than anybody waits for it.
   */
  readonly mayDuplicateAtPostmark?: true;
  /** An email may arrive twice by any provider, if the service counts and names it as a possible duplicate. */
  readonly mayDuplicateIfCounted?: true;
  /** Redis has reached its `maxmemory` when the faults are over, and the queue has to drain all the same. */
  readonly drainsWithMemoryFull?: true;
  /** The workers are restarted when all is healed, as by an operator who has mended a key. */
  readonly healedByRestart?: true;
  /** Clients may wait for longer than SUBMIT_TIMEOUT: the server they talk to is frozen or cut off. */
  readonly mayHang?: true;
  /** Processes must stay ready, except for reasons that follow from faults of the store or the providers. */
  readonly staysReady?: true;
}

/** The queues that a scenario is for. */
export function queuesOf({ queues = ["redis", "embedded"] }: Scenario): readonly Queue[] {
  return queues;
}
