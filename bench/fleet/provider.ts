// Simulated providers, shared by all workers: a limit on requests in each second, and outages. Their answers are those
// that the adapters make of the real ones.

import { RateLimit } from "../../fakes/rate_limit.ts";
import type { FailedOutcome, RateHint, SendResult } from "../../lib/policy/request_outcome.ts";
import type { Provider } from "../../lib/providers/provider.ts";
import type { VirtualTime } from "./virtual_time.ts";

/** In an outage the provider's edge answers every request with a page of HTML and status 503: nobody knows what became of it. */
export interface Condition {
  readonly isDown: boolean;
  /** Requests in each second; more are throttled. */
  readonly limitPerSecond: number;
}

export interface Service {
  readonly name: string;
  readonly weight: number;
  readonly batchMax: number;
  readonly startRate: number;
  readonly maxRate: number;
  /** As Resend: its answers name the limit, and it knows idempotency keys. Otherwise as Postmark: neither, but a search. */
  readonly namesLimit: boolean;
  condition(nowMs: number): Condition;
}

/** Requests by what became of them, and the emails accepted. */
export interface Traffic {
  accepted: number;
  sends: number;
  searches: number;
  questions: number;
  throttled: number;
  failed: number;
}

/** Time to accept a batch, and to answer anything else, ms. */
const sendMs = 200;
const otherMs = 50;

export class SimulatedProvider {
  readonly service: Service;
  /** Since it was last set to zero. */
  traffic: Traffic = noTraffic();
  readonly #time: VirtualTime;
  readonly #window = new RateLimit();

  constructor(time: VirtualTime, service: Service) {
    this.#time = time;
    this.service = service;
  }

  /** As one worker's adapter sees it. */
  adapter(): Provider {
    const { name, batchMax, startRate, maxRate, namesLimit } = this.service;
    const base: Provider = {
      name,
      batchesFiles: true,
      batchMax,
      startRate,
      maxRate,
      context: "",
      credential: name,
      send: async ({ emails }) => {
        this.traffic.sends += 1;
        const { refused, rate } = await this.#answer(sendMs);
        if (refused !== undefined) return { result: { kind: "whole", outcome: refused }, rate };
        this.traffic.accepted += emails.length;
        const outcomes = emails.map(({ id }) => ({ kind: "accepted", providerMessageId: id }) as const);
        return { result: { kind: "each", outcomes } satisfies SendResult, rate };
      },
      check: async () => {
        this.traffic.questions += 1;
        const { refused } = await this.#answer(otherMs);
        if (refused === undefined) return { ok: true, answered: true, detail: "", account: name };
        return { ok: false, answered: refused.kind === "throttled", reason: refused.reason };
      },
    };
    if (namesLimit) return base;
    return {
      ...base,
      searchWaitMs: 60_000,
      search: async () => {
        this.traffic.searches += 1;
        const { refused, rate } = await this.#answer(otherMs);
        if (refused === undefined) return { result: { kind: "searched", found: new Map() }, rate };
        const outcome = refused.kind === "throttled" ? refused : { ...refused, kind: "unknown" as const };
        return { result: { kind: "failed", outcome }, rate };
      },
    };
  }

  async #answer(elapsedMs: number): Promise<{ refused?: Refusal; rate: RateHint }> {
    const { isDown, limitPerSecond } = this.service.condition(this.#time.nowMs);
    if (isDown) {
      await this.#time.sleep(otherMs);
      this.traffic.failed += 1;
      return { refused: { kind: "unknown", reason: "503", own: false }, rate: {} };
    }
    const { allowed, remaining, resetMs } = this.#window.take(limitPerSecond, this.#time.nowMs);
    await this.#time.sleep(allowed ? elapsedMs : otherMs);
    const rate: RateHint = this.service.namesLimit
      ? { limitPerSecond, remaining, resetMs, ...(!allowed && { retryAfterMs: 1000 }) }
      : {};
    if (allowed) return { rate };
    this.traffic.throttled += 1;
    return { refused: { kind: "throttled", reason: "429" }, rate };
  }
}

type Refusal = Extract<FailedOutcome, { kind: "unknown" | "throttled" }>;

export function noTraffic(): Traffic {
  return { accepted: 0, sends: 0, searches: 0, questions: 0, throttled: 0, failed: 0 };
}
