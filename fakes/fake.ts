// The common part of both fakes, everything but the API: the port, the faults, the ledger and the control routes.

import { type Effect, type Fault, type FaultRule, type Faults, answerOf, createFaults } from "./faults.ts";
import {
  type Answer,
  type HttpServer,
  type Reply,
  type Request,
  type RequestHead,
  encodeAnswer,
  jsonAnswer,
  listenHttp,
} from "./http.ts";
import { type PoisonedRequest, poisonFault } from "./poison.ts";
import { type Acceptance, type Keeping, type Ledger, type RecordedRequest, createLedger } from "./ledger.ts";

export interface FakeOptions {
  readonly hostname?: string;
  /** Any free port if 0 or absent. */
  readonly port?: number;
  /** Seed of the random numbers for faults with a probability. */
  readonly seed?: number;
  readonly keeping?: Keeping;
  readonly onAccept?: (acceptance: Acceptance) => void;
  /** Called for each request that failed because of a poisoned email in it. */
  readonly onPoison?: (request: PoisonedRequest) => void;
}

/** One provider's API. */
export interface Api {
  readonly provider: "resend" | "postmark";
  /**
   * Answers a request.
   * @param record of the request, to which it adds violations
   * @param working must be awaited once the request has begun, before anything is accepted
   */
  handle(request: Request, record: RecordedRequest, working: () => Promise<void>): Promise<Answer>;
  /** Forgets everything but the settings. */
  clear(): void;
}

/** A provider on its own port, with its faults, its ledger and its control routes under `/_fake/`. */
export class Fake<Settings extends object> {
  readonly url: string;
  readonly port: number;
  readonly faults: Faults;
  /** How the API behaves; may be changed at any time. */
  readonly settings: Settings;
  readonly acceptances: Ledger["acceptances"];
  readonly requests: Ledger["requests"];
  readonly duplicates: Ledger["duplicates"];
  readonly #options: FakeOptions;
  readonly #ledger: Ledger;
  readonly #api: Api;
  /** Faults chosen when the head arrived. A request shares the query object with its head. */
  readonly #chosen = new WeakMap<URLSearchParams, Fault>();
  #nextNumber = 1;
  #server: HttpServer | undefined;
  #comingUp: Timer | undefined;

  constructor(options: FakeOptions, settings: Settings, createApi: (ledger: Ledger) => Api) {
    this.#options = options;
    this.settings = settings;
    this.#ledger = createLedger(options.keeping ?? "all", options.onAccept);
    this.acceptances = this.#ledger.acceptances;
    this.requests = this.#ledger.requests;
    this.duplicates = this.#ledger.duplicates;
    this.#api = createApi(this.#ledger);
    this.faults = createFaults(options.seed);
    this.#server = this.#listen(options.port ?? 0);
    this.port = this.#server.port;
    this.url = `http://${this.#server.hostname}:${this.port}`;
  }

  #onHead(head: RequestHead, reply: Reply): boolean {
    if (head.path.startsWith("/_fake/")) return true;
    const fault = this.faults.take(head);
    if (!fault) return true;
    this.#chosen.set(head.query, fault);
    if (fault.stage !== "head") return true;
    this.#ledger.requests.push({ ...recordOf(head, this.#nextNumber++), fault });
    void strike(fault, reply);
    return false;
  }

  async #onRequest(request: Request, reply: Reply): Promise<void> {
    if (request.path.startsWith("/_fake/")) return reply.answer(this.#administer(request));
    const fault = this.#chosen.get(request.query) ?? this.#poisoned(request);
    const record: RecordedRequest = {
      ...recordOf(request, this.#nextNumber++),
      ...(this.#options.keeping !== "envelopes" && { body: request.body }),
      ...(fault && { fault }),
    };
    this.#ledger.requests.push(record);
    if (fault?.stage === "read" && (await strike(fault, reply))) return;
    let isReplied = false;
    const answer = await this.#api.handle(request, record, async () => {
      if (fault?.stage === "working") isReplied = await strike(fault, reply);
    });
    record.answered = answer.status;
    if (isReplied) return;
    if (fault?.stage === "accepted" && (await strike(fault, reply, answer))) return;
    reply.answer(answer);
  }

  #poisoned({ body }: Request): Fault | undefined {
    const poison = poisonFault(this.#api.provider, body);
    if (poison === undefined) return undefined;
    this.#options.onPoison?.({ provider: this.#api.provider, atMs: Date.now(), emailIds: poison.emailIds });
    return poison.fault;
  }

  #administer(request: Request): Answer {
    return request.method === "GET" ? this.#report(request) : this.#change(request);
  }

  #report(request: Request): Answer {
    const from = Number(request.query.get("from") ?? 0);
    switch (request.path.slice("/_fake".length)) {
      case "/acceptances":
        return jsonAnswer(200, this.#ledger.acceptances.slice(from));
      case "/requests":
        return jsonAnswer(200, this.#ledger.requests.slice(from));
      case "/stats": {
        const emails = new Set(this.#ledger.acceptances.map(({ emailId }) => emailId));
        const duplicates = [...this.#ledger.duplicates().keys()];
        const [requests, acceptances] = [this.requests.length, this.acceptances.length];
        const violations = this.violations();
        return jsonAnswer(200, { requests, acceptances, emails: emails.size, duplicates, violations });
      }
      case "/settings":
        return jsonAnswer(200, this.settings);
      default:
        return noSuchRoute;
    }
  }

  #change(request: Request): Answer {
    let body: unknown;
    try {
      body = (request.body === "" ? undefined : JSON.parse(request.body)) ?? {};
    } catch {
      return jsonAnswer(400, { error: "not JSON" });
    }
    switch (`${request.method} ${request.path.slice("/_fake".length)}`) {
      case "POST /faults":
        for (const rule of Array.isArray(body) ? body : [body]) {
          if (!rule?.fault?.stage || !rule.fault.effect)
            return jsonAnswer(400, { error: "not a rule: {fault: {stage, effect}}" });
          this.faults.add(rule as FaultRule);
        }
        return jsonAnswer(200, { ok: true });
      case "DELETE /faults":
        this.faults.clear();
        return jsonAnswer(200, { ok: true });
      case "POST /settings":
        Object.assign(this.settings, body);
        return jsonAnswer(200, this.settings);
      case "POST /clear":
        this.clear();
        return jsonAnswer(200, { ok: true });
      case "POST /down": {
        const { forMs } = body as { forMs?: number };
        if (typeof forMs !== "number") return jsonAnswer(400, { error: "not a duration: {forMs}" });
        setTimeout(() => this.goDown(), 20);
        this.#comingUp = setTimeout(() => this.comeUp(), 20 + forMs);
        return jsonAnswer(200, { ok: true });
      }
      default:
        return noSuchRoute;
    }
  }

  /** The violations of all requests, each once. */
  violations(): string[] {
    return [...new Set(this.requests.flatMap(({ violations = [] }) => violations))];
  }

  /** Forgets acceptances, requests, keys, counts and faults; keeps the settings. */
  clear(): void {
    this.#ledger.clear();
    this.#api.clear();
    this.faults.clear();
  }

  #listen(port: number): HttpServer {
    const where = { port, ...(this.#options.hostname !== undefined && { hostname: this.#options.hostname }) };
    return listenHttp(
      where,
      (head, reply) => this.#onHead(head, reply),
      (request, reply) => {
        this.#onRequest(request, reply).catch((error: unknown) => {
          console.error("fake:", error);
          reply.reset();
        });
      },
    );
  }

  /** Refuses connections and resets the open ones, until `comeUp` on the same port. */
  goDown(): void {
    this.#server?.stop();
    this.#server = undefined;
  }

  comeUp(): void {
    this.#server ??= this.#listen(this.port);
  }

  stop(): void {
    clearTimeout(this.#comingUp);
    this.goDown();
  }
}

const noSuchRoute = jsonAnswer(404, { error: "no such route" });

function recordOf(head: RequestHead, number: number) {
  const query = head.query.toString();
  return {
    number,
    atMs: Date.now(),
    method: head.method,
    target: query === "" ? head.path : `${head.path}?${query}`,
    headers: head.headers,
  };
}

/** Applies a fault to the client. Returns false if the client still needs an answer. */
async function strike(fault: Fault, reply: Reply, answer?: Answer): Promise<boolean> {
  if (fault.delayMs) await Bun.sleep(fault.delayMs);
  const { effect } = fault;
  if (typeof effect === "object") {
    reply.answer(answerOf(effect));
    return true;
  }
  return strikeWire(effect, reply, answer ?? { status: 200, body: '{"answer":"to be cut off"}' });
}

function strikeWire(effect: Extract<Effect, string>, reply: Reply, answer: Answer): boolean {
  const bytes = Buffer.from(encodeAnswer(answer));
  const headSize = bytes.indexOf("\r\n\r\n") + 4;
  const halfOfBody = headSize + Math.floor((bytes.byteLength - headSize) / 2);
  switch (effect) {
    case "nothing":
      return false;
    case "hang":
      return true;
    case "reset":
      reply.reset();
      return true;
    case "close":
      reply.close();
      return true;
    case "closeInHead":
      reply.close(bytes.subarray(0, headSize - 6));
      return true;
    case "closeInBody":
      reply.close(bytes.subarray(0, halfOfBody));
      return true;
    case "resetInBody":
      reply.answerAndReset(bytes.subarray(0, halfOfBody));
      return true;
    case "nonsense":
      reply.close("\u0000\u0001 this is not HTTP\r\n\r\n");
      return true;
    case "oneShort":
      reply.answer({ ...answer, body: withoutLast(answer.body ?? "[]") });
      return true;
  }
}

/** The answer without its last email: of Postmark's array, of Resend's `data`, or Resend's only one. */
function withoutLast(body: string): string {
  const value = JSON.parse(body);
  const list = Array.isArray(value) ? value : value.data;
  if (!Array.isArray(list)) return "{}";
  list.pop();
  return JSON.stringify(value);
}
