// What goes wrong, and when: scripted faults that are put between a fake's API and its client. A fault never
// knows what the API does; it says where in the life of a request it strikes, and what the client then sees.

import type { Answer, RequestHead } from "./http.ts";

/**
 * Where it strikes:
 * - `head`: the head was read, the body was not
 * - `read`: the request was read, and the API never sees it
 * - `working`: the API has begun (an idempotency key is taken), and has accepted nothing yet; it goes on
 *   afterwards, whatever the client was told
 * - `accepted`: the API has done all of its work
 */
export type Stage = "head" | "read" | "working" | "accepted";

/** What the client sees. */
export type Effect =
  /** What it would have seen anyway: for a delay alone. */
  | "nothing"
  /** RST. */
  | "reset"
  /** FIN instead of an answer. */
  | "close"
  /** Nothing, ever. */
  | "hang"
  /** FIN, or RST, in the middle of the answer's head, or of its body. */
  | "closeInHead"
  | "closeInBody"
  | "resetInBody"
  /** Bytes that are not HTTP. */
  | "nonsense"
  /** The API's answer without its last element. */
  | "oneShort"
  /** This answer instead. An object as `json` becomes its body. */
  | {
      readonly status: number;
      readonly json?: unknown;
      readonly text?: string;
      readonly headers?: Record<string, string>;
    };

export interface Fault {
  readonly stage: Stage;
  /** Wait before it strikes, ms. */
  readonly delayMs?: number;
  readonly effect: Effect;
}

export interface FaultRule {
  readonly fault: Fault;
  /** For so many requests; for every one until cleared, if absent. */
  readonly times?: number;
  /** For each request that it could strike, in [0, 1]; 1 if absent. */
  readonly probability?: number;
  /** Only requests whose path ends so. */
  readonly path?: string;
  /** Only requests for which this is true. Not over the wire. */
  readonly when?: (request: RequestHead) => boolean;
}

export interface Faults {
  /** Adds a rule behind those there are; the first that applies to a request strikes, and no other. */
  add(rule: FaultRule): void;
  /** The next request, or the next `times` of them. */
  next(fault: Fault, times?: number): void;
  clear(): void;
  /** The fault for this request, which counts as struck by it. */
  take(request: RequestHead): Fault | undefined;
}

/** @param seed of the dice for rules with a probability: the same seed, the same dice. */
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

/** Faults by the names under which they are talked about. */
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

/** A fault that answers in the API's place, before it has seen the request. */
export function answerInstead(status: number, json: unknown, headers?: Record<string, string>): Fault {
  return { stage: "read", effect: { status, json, ...(headers && { headers }) } };
}

const html = (status: number, text: string): Extract<Effect, object> => ({
  status,
  text: `<html><head><title>${status} ${text}</title></head><body><h1>${text}</h1></body></html>`,
  headers: { "content-type": "text/html" },
});

/** Answers of a gateway between us and a provider. */
export const gatewayAnswers = {
  unavailable: html(503, "Service Temporarily Unavailable"),
  badGateway: html(502, "Bad Gateway"),
  tooLarge: html(413, "Request Entity Too Large"),
  forbidden: html(403, "Forbidden"),
  tooMany: html(429, "Too Many Requests"),
  badRequest: { status: 400, json: { message: "Bad Request" } },
  empty: { status: 200, text: "" },
} as const satisfies Record<string, Effect>;

/** An effect's own answer. */
export function answerOf(effect: Extract<Effect, object>): Answer {
  const body = effect.text ?? (effect.json === undefined ? "" : JSON.stringify(effect.json));
  return { status: effect.status, headers: { "content-type": "application/json", ...effect.headers }, body };
}

/** mulberry32: small, and good enough for dice. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
