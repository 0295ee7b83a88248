// A fake provider without its API: the port, the faults, the ledger and the admin routes, the same for both.

import { type Effect, type Fault, type FaultRule, type Faults, answerOf, createFaults } from "./faults.ts";
import {
  type Answer,
  type HttpServer,
  type Reply,
  type Request,
  type RequestHead,
  encodeAnswer,
  listenHttp,
} from "./http.ts";
import { type PoisonedRequest, poisonFault } from "./poison.ts";
import { type Acceptance, type Keeping, type Ledger, type RecordedRequest, createLedger } from "./ledger.ts";

export interface FakeOptions {
  readonly hostname?: string;
  /** 0, or absent: any free port. */
  readonly port?: number;
  /** Of the dice for faults with a probability. */
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
   * @param working to be awaited once the request has begun and nothing is accepted yet
   */
  handle(request: Request, number: number, working: () => Promise<void>): Promise<Answer>;
  /** Forgets all but the settings. */
  clear(): void;
}

export interface Fake<Settings> extends Pick<Ledger, "acceptances" | "requests" | "duplicates"> {
  readonly url: string;
  readonly port: number;
  readonly faults: Faults;
  /** How the API behaves; may be changed at any time. */
  readonly settings: Settings;
  /** Forgets acceptances, requests, keys, counts and faults; keeps the settings. */
  clear(): void;
  /** Refuses connections and resets those that stand, until `comeUp`, on the same port. */
  goDown(): void;
  comeUp(): void;
  stop(): void;
}

export function startFake<Settings extends object>(
  options: FakeOptions,
  settings: Settings,
  createApi: (ledger: Ledger) => Api,
): Fake<Settings> {
  const keepBodies = options.keeping !== "envelopes";
  const ledger = createLedger(options.keeping ?? "all", options.onAccept);
  const api = createApi(ledger);
  const faults = createFaults(options.seed);
  let nextNumber = 1;
  let comingUp: Timer | undefined;
  /** Faults chosen when the head arrived. */
  const chosen = new WeakMap<object, Fault>();

  function onHead(head: RequestHead, reply: Reply): boolean {
    if (head.path.startsWith("/_fake/")) return true;
    const fault = faults.take(head);
    if (!fault) return true;
    // A request shares its head's query object, and nothing else.
    chosen.set(head.query, fault);
    if (fault.stage !== "head") return true;
    ledger.requests.push({ ...recordOf(head, nextNumber++), fault });
    void strike(fault, reply, undefined);
    return false;
  }

  async function onRequest(request: Request, reply: Reply): Promise<void> {
    if (request.path.startsWith("/_fake/")) return reply.answer(administer(request));
    const fault = chosen.get(request.query) ?? poisoned(request);
    const record: RecordedRequest = {
      ...recordOf(request, nextNumber++),
      ...(keepBodies && { body: request.body }),
      ...(fault && { fault }),
    };
    ledger.requests.push(record);
    if (fault?.stage === "read" && (await strike(fault, reply, undefined))) return;
    let silenced = false;
    const answer = await api.handle(request, record.number, async () => {
      if (fault?.stage === "working") silenced = await strike(fault, reply, undefined);
    });
    record.answered = answer.status;
    if (silenced) return;
    if (fault?.stage === "accepted" && (await strike(fault, reply, answer))) return;
    reply.answer(answer);
  }

  function poisoned({ body }: Request): Fault | undefined {
    const poison = poisonFault(api.provider, body);
    if (poison === undefined) return undefined;
    options.onPoison?.({ provider: api.provider, atMs: Date.now(), emailIds: poison.emailIds });
    return poison.fault;
  }

  function administer(request: Request): Answer {
    const json = (value: unknown, status = 200): Answer => ({
      status,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(value),
    });
    const from = Number(request.query.get("from") ?? 0);
    switch (`${request.method} ${request.path.slice("/_fake".length)}`) {
      case "GET /acceptances":
        return json(ledger.acceptances.slice(from));
      case "GET /requests":
        return json(ledger.requests.slice(from));
      case "GET /stats": {
        const emails = new Set(ledger.acceptances.map(({ emailId }) => emailId));
        const duplicates = [...ledger.duplicates().keys()];
        const { acceptances, requests } = ledger;
        return json({
          requests: requests.length,
          acceptances: acceptances.length,
          emails: emails.size,
          duplicates,
        });
      }
      case "GET /settings":
        return json(settings);
    }
    let body: unknown;
    try {
      body = (request.body === "" ? undefined : JSON.parse(request.body)) ?? {};
    } catch {
      return json({ error: "not JSON" }, 400);
    }
    switch (`${request.method} ${request.path.slice("/_fake".length)}`) {
      case "POST /faults":
        for (const rule of Array.isArray(body) ? body : [body]) {
          if (!rule?.fault?.stage || !rule.fault.effect)
            return json({ error: "not a rule: {fault: {stage, effect}}" }, 400);
          faults.add(rule as FaultRule);
        }
        return json({ ok: true });
      case "DELETE /faults":
        faults.clear();
        return json({ ok: true });
      case "POST /settings":
        Object.assign(settings, body);
        return json(settings);
      case "POST /clear":
        clear();
        return json({ ok: true });
      case "POST /down": {
        const { forMs } = body as { forMs?: number };
        if (typeof forMs !== "number") return json({ error: "not a duration: {forMs}" }, 400);
        setTimeout(goDown, 20);
        comingUp = setTimeout(comeUp, 20 + forMs);
        return json({ ok: true });
      }
      default:
        return json({ error: "no such route" }, 404);
    }
  }

  function clear(): void {
    ledger.clear();
    api.clear();
    faults.clear();
  }

  function listen(port: number): HttpServer {
    const where = { port, ...(options.hostname !== undefined && { hostname: options.hostname }) };
    return listenHttp(where, onHead, (request, reply) => {
      onRequest(request, reply).catch((error: unknown) => {
        console.error("fake:", error);
        reply.reset();
      });
    });
  }

  let server: HttpServer | undefined = listen(options.port ?? 0);
  const { port, hostname } = server;

  function goDown(): void {
    server?.stop();
    server = undefined;
  }

  function comeUp(): void {
    server ??= listen(port);
  }

  return {
    url: `http://${hostname}:${port}`,
    port,
    faults,
    settings,
    acceptances: ledger.acceptances,
    requests: ledger.requests,
    duplicates: ledger.duplicates,
    clear,
    goDown,
    comeUp,
    stop() {
      clearTimeout(comingUp);
      goDown();
    },
  };
}

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

/** Does to the client what the fault says. True: it has been told, or will never be told, and must not be told again. */
async function strike(fault: Fault, reply: Reply, answer: Answer | undefined): Promise<boolean> {
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

/** A batch's answer without its last element: Postmark's array, Resend's `data`. */
function withoutLast(body: string): string {
  const value = JSON.parse(body);
  const list = Array.isArray(value) ? value : value.data;
  if (Array.isArray(list)) list.pop();
  return JSON.stringify(value);
}
