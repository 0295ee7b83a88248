// The clients of a run. They offer unique emails at a bounded rate. Most have an Idempotency-Key and repeat until they
// get 200, as the guide recommends; the others have none and try once. The result of each try is recorded before
// anything follows from it.

import { seededRandom } from "../fakes/faults.ts";
import { type Emails, type Fields, emailOf } from "./emails.ts";
import type { Journal } from "./journal.ts";

/** One try of one email, as a line of answers.jsonl. */
export interface Try {
  readonly n: number;
  /** End of the try, Unix ms, and its duration, ms. */
  readonly atMs: number;
  readonly tookMs: number;
  /** 0 if there was no answer. */
  readonly status: number;
  readonly id?: string;
  readonly error?: string;
  /** The email had an Idempotency-Key, so it can be repeated. */
  readonly keyed: boolean;
}

export interface LoadOptions {
  readonly emails: Emails;
  readonly urls: readonly string[];
  /** Emails per second. */
  readonly rate: number;
  /** Longest wait for one answer, ms. */
  readonly patienceMs: number;
  readonly journal: Journal<Try>;
}

export interface Load {
  /** Emails that were answered with 200. */
  readonly acknowledged: number;
  /**
   * Stops offering emails. Resolves when every email with a key has been answered with 200, or the time is over, with
   * the last try of each that never was.
   */
  finish(withinMs: number): Promise<Try[]>;
}

/** Maximum number of concurrent tries. */
export const inFlightMax = 64;
/** One email in this many has no Idempotency-Key. */
const keylessEvery = 8;
/** One email in this many is submitted again some time after its 200, or at the end. */
const againEvery = 20;
const againAfterMaxMs = 5000;
/** Before a try is repeated, ms. */
const repeatPauseMs = 50;
const tickMs = 10;

export function startLoad(options: LoadOptions): Load {
  const { emails, urls, rate, patienceMs, journal } = options;
  const { seed } = emails;
  const random = seededRandom(seed ^ 0x10ad);
  let next = 0;
  let acknowledged = 0;
  let finishing = false;
  const finished = Promise.withResolvers<void>();
  let givenUp = false;
  let due = 0;
  const open = new Set<Promise<void>>();
  /** The last failed try of each email with a key that has not been answered with 200. */
  const unanswered = new Map<number, Try>();

  const timer = setInterval(() => {
    due = Math.min(due + (rate * tickMs) / 1000, rate);
    while (due >= 1 && open.size < inFlightMax && !finishing) {
      due -= 1;
      const n = next;
      next += 1;
      const client = deliver(n, n % keylessEvery !== 0);
      open.add(client);
      void client.then(() => open.delete(client));
    }
  }, tickMs);

  async function deliver(n: number, keyed: boolean): Promise<void> {
    const fields = emailOf(n, emails);
    if (!keyed) {
      if ((await tryOnce(n, fields, undefined)).status === 200) acknowledged += 1;
      return;
    }
    const key = `chaos-${seed}-${n}`;
    for (;;) {
      const one = await tryOnce(n, fields, key);
      if (one.status === 200) break;
      unanswered.set(n, one);
      if (givenUp) return;
      await Bun.sleep(repeatPauseMs);
    }
    unanswered.delete(n);
    acknowledged += 1;
    if (n % againEvery !== 1 || finishing) return;
    await Promise.race([Bun.sleep(random() * againAfterMaxMs), finished.promise]);
    await tryOnce(n, fields, key);
  }

  async function tryOnce(n: number, fields: Fields, key: string | undefined): Promise<Try> {
    const url = urls[Math.floor(random() * urls.length)] as string;
    const startMs = performance.now();
    const answer = await post(url, fields, key, patienceMs);
    const one: Try = {
      n,
      atMs: Date.now(),
      tookMs: Math.round(performance.now() - startMs),
      keyed: key !== undefined,
      ...answer,
    };
    journal.write(one);
    return one;
  }

  return {
    get acknowledged() {
      return acknowledged;
    },
    async finish(withinMs) {
      finishing = true;
      finished.resolve();
      clearInterval(timer);
      const tooLate = setTimeout(() => (givenUp = true), withinMs);
      await Promise.all(open);
      clearTimeout(tooLate);
      return [...unanswered.values()];
    },
  };
}

async function post(
  url: string,
  fields: Fields,
  key: string | undefined,
  patienceMs: number,
): Promise<Pick<Try, "status" | "id" | "error">> {
  try {
    const response = await fetch(url, {
      method: "POST",
      body: JSON.stringify(fields),
      headers: {
        "content-type": "application/json",
        ...(key !== undefined && { "idempotency-key": key }),
      },
      signal: AbortSignal.timeout(patienceMs),
    });
    const { id, error_message: error } = (await response.json()) as { id?: string; error_message?: string };
    return {
      status: response.status,
      ...(id !== undefined && { id }),
      ...(error !== undefined && { error }),
    };
  } catch (error) {
    return { status: 0, error: codeOf(error) };
  }
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return "no answer in time";
  return "code" in error && typeof error.code === "string" ? error.code : error.message;
}
