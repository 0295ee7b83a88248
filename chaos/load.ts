// The clients of a run. They offer unique emails of all kinds at a bounded rate. Most have an Idempotency-Key and repeat
// until they get 200, as the guide recommends; the others have none and try once. The result of each try is recorded
// before anything follows from it.

import { seededRandom } from "../fakes/faults.ts";
import { type Email, type Emails, emailOf } from "./emails.ts";
import type { Journal } from "./journal.ts";
import { encodeBody, formsFor, type RequestBody } from "./request_body.ts";
import { pick } from "./schedule.ts";

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
  /** Its `send_at`, Unix ms. */
  readonly sendAtMs?: number;
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

interface Submitted {
  readonly n: number;
  readonly email: Email;
  readonly sendAtMs: number | undefined;
  readonly key: string | undefined;
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
    const email = emailOf(n, emails);
    // A repeat with another time would be another email.
    const sendAtMs = email.sendAfterMs && Date.now() + email.sendAfterMs;
    const submitted = { n, email, sendAtMs, key: keyed ? `chaos-${seed}-${n}` : undefined };
    if (!keyed) {
      if ((await tryOnce(submitted)).status === 200) acknowledged += 1;
      return;
    }
    for (;;) {
      const one = await tryOnce(submitted);
      if (one.status === 200) break;
      unanswered.set(n, one);
      if (givenUp) return;
      await Bun.sleep(repeatPauseMs);
    }
    unanswered.delete(n);
    acknowledged += 1;
    if (n % againEvery !== 1 || finishing) return;
    await Promise.race([Bun.sleep(random() * againAfterMaxMs), finished.promise]);
    await tryOnce(submitted);
  }

  async function tryOnce({ n, email, sendAtMs, key }: Submitted): Promise<Try> {
    const url = pick(urls, random());
    // Repeats use different kinds of body, which are the same email to the key.
    const body = encodeBody(email, pick(formsFor(email), random()), sendAtMs);
    const startMs = performance.now();
    const answer = await post(url, body, key, patienceMs);
    const one: Try = {
      n,
      atMs: Date.now(),
      tookMs: Math.round(performance.now() - startMs),
      keyed: key !== undefined,
      ...(sendAtMs !== undefined && { sendAtMs }),
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
  { contentType, bytes }: RequestBody,
  key: string | undefined,
  patienceMs: number,
): Promise<Pick<Try, "status" | "id" | "error">> {
  try {
    const response = await fetch(url, {
      method: "POST",
      body: bytes,
      headers: {
        "content-type": contentType,
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
