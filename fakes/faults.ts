// Scripted faults between a fake's API and its client. A fault does not know the API: it says at which stage of a
// request it strikes, and what the client then sees.

import type { Answer, RequestHead } from "./http.ts";

/**
 * When a fault strikes:
 * - `head`: the head was read, the body was not
 * - `read`: the request was read, and the API never sees it
 * - `working`: the API has begun (an idempotency key is in use) and has accepted nothing yet; it continues
 *   afterwards, whatever the client saw
 * - `accepted`: the API has finished its work
 */
export type Stage = "head" | "read" | "working" | "accepted";

/** The effect as the client sees it. */
export type Effect =
  /** The answer of the API, for a fault that only delays it. */
  | "nothing"
  /** RST. */
  | "reset"
  /** FIN instead of an answer. */
  | "close"
  /** No answer, ever. */
  | "hang"
  /** FIN or RST in the middle of the answer's head or body. */
  | "closeInHead"
  | "closeInBody"
  | "resetInBody"
  /** Bytes that are not HTTP. */
  | "nonsense"
  /** The API's answer without its last element. */
  | "oneShort"
  /** This answer instead. Its body is `text`, or `json` as JSON. */
  | {
      readonly status: number;
      readonly json?: unknown;
      readonly text?: string;
      readonly headers?: Record<string, string>;
    };

export interface Fault {
  readonly stage: Stage;
  /** Delay before it strikes, ms. */
  readonly delayMs?: number;
  readonly effect: Effect;
}

export interface FaultRule {
  readonly fault: Fault;
  /** Number of requests that it strikes; all until cleared if absent. */
  readonly times?: number;
  /** Probability for each request that it could strike, in [0, 1]; 1 if absent. */
  readonly probability?: number;
  /** Strikes only requests whose path ends with this. */
  readonly path?: string;
  /** Strikes only requests for which this is true. Cannot be set over HTTP. */
  readonly when?: (request: RequestHead) => boolean;
}

export interface Faults {
  /** Appends a rule. Only the first rule that applies to a request strikes it. */
  add(rule: FaultRule): void;
  /** Adds a rule for the next request, or for the next `times` requests. */
  next(fault: Fault, times?: number): void;
  clear(): void;
  /** The fault for this request, if any. It counts as having struck. */
  take(request: RequestHead): Fault | undefined;
}

/** @param seed of the random numbers for rules with a probability; the same seed gives the same numbers */
export function createFaults(seed = 1): Faults {
  let rules: { rule: FaultRule; left: number }[] = [];
  const random = seededRandom(seed);
  const add = (rule: FaultRule): void => {
    rules.push({ rule, left: rule.times ?? Number.POSITIVE_INFINITY });
  };
  return {
    add,
    next(fault, times = 1) {
      add({ fault, times });
    },
    clear() {
      rules = [];
    },
    take(request) {
      for (const entry of rules) {
        const { path, when, probability = 1, fault } = entry.rule;
        if (path !== undefined && !request.path.endsWith(path)) continue;
        if (when && !when(request)) continue;
        if (probability < 1 && random() >= probability) continue;
        entry.left -= 1;
        if (entry.left <= 0) rules = rules.filter((other) => other !== entry);
        return fault;
      }
      return undefined;
    },
  };
}

/** Common faults by name. */
export const faults = {
  resetBeforeReading: { stage: "head", effect: "reset" },
  resetBeforeAccepting: { stage: "read", effect: "reset" },
  resetAfterAccepting: { stage: "accepted", effect: "reset" },
  closeBeforeAccepting: { stage: "read", effect: "close" },
  closeAfterAccepting: { stage: "accepted", effect: "close" },
  closeInHead: { stage: "accepted", effect: "closeInHead" },
  closeInBody: { stage: "accepted", effect: "closeInBody" },
  resetInBody: { stage: "accepted", effect: "resetInBody" },
  hangBeforeAccepting: { stage: "read", effect: "hang" },
  hangAfterAccepting: { stage: "accepted", effect: "hang" },
  emptySuccess: { stage: "read", effect: { status: 200, text: "" } },
  emptySuccessAfterAccepting: { stage: "accepted", effect: { status: 200, text: "" } },
  htmlSuccess: {
    stage: "read",
    effect: { status: 200, text: "<html>Welcome</html>", headers: { "content-type": "text/html" } },
  },
  oneShort: { stage: "accepted", effect: "oneShort" },
  nonsense: { stage: "accepted", effect: "nonsense" },
  serverError: { stage: "read", effect: { status: 500, json: {} } },
  serverErrorAfterAccepting: { stage: "accepted", effect: { status: 500, json: {} } },
  badGateway: {
    stage: "read",
    effect: { status: 502, text: "<html>502 Bad Gateway</html>", headers: { "content-type": "text/html" } },
  },
  badGatewayAfterAccepting: {
    stage: "accepted",
    effect: {
      status: 504,
      text: "<html>504 Gateway Time-out</html>",
      headers: { "content-type": "text/html" },
    },
  },
  redirect: {
    stage: "read",
    effect: { status: 307, text: "", headers: { location: "http://127.0.0.1:9/" } },
  },
} as const satisfies Record<string, Fault>;

/** A fault that answers instead of the API, which never sees the request. */
export function answerInstead(status: number, json: unknown, headers?: Record<string, string>): Fault {
  return { stage: "read", effect: { status, json, ...(headers && { headers }) } };
}

const html = (status: number, text: string): Extract<Effect, object> => ({
  status,
  text: `<html><head><title>${status} ${text}</title></head><body><h1>${text}</h1></body></html>`,
  headers: { "content-type": "text/html" },
});

/** Answers of a gateway between the service and a provider. */
export const gatewayAnswers = {
  unavailable: html(503, "Service Temporarily Unavailable"),
  badGateway: html(502, "Bad Gateway"),
  tooLarge: html(413, "Request Entity Too Large"),
  forbidden: html(403, "Forbidden"),
  tooMany: html(429, "Too Many Requests"),
  badRequest: { status: 400, json: { message: "Bad Request" } },
  empty: { status: 200, text: "" },
} as const satisfies Record<string, Effect>;

/** The answer that an effect gives. */
export function answerOf(effect: Extract<Effect, object>): Answer {
  const body = effect.text ?? (effect.json === undefined ? "" : JSON.stringify(effect.json));
  return { status: effect.status, headers: { "content-type": "application/json", ...effect.headers }, body };
}

/** mulberry32 (Tommy Ettinger, public domain): small, and random enough for drawing faults. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
