// The worker's loop: picks a provider, claims a batch for it, and gives it to a free slot. Claims follow one
// another, so that shares are exact and an idle worker asks once; requests run side by side.

import { openBell } from "./bell.ts";
import type { Deliverer } from "./deliverer.ts";
import { deliver, handBack } from "./delivery.ts";
import { type Claim, claimedBy, newClaim, outlasts } from "./claim.ts";
import { giveTicketBack, type Lane, opensAtMs, takeTicket, type Ticket } from "./lane.ts";
import { charge, evenShares, pick } from "../policy/selector.ts";
import { knownDomains } from "../policy/senders.ts";
import { type ClaimResult, StoreUnavailable } from "../queue/queue.ts";

export interface DispatchSettings {
  /** Provider requests in flight. */
  readonly concurrency: number;
  /** From a batch's first claim to the end of its doubt, ms. */
  readonly doubtMs: number;
}

export interface Dispatcher {
  /** Stops claiming; resolves when everything in flight is settled. */
  drain(): Promise<void>;
}

/** Stored bytes of a batch, but one email at least. */
const batchBytesMax = 4 * 1024 * 1024;
/** Longest sleep: a wake-up may be lost, ms. */
const pollMs = 1000;
/** Between two batches in doubt of a provider of weight 0, ms. */
const restMs = 50;
/** Before a store is asked again that did not answer, ms. */
const storePauseMs = 100;
/** Before a batch is claimed again that too few replicas knew of, ms. */
const replicaPauseMs = 1000;

export function startDispatcher(
  deliverer: Deliverer,
  lanes: readonly Lane[],
  { concurrency, doubtMs }: DispatchSettings,
): Dispatcher {
  const { work, settings, log } = deliverer;
  const inFlight = new Set<Promise<void>>();
  const bell = openBell();
  let shares = evenShares;
  let stopping = false;
  /** Why the store does not answer, while it does not. */
  let lost: string | undefined;
  let paused = false;

  work.onWake(bell.ring);
  const stopped = run();

  async function run(): Promise<void> {
    while (!stopping) {
      const sleepMs = inFlight.size < concurrency ? await round() : pollMs;
      if (sleepMs > 0 && !stopping) await bell.wait(Math.min(sleepMs, pollMs));
    }
  }

  /** One batch, for the provider whose turn it is. Returns how long to sleep then, ms. */
  async function round(): Promise<number> {
    const nowMs = performance.now();
    const waits = lanes.map((lane) => {
      const opensMs = Math.max(opensAtMs(lane, nowMs) ?? Infinity, lane.restsUntilMs);
      return { lane, waitMs: opensMs - nowMs };
    });
    const open = waits.filter(({ waitMs }) => waitMs <= 0).map(({ lane }) => lane);
    let sleepMs = Math.min(pollMs, ...waits.map(({ waitMs }) => waitMs).filter((waitMs) => waitMs > 0));
    for (let left = open; left.length > 0;) {
      const lane = turn(left);
      left = left.filter((other) => other !== lane);
      const ticket = takeTicket(lane, performance.now());
      if (ticket === undefined) continue;
      const outcome = await claimFor(lane, ticket, open);
      if (outcome.kind === "done") return outcome.sleepMs;
      sleepMs = Math.min(sleepMs, outcome.dueInMs);
    }
    return sleepMs;
  }

  /** Whose turn it is. Those of weight 0 have little to do, so they are asked first, but with rests. */
  function turn(left: readonly Lane[]): Lane {
    const chosen = pick(shares, weighted(left));
    return (
      left.find(({ weight }) => weight === 0) ??
      left.find(({ provider }) => provider.name === chosen?.name) ??
      left[0]!
    );
  }

  async function claimFor(
    lane: Lane,
    ticket: Ticket,
    open: readonly Lane[],
  ): Promise<{ kind: "done"; sleepMs: number } | { kind: "empty"; dueInMs: number }> {
    // One whose answer was lost is repeated, while something could still be begun under its lease.
    if (lane.claim === undefined || !outlasts(lane.claim, settings.leaseMs, 0)) lane.claim = newClaim();
    const { claim } = lane;
    const result = await ask(lane, ticket, claim);
    if (result === undefined) {
      giveTicketBack(lane, ticket);
      return { kind: "done", sleepMs: storePauseMs };
    }
    lane.claim = undefined;
    if (lane.weight === 0) {
      const isIdle = result.kind === "empty" || result.kind === "paused";
      lane.restsUntilMs = performance.now() + (isIdle ? pollMs : restMs);
    }
    if (result.kind === "batch" && !stopping) {
      const { batch } = result;
      // Emails are counted once, when they leave the queue: not when their batch comes again or is split.
      if (batch.id === claim.id) shares = charge(shares, weighted(open), batch.provider, batch.emails.length);
      occupy(deliver(deliverer, lane, ticket, claimedBy(claim, batch)));
      return { kind: "done", sleepMs: 0 };
    }
    giveTicketBack(lane, ticket);
    switch (result.kind) {
      case "empty":
        return { kind: "empty", dueInMs: result.nextDueInMs ?? Infinity };
      case "spent":
        return { kind: "done", sleepMs: 0 };
      case "paused":
        // The other lanes are asked all the same: one may have a claim to repeat, and that is still answered.
        return { kind: "empty", dueInMs: Infinity };
      case "batch":
        occupy(handBack(deliverer, claimedBy(claim, result.batch), 0));
        return { kind: "done", sleepMs: 0 };
      case "unreplicated":
        log.warn("claim-unreplicated", { batch: result.batch.id });
        occupy(handBack(deliverer, claimedBy(claim, result.batch), replicaPauseMs));
        return { kind: "done", sleepMs: replicaPauseMs };
    }
  }

  /** Undefined if the store did not answer. */
  async function ask(
    { provider, weight, first, senders }: Lane,
    { admitted }: Ticket,
    { id }: Claim,
  ): Promise<ClaimResult | undefined> {
    const isProbe = admitted.kind === "probe";
    try {
      const result = await work.claim({
        claimId: id,
        provider: provider.name,
        claimant: provider.name,
        number: 1,
        credential: "",
        shared: true,
        dueCountMax: 0,
        countMax: isProbe ? 1 : provider.batchMax,
        bytesMax: batchBytesMax,
        leaseMs: settings.leaseMs,
        doubtMs,
        context: provider.recall === undefined ? knownDomains(senders, performance.now()) : provider.context,
        sources:
          weight === 0
            ? ["batches"]
            : (isProbe ? admitted.first : first) === "batches"
              ? ["batches", "emails", "split"]
              : ["emails", "split", "batches"],
      });
      if (lost !== undefined) log.info("store-back");
      lost = undefined;
      notePause();
      return result;
    } catch (error) {
      const reason = error instanceof StoreUnavailable ? error.message : String(error);
      if (reason !== lost) log.error("store-lost", { reason });
      lost = reason;
      return undefined;
    }
  }

  /** Said once, however often a claim is refused. */
  function notePause(): void {
    if (work.paused() === paused) return;
    paused = work.paused();
    if (paused) log.info("paused");
    else log.info("resumed");
  }

  function occupy(slot: Promise<void>): void {
    const settled = slot
      .catch((error: unknown) => log.error("delivery-failed", { reason: String(error) }))
      .finally(() => {
        inFlight.delete(settled);
        bell.ring();
      });
    inFlight.add(settled);
  }

  return {
    async drain() {
      stopping = true;
      bell.ring();
      await stopped;
      await Promise.all(inFlight);
    },
  };
}

const weighted = (lanes: readonly Lane[]) =>
  lanes.flatMap(({ provider, weight }) => (weight > 0 ? [{ name: provider.name, weight }] : []));
