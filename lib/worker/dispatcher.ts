// The worker's loop: picks a provider, claims a batch for it, and gives it to a free slot. Claims follow one
// another, so that shares are exact and an idle worker asks once; requests run side by side.

import { describe } from "../runtime/errors.ts";
import { openBell } from "./wakeup.ts";
import type { Deliverer } from "./delivery_context.ts";
import { deliver, handBack } from "./delivery.ts";
import { askQuestion } from "./provider_check.ts";
import { claimedBy, newClaim, outlasts } from "./lease_clock.ts";
import {
  giveTicketBack,
  type Lane,
  noteServed,
  type Opening,
  openingOf,
  takeTicket,
  type Ticket,
} from "./provider_state.ts";
import { charge, evenShares, pick } from "../policy/round_robin.ts";
import { type Batch, type ClaimResult, type ClaimSource, StoreUnavailable } from "../queue/contract.ts";

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
/** Longest that emails wait for the permit of the provider whose turn it is, ms. */
const turnWaitMaxMs = 1000;
/** Due emails are counted up to this many. */
const dueCountMax = 5000;
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
  const { worker, work, settings, log } = deliverer;
  const inFlight = new Set<Promise<void>>();
  /** How many of these are emails in pieces or batches in doubt, which may hang. */
  let suspects = 0;
  const bell = openBell();
  let shares = evenShares;
  /** Emails that were due and not taken by the last claim that took some. */
  let dueLeft = 0;
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

  /** One batch or one question. Returns how long to sleep then, ms. */
  async function round(): Promise<number> {
    const nowMs = performance.now();
    const openings = lanes.map((lane) => ({ lane, opening: openingOf(lane, nowMs) }));
    const isOpen = ({ atMs }: Opening) => atMs !== undefined && atMs <= nowMs;
    for (const { lane, opening } of openings) {
      const ticket = opening.kind === "question" && isOpen(opening) ? takeTicket(lane, nowMs) : undefined;
      if (ticket !== undefined) ask(lane, ticket);
    }
    // A slot is left for each other provider: one that hangs would take all of them.
    const most = Math.max(1, concurrency - (lanes.length - 1));
    const admitted = openings.filter(
      ({ lane, opening }) => opening.kind === "request" && lane.inFlight < most,
    );
    const turn = turnOf(admitted, nowMs);
    const open = admitted.filter(({ opening }) => isOpen(opening)).map(({ lane }) => lane);
    let sleepMs = sleepUntil(
      openings.map(({ opening }) => opening.atMs),
      nowMs,
    );
    for (const lane of inOrder(open, turn)) {
      const isTurn = turn === undefined || turn === lane;
      const ticket = takeTicket(lane, performance.now());
      if (ticket === undefined) continue;
      if (ticket.admitted.kind === "question") {
        // Its breaker has opened since this round began.
        ask(lane, ticket);
        continue;
      }
      const outcome = await claimFor(lane, ticket, isTurn, turn === undefined ? open : lanesOf(admitted));
      if (outcome.kind === "done") return outcome.sleepMs;
      sleepMs = Math.min(sleepMs, outcome.dueInMs);
    }
    return sleepMs;
  }

  function ask(lane: Lane, ticket: Ticket): void {
    occupy(askQuestion(deliverer, lane, ticket), false);
  }

  /**
   * The provider that emails wait for, if its next permit is near; batches form meanwhile. Undefined if any provider
   * with a permit may take them: its next permit is too far off, or more is due than all carry at their weights.
   */
  function turnOf(
    admitted: readonly { readonly lane: Lane; readonly opening: Opening }[],
    nowMs: number,
  ): Lane | undefined {
    const chosen = pick(shares, weighted(lanesOf(admitted)));
    const turn = admitted.find(({ lane }) => lane.provider.name === chosen?.name);
    if (turn?.opening.atMs === undefined || turn.opening.atMs > nowMs + turnWaitMaxMs) return undefined;
    return dueLeft > carried(lanesOf(admitted)) ? undefined : turn.lane;
  }

  /** Those of weight 0 have little to do, so they are asked first, but with rests; then by shares. */
  function inOrder(open: readonly Lane[], turn: Lane | undefined): Lane[] {
    const order = open.filter(({ weight }) => weight === 0);
    for (let left = open.filter(({ weight }) => weight > 0); left.length > 0;) {
      const chosen = pick(shares, weighted(left));
      const lane =
        left.find((one) => one === turn) ??
        left.find(({ provider }) => provider.name === chosen?.name) ??
        left[0]!;
      order.push(lane);
      left = left.filter((other) => other !== lane);
    }
    return order;
  }

  /** @param shared whether the lane may take emails that others may take too */
  async function claimFor(
    lane: Lane,
    ticket: Ticket,
    shared: boolean,
    eligible: readonly Lane[],
  ): Promise<{ kind: "done"; sleepMs: number } | { kind: "empty"; dueInMs: number }> {
    const sources = sourcesFor(lane, ticket);
    if (sources.length === 0) {
      giveTicketBack(lane, ticket);
      return { kind: "empty", dueInMs: Infinity };
    }
    // One whose answer was lost is repeated, while something could still be begun under its lease.
    if (lane.claim === undefined || !outlasts(lane.claim, settings.leaseMs, 0))
      lane.claim = newClaim((lane.claims += 1));
    const { claim } = lane;
    const result = await claimOnce(lane, ticket, sources, shared);
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
      const source = sourceOf(batch, claim.id);
      noteServed(lane, source);
      // Emails are counted once, when they leave the queue: not when their batch comes again.
      if (source !== "batches") {
        dueLeft = result.dueLeft;
        lane.carries = dueLeft > 0 && source === "emails" ? batch.emails.length : lane.provider.batchMax;
        shares = charge(shares, weighted(eligible), batch.provider, batch.emails.length);
      }
      lane.inFlight += 1;
      const delivery = deliver(deliverer, lane, ticket, claimedBy(claim, batch));
      occupy(
        delivery.finally(() => (lane.inFlight -= 1)),
        source !== "emails",
      );
      return { kind: "done", sleepMs: 0 };
    }
    giveTicketBack(lane, ticket);
    switch (result.kind) {
      case "empty":
        if (shared) dueLeft = 0;
        return { kind: "empty", dueInMs: result.nextDueInMs ?? Infinity };
      case "spent":
        return { kind: "done", sleepMs: 0 };
      case "paused":
        // The other lanes are asked all the same: one may have a claim to repeat, and that is still answered.
        return { kind: "empty", dueInMs: Infinity };
      case "batch":
        occupy(handBack(deliverer, claimedBy(claim, result.batch), 0), false);
        return { kind: "done", sleepMs: 0 };
      case "unreplicated":
        log.warn("claim-unreplicated", { batch: result.batch.id });
        occupy(handBack(deliverer, claimedBy(claim, result.batch), replicaPauseMs), false);
        return { kind: "done", sleepMs: replicaPauseMs };
    }
  }

  /**
   * Pieces and batches in doubt, which may hang, never take every slot. A probe is a new email, if there is one; but a
   * batch in doubt first where that is searched for, which puts nothing more in doubt, and where the probe is blind.
   */
  function sourcesFor({ sources, provider }: Lane, { admitted }: Ticket): readonly ClaimSource[] {
    if (concurrency > 1 && suspects >= concurrency - 1) return sources.filter((one) => one === "emails");
    if (admitted.kind !== "probe") return sources;
    const order: readonly ClaimSource[] =
      admitted.isBlind || provider.recall !== undefined
        ? ["batches", "emails", "split"]
        : ["emails", ...sources.filter((one) => one !== "emails")];
    return order.filter((one) => sources.includes(one));
  }

  /** Undefined if the store did not answer. */
  async function claimOnce(
    { provider, countMax, claim }: Lane,
    { admitted }: Ticket,
    sources: readonly ClaimSource[],
    shared: boolean,
  ): Promise<ClaimResult | undefined> {
    try {
      const result = await work.claim({
        claimId: claim!.id,
        claimant: `${worker}:${provider.name}`,
        number: claim!.number,
        provider: provider.name,
        credential: provider.credential,
        sources,
        shared,
        countMax: admitted.kind === "probe" ? 1 : countMax,
        bytesMax: batchBytesMax,
        leaseMs: settings.leaseMs,
        doubtMs,
        context: provider.context,
        dueCountMax,
      });
      if (lost !== undefined) log.info("store-back");
      lost = undefined;
      notePause();
      return result;
    } catch (error) {
      const reason = error instanceof StoreUnavailable ? error.message : describe(error).reason;
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

  function occupy(slot: Promise<void>, isSuspect: boolean): void {
    if (isSuspect) suspects += 1;
    const settled = slot
      .catch((error: unknown) => log.error("delivery-failed", describe(error)))
      .finally(() => {
        if (isSuspect) suspects -= 1;
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

const lanesOf = (openings: readonly { readonly lane: Lane }[]) => openings.map(({ lane }) => lane);

const weighted = (lanes: readonly Lane[]) =>
  lanes.flatMap(({ provider, weight }) => (weight > 0 ? [{ name: provider.name, weight }] : []));

/** Emails that these carry in a second at their weights: the one that is first at its limit decides. */
function carried(lanes: readonly Lane[]): number {
  const total = lanes.reduce((sum, { weight }) => sum + weight, 0);
  const each = lanes
    .filter(({ weight }) => weight > 0)
    .map(({ rate, carries, weight }) => (rate.ratePerSecond * carries * total) / weight);
  return Math.min(dueCountMax - 1, ...each);
}

function sourceOf(batch: Batch, claimId: string): ClaimSource {
  if (batch.id !== claimId) return "batches";
  return batch.pieceMax === undefined ? "emails" : "split";
}

function sleepUntil(times: readonly (number | undefined)[], nowMs: number): number {
  const waits = times.flatMap((atMs) => (atMs !== undefined && atMs > nowMs ? [atMs - nowMs] : []));
  return Math.min(pollMs, ...waits);
}
